// The list of uploads: files chosen or dropped, one after the other, each with what is happening, how far it is and how long it took.
import { Transfer } from "./transfer.js";

const KEPT = "nexapod-unfinished-uploads";
const ATTACH_AGAIN_MS = 1000;
const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export function bytesText(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let place = 0;
  for (; bytes >= 1024 && place < units.length - 1; place += 1) bytes /= 1024;
  return `${NUMBER.format(bytes)} ${units[place]}`;
}

const element = (name, properties) => Object.assign(document.createElement(name), properties);

export class Uploads {
  /** `attach` is called with each finished upload and awaited, so that two never change the form at once. It says whether the form has it. */
  constructor(form, attach) {
    this.form = form;
    this.attach = attach;
    this.list = document.getElementById("transfers");
    this.queue = Promise.resolve();
    this.running = 0;
    const drop = document.getElementById("drop");
    const chooser = document.getElementById("files");
    chooser.removeAttribute("name"); // it is not sent with the form
    document.getElementById("plain-upload").hidden = document.getElementById("plain-help").hidden = true;
    document.getElementById("drop-help").hidden = false;
    chooser.addEventListener("change", () => {
      this.add(chooser.files);
      chooser.value = "";
    });
    drop.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("is-over");
    });
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("is-over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
    addEventListener("beforeunload", (event) => this.running && event.preventDefault());
    this.remind();
  }

  add(files) {
    for (const file of files) {
      const row = this.row(file);
      this.list.append(row.item);
      const most = Number(this.form.dataset.bytesMax);
      if (file.size > most) {
        row.say(`Expected at most ${bytesText(most)}; this file has ${bytesText(file.size)}. Put it where input_uri can reach it, or split it.`);
        continue;
      }
      row.say("waits for the one before it");
      this.running += 1;
      // Whatever becomes of one file, the next has its turn.
      this.queue = this.queue.then(() => this.carry(file, row)).catch((error) => row.fail(`not taken up (${error.message}): choose it again`)).finally(() => { this.running -= 1; });
    }
  }

  async carry(file, row) {
    if (row.isGone) return;
    const token = this.form.elements.csrfmiddlewaretoken.value;
    const transfer = new Transfer(file, { address: this.form.dataset.uploads, token, changed: (one) => row.show(one) });
    row.transfer = transfer;
    this.keep(file);
    const isDone = await transfer.run();
    if (transfer.phase === "cancelled") this.forget(file);
    if (!isDone) return;
    if (await this.attached({ path: file.name, digest: transfer.digest, size_bytes: file.size })) this.forget(file);
    else row.fail("uploaded, but not put into the form: choose it again; it is not sent twice");
  }

  /** One request may be lost; when it is lost again, the person is told. */
  async attached(upload) {
    if (await this.attach(upload).catch(() => false)) return true;
    await new Promise((resolve) => { setTimeout(resolve, ATTACH_AGAIN_MS); });
    return this.attach(upload).catch(() => false);
  }

  row(file) {
    const item = element("li", {});
    const name = element("strong", { textContent: file.name });
    const what = element("span", { className: "what" });
    const bar = element("progress", { max: Math.max(file.size, 1), value: 0, ariaLabel: `upload of ${file.name}` });
    const cancel = element("button", { type: "button", className: "link", textContent: "Cancel", ariaLabel: `Cancel the upload of ${file.name}` });
    const buttons = element("span", { className: "buttons" });
    buttons.append(cancel);
    item.append(name, buttons, what, bar);
    const row = { item, say: (words) => { what.textContent = words; } };
    row.fail = (words) => {
      item.dataset.phase = "refused";
      row.say(words);
      bar.remove();
      cancel.remove();
    };
    cancel.addEventListener("click", () => {
      if (row.transfer) row.transfer.cancel();
      row.isGone = true;
      if (!row.transfer) item.remove();
    });
    row.show = (transfer) => {
      const took = `${NUMBER.format(transfer.seconds)} s`;
      const done = `${bytesText(transfer.doneBytes)} of ${bytesText(file.size)}`;
      const words = {
        reading: `reading for its digest: ${done}, ${took}`,
        sending: `sending: ${done}, ${took}`,
        waiting: `${done}. ${transfer.words}`,
        done: `uploaded: ${bytesText(file.size)} in ${took}`,
        refused: transfer.words,
        cancelled: "cancelled; nothing is kept",
      };
      item.dataset.phase = transfer.phase;
      what.textContent = words[transfer.phase];
      bar.value = transfer.doneBytes;
      if (["done", "refused", "cancelled"].includes(transfer.phase)) {
        bar.remove();
        cancel.remove();
      }
    };
    return row;
  }

  // A browser forgets chosen files on a reload; the portal keeps what arrived. So the page says which to choose again.
  kept() {
    return JSON.parse(sessionStorage.getItem(KEPT) || "[]");
  }

  keep(file) {
    const others = this.kept().filter((one) => one.name !== file.name);
    sessionStorage.setItem(KEPT, JSON.stringify([...others, { name: file.name, size: file.size }]));
    for (const item of this.list.querySelectorAll("li[data-kept]")) if (item.dataset.kept === file.name) item.remove();
  }

  forget(file) {
    sessionStorage.setItem(KEPT, JSON.stringify(this.kept().filter((one) => one.name !== file.name)));
  }

  remind() {
    for (const { name, size } of this.kept()) {
      const item = element("li", {});
      item.dataset.kept = name;
      const what = element("span", { className: "what", textContent: `was interrupted (${bytesText(size)}). Choose the same file again: it goes on where it stopped.` });
      item.append(element("strong", { textContent: name }), what);
      this.list.append(item);
    }
  }
}
