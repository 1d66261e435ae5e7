// What every page does beyond showing. Modules only; pages load their own beside it.
import { copying } from "./copying.js";

copying(document);
document.addEventListener("htmx:afterSwap", (event) => copying(event.detail.elt));

// A menu closes when one goes elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
