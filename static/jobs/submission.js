// The page that a job is submitted on. All of it works without this file; here: checks while one writes, uploads, a draft that survives a
// reload, one submission however often one clicks.
import { draftKey, draftSent } from "./draft_kept.js";
import { Uploads } from "./uploads.js";

const form = document.getElementById("job-form");
const KEPT = draftKey(form.dataset.faults === "shown");
const NOT_KEPT = new Set(["csrfmiddlewaretoken", "file"]);
const touched = new Set();

function draft() {
  return new URLSearchParams([...new FormData(form)].filter(([name, value]) => !NOT_KEPT.has(name) && typeof value === "string"));
}

/** Has the portal change the draft: `values` are those of one edit. */
function edit(values) {
  return htmx.ajax("POST", form.dataset.edit, { source: form, target: "#editor", swap: "outerHTML", values });
}

/** Has the portal put an upload into the draft; whether it is there now. It is not after a refusal, nor beside JSON that is none. */
async function attach(upload) {
  const before = document.getElementById("editor");
  await edit({ do: "attach", ...upload });
  return document.getElementById("editor") !== before && [...draft().values()].some((text) => text.includes(upload.digest));
}

/** Puts what the check found beside the fields. What is merely missing is said there only once one has been at the field. */
function faultsPlace() {
  const isAll = form.dataset.faults === "shown";
  for (const slot of form.querySelectorAll("[data-slot]")) slot.replaceChildren();
  for (const field of form.querySelectorAll("[data-leaf]")) {
    field.classList.remove("is-wrong");
    field.querySelector("[aria-invalid]")?.removeAttribute("aria-invalid");
  }
  for (const fault of document.querySelectorAll("#check li[data-field]")) {
    const name = fault.dataset.field;
    if (fault.dataset.code === "missing" && !isAll && !touched.has(name)) continue;
    if (fault.dataset.code === "input_unknown") continue; // its row says so already
    const slot = document.getElementById(name === "text" ? "w-text" : `w${name}`);
    if (!slot) continue;
    const line = document.createElement("p");
    line.textContent = fault.querySelector(".message").textContent;
    slot.append(line);
    for (let details = slot.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
    const field = slot.closest("[data-leaf]");
    if (!field) continue;
    field.classList.add("is-wrong");
    field.querySelector("input, select, textarea").setAttribute("aria-invalid", "true");
  }
}

function changed() {
  sessionStorage.setItem(KEPT, draft().toString());
  htmx.trigger(form, "draft-changed");
}

async function draftRestore() {
  const kept = sessionStorage.getItem(KEPT);
  const note = document.getElementById("draft-note");
  if (!kept || kept === draft().toString() || form.dataset.faults) return;
  const body = new URLSearchParams(kept);
  body.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
  const answer = await fetch(form.dataset.edit, { method: "POST", body, headers: { "HX-Request": "true" }, redirect: "error" }).catch(() => null);
  if (!answer?.ok) return;
  const parts = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["editor", "check", "check-line"]) {
    const fresh = parts.getElementById(id);
    fresh.removeAttribute("hx-swap-oob");
    document.getElementById(id).replaceWith(fresh);
    htmx.process(fresh);
  }
  faultsPlace();
  const anew = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: "Start anew" });
  anew.addEventListener("click", () => {
    sessionStorage.removeItem(KEPT);
    location.reload();
  });
  note.replaceChildren("Your draft from before is here again. ", anew);
  note.hidden = false;
}

let focusNext = null;
form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  focusNext = button?.dataset.adds || (button?.classList.contains("tab") ? button.id : null);
  if (button && "checks" in button.dataset) form.dataset.faults = "shown";
});
form.addEventListener("input", (event) => event.target.name && changed());
form.addEventListener("focusout", (event) => event.target.name && touched.add(event.target.name));

document.addEventListener("htmx:afterSettle", (event) => {
  faultsPlace();
  if (event.detail.elt.id !== "editor") return;
  sessionStorage.setItem(KEPT, draft().toString());
  const place = focusNext && document.getElementById(focusNext);
  focusNext = null;
  if (place) (place.matches("button") ? place : [...place.querySelectorAll(".row")].at(-1)?.querySelector("input, textarea, select"))?.focus();
});
for (const name of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, () => {
    const status = document.querySelector("#check [role=status]");
    if (status) Object.assign(status, { textContent: "The portal didn’t answer this check; it is made again when you go on writing.", className: "state state-queued" });
  });
}

form.addEventListener("submit", (event) => {
  if (event.submitter?.id !== "submit-job") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  event.submitter.textContent = "Submitting…";
  draftSent(KEPT, draft().toString());
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // come back to from the job's page
});

if (document.getElementById("drop")) new Uploads(form, attach);
faultsPlace();
draftRestore();
