// What allauth's passkey scripts leave to the console is said on the page. Without this file they still work.
const WORDS = {
  NotAllowedError: "The browser got no answer from a passkey: it was cancelled, or none fits. Try again, or sign in another way.",
  InvalidStateError: "This passkey belongs to your account already.",
  SecurityError: "Passkeys need a host name under https (or localhost); this address has none. Open the portal by its name.",
};

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const exception = event.detail.exception;
  const place = document.getElementById("passkey-note");
  place.textContent = WORDS[exception.name] || `The passkey could not be used: ${exception.message}`;
  place.hidden = false;
});
