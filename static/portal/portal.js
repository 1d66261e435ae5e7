// What the pages do beyond showing: copying, and bringing a job's page up to date when its socket says that something happened.
// Without this file everything is still readable; one reloads the page.
"use strict";

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;
const POLL_MS = 5000;
const COALESCE_MS = 250;

function copying(root) {
  for (const element of root.querySelectorAll(".digest[data-copy]")) {
    element.setAttribute("role", "button");
    element.setAttribute("tabindex", "0");
    element.setAttribute("aria-label", `copy ${element.dataset.copy}`);
  }
  for (const button of root.querySelectorAll("button[data-copies]")) button.hidden = false;
}

async function copyFrom(element) {
  const button = element.closest("button[data-copies]");
  const shown = button || element.closest(".digest[data-copy]");
  if (!shown) return;
  const text = button ? document.getElementById(button.dataset.copies).dataset.text : shown.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return; // no permission, or no secure context: the text can be selected by hand
  }
  if (button) button.textContent = "copied";
  shown.classList.add("is-copied");
  setTimeout(() => {
    shown.classList.remove("is-copied");
    if (button) button.textContent = "copy";
  }, 1500);
}

document.addEventListener("click", (event) => copyFrom(event.target));
document.addEventListener("keydown", (event) => {
  const digest = event.target.closest?.(".digest[data-copy]");
  if (digest && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    copyFrom(digest);
  }
});

// Relative times grow by themselves; they alone are no reason to draw the page again.
function wordsOf(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time, button")) time.remove();
  return copy.textContent.replace(/\s+/g, " ");
}

class LiveJob {
  constructor(element) {
    this.element = element;
    this.note = document.getElementById("live-note");
    this.retry = RETRY_FIRST_MS;
    this.connect();
    this.poll = setInterval(() => this.refreshSoon(), POLL_MS); // progress makes no events; and where no socket gets through
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}${this.element.dataset.socket}`);
    this.socket.addEventListener("open", () => {
      this.retry = RETRY_FIRST_MS;
      this.say("Live: this page follows the job.");
      this.refreshSoon(); // what happened while it was away
    });
    this.socket.addEventListener("message", () => this.refreshSoon());
    this.socket.addEventListener("close", () => {
      if (this.ended) return;
      this.say("The live connection is away; asking every 5 seconds.");
      setTimeout(() => this.connect(), this.retry);
      this.retry = Math.min(2 * this.retry, RETRY_MOST_MS);
    });
  }

  refreshSoon() {
    if (this.waiting || this.ended || document.hidden) return;
    this.waiting = setTimeout(() => this.refresh(), COALESCE_MS);
  }

  async refresh() {
    try {
      const answer = await fetch(this.element.dataset.fragment, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("job-live");
      if (fresh && !this.isSame(fresh)) this.replace(fresh);
      if (fresh && fresh.dataset.open !== "yes") this.end();
    } catch {
      this.say("The portal didn't answer; trying again.");
    } finally {
      this.waiting = null;
    }
  }

  replace(fresh) {
    const open = [...this.element.querySelectorAll("details[open][id]")].map((one) => one.id);
    const focused = this.focusable().indexOf(document.activeElement);
    this.element.replaceChildren(...fresh.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    copying(this.element);
    if (focused >= 0) this.focusable()[focused]?.focus({ preventScroll: true });
  }

  focusable() {
    return [...this.element.querySelectorAll("a, button, summary, [tabindex]")];
  }

  isSame(fresh) {
    return wordsOf(fresh) === wordsOf(this.element);
  }

  end() {
    this.ended = true;
    clearInterval(this.poll);
    this.socket.close();
    this.say("Concluded; nothing more will change.");
  }

  say(words) {
    if (this.note && this.note.textContent !== words) this.note.textContent = words;
  }
}

copying(document);
const live = document.getElementById("job-live");
if (live && live.dataset.open === "yes") new LiveJob(live);
