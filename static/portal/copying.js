// Copying: digests and commands. Without this file everything is still readable, and can be selected by hand.

export function copying(root) {
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
