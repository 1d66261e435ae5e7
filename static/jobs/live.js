// Brings a job's page up to date when its socket says that something happened. Without this file one reloads the page.
import { copying } from "../portal/copying.js";

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;
const POLL_MS = 5000;
const COALESCE_MS = 250;

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
    this.poll = setInterval(() => this.fetching || this.refreshSoon(), POLL_MS); // progress makes no events; and where no socket gets through
    document.addEventListener("visibilitychange", () => this.refreshSoon());
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

  // What happens during a fetch may not be in its answer: one more follows.
  refreshSoon() {
    if (this.ended || document.hidden) return;
    if (this.fetching) this.again = true;
    else this.waiting ??= setTimeout(() => this.refresh(), COALESCE_MS);
  }

  async refresh() {
    this.waiting = null;
    this.fetching = true;
    this.again = false;
    try {
      const answer = await fetch(this.element.dataset.fragment, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("job-live");
      if (fresh && !this.isSame(fresh)) this.replace(fresh);
      if (fresh && fresh.dataset.open !== "yes") this.end();
    } catch {
      this.say("The portal didn't answer; trying again.");
    } finally {
      this.fetching = false;
      if (this.again) this.refreshSoon();
    }
  }

  replace(fresh) {
    const open = [...this.element.querySelectorAll("details[open][id]")].map((one) => one.id);
    const focused = this.focusable().indexOf(document.activeElement);
    this.element.replaceChildren(...fresh.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    copying(this.element);
    window.htmx?.process(this.element);
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

const live = document.getElementById("job-live");
if (live && live.dataset.open === "yes") new LiveJob(live);
