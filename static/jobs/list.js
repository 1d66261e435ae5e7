// Choosing in the list of jobs: all at once, and how many. Without this file one ticks them one by one.

const form = document.getElementById("jobs-form");

function boxes() {
  return [...form.querySelectorAll('tbody input[name="job"]')];
}

function tell() {
  const all = boxes();
  const chosen = all.filter((box) => box.checked).length;
  const whole = document.getElementById("pick-all");
  whole.checked = chosen > 0 && chosen === all.length;
  whole.indeterminate = chosen > 0 && chosen < all.length;
  const words = chosen ? `${chosen} of ${all.length} chosen.` : "Tick jobs to do something with them.";
  const count = document.getElementById("chosen-count");
  if (count.textContent !== words) count.textContent = words;
  for (const button of form.querySelectorAll('button[name="act"]')) button.disabled = chosen === 0;
}

if (form) {
  const whole = document.getElementById("pick-all");
  whole.hidden = false;
  whole.addEventListener("change", () => {
    for (const box of boxes()) box.checked = whole.checked;
    tell();
  });
  form.addEventListener("change", tell);
  document.addEventListener("htmx:oobAfterSwap", tell);
  window.addEventListener("pageshow", tell); // a browser that goes back restores what was ticked
  tell();
}
