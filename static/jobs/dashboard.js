// Keeps the dashboard up to date: its socket says that something happened, then it fetches the fragment that all viewers share.
// Without a socket it asks every few seconds; without this file one reloads the page.

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;
const POLL_MS = 5000;
const STALE_MS = 15000;
const SPREAD_MS = 200; // many viewers are told at once; they need not ask at once

class Dashboard {
  constructor(element) {
    this.element = element;
    this.note = document.getElementById("live-note");
    this.retry = RETRY_FIRST_MS;
    this.freshAt = Date.now();
    this.connect();
    this.poll = setInterval(() => this.look(), POLL_MS); // nodes fall silent without an event; and where no socket gets through
    document.addEventListener("visibilitychange", () => this.refreshSoon());
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}${this.element.dataset.socket}`);
    this.socket.addEventListener("open", () => {
      this.retry = RETRY_FIRST_MS;
      this.say();
      this.refreshSoon(); // what happened while it was away
    });
    this.socket.addEventListener("message", () => this.refreshSoon());
    this.socket.addEventListener("close", () => {
      this.say();
      setTimeout(() => this.connect(), this.retry);
      this.retry = Math.min(2 * this.retry, RETRY_MOST_MS);
    });
  }

  look() {
    this.say();
    this.refreshSoon();
  }

  refreshSoon() {
    if (this.waiting || document.hidden) return;
    this.waiting = setTimeout(() => this.refresh(), Math.random() * SPREAD_MS);
  }

  async refresh() {
    try {
      const answer = await fetch(this.element.dataset.fragment, { redirect: "error", signal: AbortSignal.timeout(STALE_MS) });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("dashboard");
      if (!fresh) throw new Error("no dashboard in the answer");
      this.replace(fresh);
      this.freshAt = Date.now();
    } catch {
      // `say` tells once the figures are old; the next look tries again
    } finally {
      this.waiting = null;
      this.say();
    }
  }

  // Only the parts that changed: a chart that stays is not drawn again, and what has the focus keeps it.
  replace(fresh) {
    const parts = [...this.element.children];
    [...fresh.children].forEach((part, place) => {
      if (!parts[place]) this.element.append(part);
      else if (parts[place].innerHTML !== part.innerHTML && !parts[place].contains(document.activeElement)) parts[place].replaceWith(part);
    });
    this.element.dataset.at = fresh.dataset.at;
  }

  say() {
    const old = !document.hidden && Date.now() - this.freshAt > STALE_MS;
    const words = old
      ? `The portal does not answer: these are the figures of ${this.element.dataset.at} UTC. Trying again every 5 seconds.`
      : this.socket.readyState === WebSocket.OPEN
        ? "Live: what happens appears here at once."
        : "The live connection is away; asking every 5 seconds.";
    if (this.note.textContent !== words) this.note.textContent = words;
    this.note.classList.toggle("is-stale", old);
    this.element.classList.toggle("is-stale-figures", old);
  }
}

const dashboard = document.getElementById("dashboard");
if (dashboard) new Dashboard(dashboard);
