// Brings a job's page up to date when its socket says that something happened. Without this file one reloads the page.
import { copying } from "../portal/copying.js";

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;
const POLL_MS = 5000;
const RULING_POLL_MS = 60000; // a moderator takes hours
const COALESCE_MS = 250;

const WORDS = {
  yes: "Live: this page follows the job.",
  ruling: "Waits for a ruling; this page shows it.",
  log: "Concluded; its payments enter the log in a moment.",
  no: "Concluded; nothing more will change.",
};

// Relative times grow by themselves, and what is fetched into the page is compared with nothing; neither is a reason to draw it again.
function shownIn(element) {
  const copy = element.cloneNode(true);
  for (const part of copy.querySelectorAll("time, button, [hx-get]")) part.remove();
  const links = [...copy.querySelectorAll("a[href]")].map((link) => link.getAttribute("href"));
  return [copy.textContent.replace(/\s+/g, " "), ...links].join("\n");
}

class LiveJob {
  constructor(element) {
    this.element = element;
    this.note = document.getElementById("live-note");
    this.retry = RETRY_FIRST_MS;
    this.connect();
    this.pollAgain();
    document.addEventListener("visibilitychange", () => this.refreshSoon());
  }

  /** What may still change: the job (`yes`), that by a ruling, or nothing but that its payments get their places in the log; or `no`. */
  get follows() {
    return this.element.dataset.follows;
  }

  // Progress makes no events, nor does the log; and there may be no socket that gets through.
  pollAgain() {
    clearInterval(this.poll);
    this.poll = setInterval(() => this.fetching || this.refreshSoon(), this.follows === "ruling" ? RULING_POLL_MS : POLL_MS);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}${this.element.dataset.socket}`);
    this.socket.addEventListener("open", () => {
      this.retry = RETRY_FIRST_MS;
      this.say(WORDS[this.follows]);
      this.refreshSoon(); // what happened while it was away
    });
    this.socket.addEventListener("message", () => this.refreshSoon());
    this.socket.addEventListener("close", () => {
      if (this.ended) return;
      this.say(this.awayWords);
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
      const headers = { "HX-Request": "true", "HX-Current-URL": location.href };
      const answer = await fetch(this.element.dataset.fragment, { headers, credentials: "same-origin", redirect: "error" });
      if (answer.status === 401) this.signedOut(answer.headers.get("HX-Redirect"));
      else if (answer.ok) this.take(await answer.text());
      else throw new Error(String(answer.status));
    } catch {
      this.say("The portal didn't answer; trying again.");
    } finally {
      this.fetching = false;
      if (this.again) this.refreshSoon();
    }
  }

  take(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("job-live");
    if (!fresh) return;
    this.isSignedOut = false;
    if (!this.isSame(fresh)) this.replace(fresh);
    if (this.follows !== fresh.dataset.follows) {
      this.element.dataset.follows = fresh.dataset.follows;
      this.pollAgain();
    }
    if (this.follows === "no") this.end();
    else this.say(this.socket.readyState === WebSocket.OPEN ? WORDS[this.follows] : this.awayWords);
  }

  signedOut(signIn) {
    this.isSignedOut = true;
    const link = Object.assign(document.createElement("a"), { href: signIn, textContent: "Sign in" });
    this.note?.replaceChildren("You are signed out, so this page stands still. ", link);
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
    return shownIn(fresh) === shownIn(this.element);
  }

  end() {
    this.ended = true;
    clearInterval(this.poll);
    this.socket.close();
    this.say(WORDS.no);
  }

  get awayWords() {
    return this.follows === "ruling" ? "Waits for a ruling; asking every minute." : "The live connection is away; asking every 5 seconds.";
  }

  say(words) {
    if (this.note && !this.isSignedOut && this.note.textContent !== words) this.note.textContent = words;
  }
}

const live = document.getElementById("job-live");
if (live && live.dataset.follows !== "no") new LiveJob(live);
