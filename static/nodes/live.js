// Asks for what changed as soon as the socket says that something did. Without it the page asks every few seconds by itself (htmx).
const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;

let retry = RETRY_FIRST_MS;
const note = document.getElementById("live-note");

function say(words) {
  if (note && note.textContent !== words) note.textContent = words;
}

function changed() {
  document.body.dispatchEvent(new CustomEvent("nodes-changed"));
}

function isOver() {
  return !document.querySelector("[data-follows-nodes]");
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/ws/nodes/`);
  socket.addEventListener("open", () => {
    retry = RETRY_FIRST_MS;
    say("Live: this page follows your nodes.");
    changed(); // what happened while it was away
  });
  socket.addEventListener("message", changed);
  socket.addEventListener("close", () => {
    if (isOver()) return;
    say("The live connection is away; asking every few seconds.");
    setTimeout(connect, retry);
    retry = Math.min(2 * retry, RETRY_MOST_MS);
  });
}

if (!isOver()) connect();
document.addEventListener("htmx:afterSettle", () => {
  if (isOver()) say("");
});
