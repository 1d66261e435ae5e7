// Checks one leaf of the ledger's log with nothing but what this page shows: RFC 9162 hashes and inclusion proof, C2SP signed note, Ed25519.
// The server's word is not asked. What fails is said; what this browser can't do is said too.

const section = document.querySelector("[data-proof]");
const shown = (id) => document.getElementById(id).textContent;
const utf8 = (text) => new TextEncoder().encode(text);

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const toBase64 = (bytes) => btoa(String.fromCharCode(...bytes));
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const leafHash = (data) => sha256(joined([0], data));
const nodeHash = (left, right) => sha256(joined([1], left, right));

// RFC 9162, 2.1.3.2. Sizes are BigInt: a shift of a Number ends at 32 bits.
async function rootOf(hash, index, size, proof) {
  if (index >= size) throw new Error(`A tree of ${size} leaves has no leaf ${index}.`);
  let place = index;
  let last = size - 1n;
  let root = hash;
  for (const sibling of proof) {
    if (last === 0n) throw new Error("The proof has more hashes than the tree is high.");
    if (place & 1n || place === last) {
      root = await nodeHash(sibling, root);
      while (!(place & 1n) && place !== 0n) {
        place >>= 1n;
        last >>= 1n;
      }
    } else {
      root = await nodeHash(root, sibling);
    }
    place >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n) throw new Error("The proof has fewer hashes than the tree is high.");
  return root;
}

// A note: its text, an empty line, and lines `— name base64(4 bytes of key hash, signature)`. The text of a checkpoint: origin, size, root.
function noteParts(note) {
  const end = note.lastIndexOf("\n\n");
  const [origin, size, root, rest] = note.slice(0, end + 1).split("\n");
  if (end < 0 || rest !== "" || !/^\d{1,19}$/.test(size)) throw new Error("This is no checkpoint: three lines, an empty one, signatures.");
  const lines = note.slice(end + 2).split("\n").map((line) => /^— (\S+) ((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$/.exec(line)).filter(Boolean);
  return { text: note.slice(0, end + 1), origin, size: BigInt(size), root, signatures: lines.map(([, name, blob]) => ({ name, blob: fromBase64(blob) })) };
}

async function signedBy(note, keys) {
  for (const key of keys) {
    const hash = (await sha256(joined(utf8(`${note.origin}\n`), [1], key))).slice(0, 4);
    const mine = note.signatures.find(({ name, blob }) => name === note.origin && hash.every((byte, place) => byte === blob[place]));
    if (!mine) continue;
    const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
    if (!(await crypto.subtle.verify({ name: "Ed25519" }, imported, mine.blob.slice(4), utf8(note.text)))) {
      throw new Error("The signature under the checkpoint is not the coordinator's.");
    }
    return key;
  }
  throw new Error("No signature under the checkpoint is by a key of the coordinator.");
}

function say(name, state, words) {
  const item = section.querySelector(`[data-check="${name}"]`);
  item.className = `is-${state}`;
  item.querySelector("svg").replaceWith(section.querySelector(`template[data-mark="${state}"]`).content.cloneNode(true));
  item.querySelector("[data-said]").textContent = words;
}

// One check: says how it ended, and gives its value to those that follow; undefined where it failed or could not be made.
async function check(name, act) {
  try {
    const { words, value } = await act();
    say(name, "done", words);
    return value;
  } catch (error) {
    say(name, error.name === "NotSupportedError" ? "waiting" : "broken", error.name === "NotSupportedError" ? "This browser can’t verify Ed25519; a newer one can, and so does nexa audit." : error.message);
    return undefined;
  }
}

async function checkAll() {
  const data = utf8(shown("leaf-data"));
  const hash = await check("leaf", async () => {
    const found = await leafHash(data);
    if (toBase64(found) !== shown("leaf-hash").trim()) throw new Error(`The hash of these ${data.length} bytes is ${toBase64(found)}, not the one shown.`);
    return { value: found, words: `SHA-256 of these ${data.length} bytes is the leaf hash.` };
  });
  const proof = shown("inclusion-proof").split("\n").filter((line) => /^[A-Za-z0-9+/]{43}=$/.test(line)).map(fromBase64);
  const root = await check("fold", async () => {
    const { size } = noteParts(shown("checkpoint-note"));
    const found = await rootOf(hash ?? (await leafHash(data)), BigInt(section.dataset.index), size, proof);
    return { value: found, words: `${proof.length} hashes lead from leaf ${section.dataset.index} to the root ${toBase64(found).slice(0, 8)}….` };
  });
  await check("root", async () => {
    const note = noteParts(shown("checkpoint-note"));
    if (!root || toBase64(root) !== note.root) throw new Error(`The checkpoint over ${note.size} leaves has the root ${note.root.slice(0, 8)}…: this leaf is not in it.`);
    return { words: `It is the root of the checkpoint over ${note.size} leaves of ${note.origin}.` };
  });
  await check("signature", async () => {
    const key = await signedBy(noteParts(shown("checkpoint-note")), shown("coordinator-keys").trim().split("\n").map(fromBase64));
    return { words: `The key ${toBase64(key).slice(0, 8)}… signed that checkpoint.` };
  });
  section.dataset.checked = section.querySelector(".is-broken") ? "broken" : section.querySelector(".is-waiting") ? "partly" : "holds";
}

// What a forger would do: another digit in the leaf. The same button puts it back.
function changeByte(button) {
  const element = document.getElementById("leaf-data");
  const original = element.dataset.original;
  if (original === undefined) {
    const at = element.textContent.search(/\d/);
    element.dataset.original = element.textContent;
    const digit = String((Number(element.textContent[at]) + 1) % 10);
    element.textContent = element.textContent.slice(0, at) + digit + element.textContent.slice(at + 1);
    section.querySelector("[data-changed]").textContent = `Byte ${at} of the leaf is changed, in this browser only.`;
  } else {
    element.textContent = original;
    delete element.dataset.original;
    section.querySelector("[data-changed]").textContent = "";
  }
  element.classList.toggle("is-changed", original === undefined);
  button.textContent = original === undefined ? "Put it back" : "Change a byte of the leaf";
  return checkAll();
}

if (section?.querySelector("[data-check]")) {
  if (!globalThis.crypto?.subtle) {
    for (const item of section.querySelectorAll("[data-check]")) say(item.dataset.check, "waiting", "Browsers hash and verify on https pages only. nexa audit checks the whole log.");
    section.dataset.checked = "partly";
  } else {
    section.querySelector("[data-proof-buttons]").hidden = false;
    section.querySelector("[data-check-again]").addEventListener("click", checkAll);
    section.querySelector("[data-change-byte]").addEventListener("click", (event) => changeByte(event.currentTarget));
    checkAll();
  }
}
