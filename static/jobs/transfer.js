// One file on its way to the portal: hashed, announced, sent in pieces (tus 1.0), taken up again where it stopped. Knows nothing of the page.

export const PIECE_BYTES = 2 ** 20;
const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;

/** The portal's refusal; `message` is what it said. */
class Refused extends Error {}

export class Transfer {
  /** `changed` is called whenever `phase` (reading, sending, waiting, done, refused, cancelled), `doneBytes` or `words` have. */
  constructor(file, { address, token, changed }) {
    Object.assign(this, { file, address, token, changed });
    this.abort = new AbortController();
    this.startedAt = performance.now();
    this.doneBytes = 0;
  }

  get seconds() {
    return (performance.now() - this.startedAt) / 1000;
  }

  async run() {
    try {
      this.tell("reading", 0);
      this.digest = await this.hashed();
      let retryMs = RETRY_FIRST_MS;
      while (!(await this.sent((bytes) => { retryMs = RETRY_FIRST_MS; this.tell("sending", bytes); }))) {
        this.tell("waiting", this.doneBytes, `The portal can’t be reached; trying again in ${Math.round(retryMs / 1000)} s. What arrived is kept.`);
        await this.pause(retryMs);
        retryMs = Math.min(2 * retryMs, RETRY_MOST_MS);
      }
      this.tell("done", this.file.size);
    } catch (error) {
      if (this.abort.signal.aborted) this.tell("cancelled", this.doneBytes);
      else this.tell("refused", this.doneBytes, error.message);
    }
    return this.phase === "done";
  }

  async cancel() {
    this.abort.abort();
    if (this.location) await fetch(this.location, { method: "DELETE", headers: this.headers({}) }).catch(() => {}); // else the portal forgets it in two days
  }

  tell(phase, doneBytes, words = "") {
    Object.assign(this, { phase, doneBytes, words });
    this.changed(this);
  }

  hashed() {
    const worker = new Worker(new URL("./hashing.js", import.meta.url), { type: "module" });
    return new Promise((resolve, reject) => {
      this.abort.signal.addEventListener("abort", () => reject(new Error("cancelled")));
      worker.addEventListener("error", () => reject(new Error("The browser could not start hashing. Reload the page, or use nexa submit.")));
      worker.addEventListener("message", ({ data }) => {
        if (data.digest) resolve(data.digest);
        else if (data.error) reject(new Error(`The file could not be read (${data.error}). If it changed on disk, choose it again.`));
        else this.tell("reading", data.readBytes);
      });
      worker.postMessage(this.file);
    }).finally(() => worker.terminate());
  }

  /** Sends what the portal lacks. False where the connection was lost; raises Refused where there is no point in going on. */
  async sent(progress) {
    const metadata = { "Upload-Length": String(this.file.size), "Upload-Metadata": `digest ${btoa(this.digest)}` };
    // Announcing is idempotent and answers where the upload stands: so one also resumes.
    const announced = await this.ask(this.address, "POST", metadata);
    if (!announced) return false;
    this.location = announced.headers.get("Location");
    let offset = Number(announced.headers.get("Upload-Offset"));
    progress(offset);
    while (offset < this.file.size) {
      const piece = this.file.slice(offset, offset + PIECE_BYTES);
      const headers = { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
      const answer = await this.ask(this.location, "PATCH", headers, piece);
      if (!answer) return false;
      offset = Number(answer.headers.get("Upload-Offset"));
      progress(offset);
    }
    return true;
  }

  async ask(address, method, headers, body) {
    let answer;
    try {
      answer = await fetch(address, { method, headers: this.headers(headers), body, signal: this.abort.signal, redirect: "error" });
    } catch (error) {
      if (this.abort.signal.aborted) throw error;
      return null;
    }
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    // Ours and passing; or another tab sends the same file and is ahead.
    if (answer.status >= 500 || answer.status === 429 || problem.code === "upload_offset_conflict") return null;
    throw new Refused(problem.detail || `The portal refused the upload (${answer.status}). Reload the page: the draft stays, and the upload goes on.`);
  }

  headers(more) {
    return { "Tus-Resumable": "1.0.0", "X-CSRFToken": this.token, ...more };
  }

  pause(ms) {
    return new Promise((resolve) => {
      const over = () => { clearTimeout(timer); removeEventListener("online", over); resolve(); };
      const timer = setTimeout(over, ms);
      addEventListener("online", over);
      this.abort.signal.addEventListener("abort", over);
    });
  }
}
