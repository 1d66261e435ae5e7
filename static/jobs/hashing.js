// A worker that hashes one file and tells how far it is, so that the page stays alive meanwhile.
import { Sha256 } from "./sha256.js";

const PIECE_BYTES = 4 * 2 ** 20;

addEventListener("message", async ({ data: file }) => {
  try {
    const hash = new Sha256();
    for (let at = 0; at < file.size; at += PIECE_BYTES) {
      hash.update(new Uint8Array(await file.slice(at, at + PIECE_BYTES).arrayBuffer()));
      postMessage({ readBytes: Math.min(at + PIECE_BYTES, file.size) });
    }
    postMessage({ digest: `sha256:${hash.hex()}` });
  } catch (error) {
    postMessage({ error: String(error.message || error) });
  }
});
