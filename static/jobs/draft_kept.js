// Where drafts of jobs are kept while one writes: in this tab. A draft goes only once the portal has taken its job, which the page of that job
// says; a submission that met a closed session or a portal that was away leaves it, and the page of choices leads back to it.

const SENT = "nexapod-draft-sent";
const PREFIX = "nexapod-draft:";

/** The key of this page's draft. A page that answers a submission goes on with the draft that was sent. */
export function draftKey(isAnswer) {
  return (isAnswer && sessionStorage.getItem(SENT)) || `${PREFIX}${location.pathname}${location.search}`;
}

export function draftSent(key, text) {
  sessionStorage.setItem(key, text);
  sessionStorage.setItem(SENT, key);
}

const sent = sessionStorage.getItem(SENT);
if (sent && document.querySelector(".notice.submitted")) {
  sessionStorage.removeItem(sent);
  sessionStorage.removeItem(SENT);
}
const unsent = document.getElementById("draft-unsent");
if (unsent && sent && sessionStorage.getItem(sent)) {
  unsent.querySelector("a").href = sent.slice(PREFIX.length);
  unsent.hidden = false;
}
