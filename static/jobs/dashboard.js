// Keeps the dashboard up to date: its socket says that something happened, then it fetches the fragment that all viewers share.
// Without a socket it asks every few seconds; without this file one reloads the page.

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;
const POLL_MS = 5000;
const STALE_MS = 15000;
const SHARED_MS = 500; // the portal makes the fragment at most this often: asked for sooner, it might be from before what happened
const SPREAD_MS = 200; // many viewers are told at once; they need not ask at once

// Makes `old` what `fresh` is, and touches only what differs: what stays is not drawn again, and keeps the focus.
function bring(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const [parts, news] = [[...old.childNodes], [...fresh.childNodes]];
  if (old.nodeName !== fresh.nodeName || parts.length !== news.length || !parts.length) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  parts.forEach((part, place) => bring(part, news[place]));
}

class Dashboard {
  constructor(element) {
    this.element = element;
    this.note = document.getElementById("live-note");
    this.retry = RETRY_FIRST_MS;
    this.freshAt = Date.now();
    setInterval(() => this.look(), POLL_MS); // nodes fall silent without an event; and where no socket gets through
    document.addEventListener("visibilitychange", () => this.refreshSoon());
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}${this.element.dataset.socket}`);
    this.socket.addEventListener("open", () => {
      this.retry = RETRY_FIRST_MS;
      this.say();
      this.refreshSoon(); // what happened while it was away
    });
    this.socket.addEventListener("message", () => this.refreshSoon(SHARED_MS));
    this.socket.addEventListener("close", () => {
      this.say();
      setTimeout(() => this.connect(), this.retry * (0.5 + Math.random())); // not all viewers at once
      this.retry = Math.min(2 * this.retry, RETRY_MOST_MS);
    });
  }

  look() {
    this.say();
    this.refreshSoon();
  }

  refreshSoon(least = 0) {
    if (document.hidden) return;
    if (this.busy) this.again = true; // what is under way may be from before
    else {
      this.busy = true;
      setTimeout(() => this.refresh(), least + Math.random() * SPREAD_MS);
    }
  }

  async refresh() {
    this.again = false;
    try {
      const answer = await fetch(this.element.dataset.fragment, { redirect: "error", signal: AbortSignal.timeout(STALE_MS) });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("dashboard");
      if (!fresh) throw new Error("no dashboard in the answer");
      fresh.className = this.element.className;
      bring(this.element, fresh);
      this.element = document.getElementById("dashboard");
      this.freshAt = Date.now();
    } catch {
      // `say` tells once the figures are old; the next look tries again
    } finally {
      this.busy = false;
      this.say();
      if (this.again) this.refreshSoon(SHARED_MS);
    }
  }

  say() {
    const old = !document.hidden && Date.now() - this.freshAt > STALE_MS;
    const words = old
      ? `The portal does not answer: these are the figures of ${this.element.dataset.at} UTC. Trying again every 5 seconds.`
      : this.socket?.readyState === WebSocket.OPEN
        ? "Live: what happens appears here at once."
        : "Reconnecting. Meanwhile this page asks every 5 seconds.";
    if (this.note.textContent !== words) this.note.textContent = words;
    this.note.classList.toggle("is-stale", old);
    this.element.classList.toggle("is-stale-figures", old);
  }
}

const dashboard = document.getElementById("dashboard");
if (dashboard) new Dashboard(dashboard);
