"""Makes the golden vectors, and the examples in docs/PROTOCOL.md that are taken from them.

    python -m tests.workers.protocol.make_vectors            writes what has changed, and names it
    python -m tests.workers.protocol.make_vectors --check    writes nothing; exit code 1 and the names if something would change

A change here is a change of the wire: hosts and auditors that others wrote will see it. Then `PROTOCOL_VERSION` or a version field goes up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jobs.descriptor import descriptor_digest, descriptor_parse
from tests.workers.protocol import vector_ledger as books
from tests.workers.protocol import vector_story as story
from tests.workers.protocol.vector_examples import document_with_examples
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import content_digest_header, digest_of
from workers.protocol.dsse import (
    PAYLOAD_TYPE_EPOCH,
    PAYLOAD_TYPE_KEY_ROTATION,
    PAYLOAD_TYPE_ORDER,
    PAYLOAD_TYPE_STATEMENT,
    PAYLOAD_TYPE_SUCCESSION,
    pae,
)
from workers.protocol.http_signatures import LABEL, REQUIRED_ALWAYS, REQUIRED_WITH_BODY, request_sign, signature_base
from workers.protocol.join_tokens import join_token_encode
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import leaf_hash
from workers.protocol.messages.base import PROTOCOL_VERSION, Message
from workers.protocol.messages.delivery import ReceiptSubmission, SubmittedReceipt
from workers.protocol.signed_note import note_key_hash, note_verifier_key
from workers.protocol.strict_base64 import base64_decode, base64_encode
from workers.protocol.validation import MessageInvalidError

FOLDER: Final = Path(__file__).parent / "vectors"
DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "PROTOCOL.md"
NONCE: Final = "Z29sZGVuLXZlY3Rvci0x"

RFC_8785_SOURCE: Final = (
    '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001], '
    '"string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}'
)
"""The example of RFC 8785, section 3.2.2, on one line."""


def vectors() -> dict[str, Any]:
    """Every vector by the name of its file."""
    order = story.order()
    receipt = story.receipt_completed()
    receipt_digest = books.receipt_digest_of(receipt)
    entries = books.leaves(receipt)
    return {
        "keys.json": {
            "coordinator": _key(story.COORDINATOR),
            "node": _key(story.NODE),
            "next_coordinator": _key(story.NEXT_COORDINATOR),
            "next_node": _key(story.NEXT_NODE),
        },
        "key_rotation.json": _key_rotation(),
        "succession.json": {
            **_envelope(story.succession(), PAYLOAD_TYPE_SUCCESSION),
            "coordinator": _document(story.coordinator_info_succeeded()),
        },
        "digests.json": _digests(),
        "canonical.json": _canonical(),
        "join.json": _join(),
        "request.json": _requests(entries),
        "order.json": {**_envelope(order.envelope, PAYLOAD_TYPE_ORDER), "order_digest": order.digest},
        "exchange.json": {
            name: {"request": _document(request), "answer": _document(answer)}
            for name, (request, answer) in story.exchanges(books.checkpoint_note(entries)).items()
        },
        "archive.json": {"plain": _archive(story.OUTPUTS), "awkward": _archive(story.AWKWARD_OUTPUTS)},
        "log.json": _log(order.digest),
        "receipt.json": _receipt(receipt, receipt_digest),
        "merkle.json": books.merkle_vector(9),
        "ledger.json": _ledger(entries),
        "epoch.json": _envelope(books.epoch(entries), PAYLOAD_TYPE_EPOCH),
        "descriptor.json": _descriptor(),
        "bundle.json": _bundle(entries),
        "problem.json": _problem(),
    }


def text_of(vector: Any) -> str:
    """A vector's file."""
    return json.dumps(vector, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    found = vectors()
    wanted = {FOLDER / name: text_of(vector) for name, vector in found.items()}
    if DOCUMENT.exists():
        wanted[DOCUMENT] = document_with_examples(DOCUMENT.read_text(encoding="utf-8"), found)
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    surplus = sorted(set(FOLDER.glob("*.json")) - set(wanted))
    if "--check" not in arguments:
        FOLDER.mkdir(exist_ok=True)
        for path in changed:
            path.write_text(wanted[path], encoding="utf-8")
        for path in surplus:
            path.unlink()
    for path in [*changed, *surplus]:
        print(path.name)
    return 1 if "--check" in arguments and (changed or surplus) else 0


# --- one function for each file ---------------------------------------------------------------------------------------


def _key(key: PrivateKey) -> dict[str, str]:
    return {"private": base64_encode(key.raw), "public": key.public.to_base64(), "key_id": key.public.key_id}


def _digests() -> dict[str, Any]:
    bodies = {"empty": b"", "text": b'{"free_slots":2}', "bytes": bytes(range(256))}
    return {
        name: {"data_base64": base64_encode(data), "digest": digest_of(data), "content_digest": content_digest_header(data)}
        for name, data in bodies.items()
    }


def _canonical() -> list[dict[str, str]]:
    sources = {
        "the example of RFC 8785": RFC_8785_SOURCE,
        "names are sorted by UTF-16 code units": '{"\U0001f600": 1, "\ufb33": 2, "\u20ac": 3, "b": 4, "a": 5, "A": 6}',
        "numbers": "[0, -0.0, 1.0, 100000, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 9007199254740991, 0.1]",
        "nothing": "{}",
    }
    made = {name: canonical_json(json.loads(source)) for name, source in sources.items()}
    return [{"name": name, "source": sources[name], "canonical": data.decode(), "digest": digest_of(data)} for name, data in made.items()]


def _join() -> dict[str, Any]:
    content = story.join_token_content()
    request, answer = story.registration()
    return {
        "token_content": _document(content),
        "token": join_token_encode(content),
        "coordinator": _document(story.coordinator_info()),
        "registration_request": _document(request),
        "registration_answer": _document(answer),
    }


def _key_rotation() -> dict[str, Any]:
    request, answer = story.key_rotation()
    proof = _envelope(canonical_json(request.proof), PAYLOAD_TYPE_KEY_ROTATION)
    url = f"{story.ORIGIN}/api/v1/nodes/self/key"
    return {
        "proof": proof,
        "request": _document(request),
        "signed": _signed("POST", url, {"Content-Type": "application/json"}, request.model_dump_json().encode()),
        "answer": _document(answer),
    }


def _requests(entries: list[bytes]) -> dict[str, Any]:
    """Signed requests: with a JSON body, without a body, an upload's announcement and a chunk of it."""
    request, _ = story.exchanges(books.checkpoint_note(entries))["no_work"]
    archive, info = story.archive(story.OUTPUTS)
    metadata = {"digest": info.digest, "lease_id": str(story.LEASE_ID)}
    tus = {"Tus-Resumable": "1.0.0"}
    announcement = {
        **tus,
        "Upload-Length": str(info.size_bytes),
        "Upload-Metadata": ",".join(f"{name} {base64_encode(value.encode())}" for name, value in metadata.items()),
    }
    chunk = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    upload = f"{story.ORIGIN}/api/v1/uploads"
    return {
        "exchange": _signed(
            "POST", f"{story.ORIGIN}/api/v1/exchange", {"Content-Type": "application/json"}, request.model_dump_json().encode()
        ),
        "query": _signed("GET", f"{story.ORIGIN}:8443/api/v1/jobs?after=a%20b&limit=2", {}, None),
        "download": _signed("GET", f"{story.ORIGIN}/api/v1/blobs/{digest_of(story.INPUT)}", {}, None),
        "upload_announce": _signed("POST", upload, announcement, None),
        "upload_chunk": _signed("PATCH", f"{upload}/0f8fad5b-d9cb-469f-a165-70867728950e", chunk, archive),
    }


def _signed(method: str, url: str, headers: dict[str, str], body: bytes | None) -> dict[str, Any]:
    added = request_sign(method=method, url=url, headers=headers, body=body, key=story.NODE, now=story.SECONDS, nonce=NONCE)
    parts = urlsplit(url)
    values = {name.lower(): value for name, value in {**headers, **added}.items()}
    values |= {"@method": method, "@authority": parts.netloc, "@path": parts.path, "@query": f"?{parts.query}"}
    components = [*REQUIRED_ALWAYS, *(REQUIRED_WITH_BODY if body else ())]
    parameters = added["Signature-Input"].removeprefix(f"{LABEL}=")
    return {
        "method": method,
        "url": url,
        "headers": {**headers, **added},
        "body_base64": None if body is None else base64_encode(body),
        "signature_base": signature_base(components, parameters, values).decode(),
        "signed_at": story.SECONDS,
        "key_id": story.NODE.public.key_id,
    }


def _envelope(envelope: bytes, payload_type: str) -> dict[str, Any]:
    document = json.loads(envelope)
    payload = base64_decode(document["payload"])
    return {
        "payload": json.loads(payload),
        "payload_text": payload.decode(),
        "signed_bytes_base64": base64_encode(pae(payload, payload_type)),
        "envelope": document,
        "envelope_text": envelope.decode(),
    }


def _archive(files: dict[str, bytes]) -> dict[str, Any]:
    data, info = story.archive(files)
    manifest = canonical_json(info.manifest.model_dump(mode="json"))
    return {
        "files_base64": {path: base64_encode(content) for path, content in files.items()},
        "manifest": json.loads(manifest),
        "manifest_text": manifest.decode(),
        "result_digest": info.result_digest,
        "archive_base64": base64_encode(data),
        "archive": {"digest": info.digest, "size_bytes": info.size_bytes},
    }


def _log(order_digest: str) -> dict[str, Any]:
    data, reference = story.compute_log()
    return {"order_digest": order_digest, "text": data.decode(), "reference": _document(reference)}


def _receipt(receipt: bytes, receipt_digest: str) -> dict[str, Any]:
    log, archive = story.compute_log()[0], story.archive(story.OUTPUTS)[0]
    submitted = SubmittedReceipt(envelope=json.loads(receipt), log=base64_encode(log), archive=base64_encode(archive))
    submission = ReceiptSubmission(protocol_version=PROTOCOL_VERSION, receipts=(submitted,))
    failed = story.receipt_failed()
    return {
        "completed": {**_envelope(receipt, PAYLOAD_TYPE_STATEMENT), "receipt_digest": receipt_digest},
        "failed": {**_envelope(failed, PAYLOAD_TYPE_STATEMENT), "receipt_digest": books.receipt_digest_of(failed)},
        "submission": _document(submission),
        "answer": _document(story.receipts_answer(receipt_digest)),
    }


def _ledger(entries: list[bytes]) -> dict[str, Any]:
    key = story.COORDINATOR.public
    return {
        "leaves": [json.loads(entry) for entry in entries],
        "leaf_texts": [entry.decode() for entry in entries],
        "leaf_hashes": [leaf_hash(entry).hex() for entry in entries],
        "checkpoint": {
            "note": books.checkpoint_note(entries),
            "root": books.checkpoint(entries).root.hex(),
            "key_hash": note_key_hash(books.LOG_ORIGIN, key).hex(),
            "verifier_key": note_verifier_key(books.LOG_ORIGIN, key),
            "overlap_note": books.overlap_note(entries),
        },
        "tile_paths": books.tile_paths(),
        "spot_choices": books.spot_choices(),
        "payment_proof": books.payment_proof(entries),
        "tile_path": f"tile/0/000.p/{len(entries)}",
        "tile_base64": base64_encode(books.hash_tile(entries)),
        "entry_bundle_path": f"tile/entries/000.p/{len(entries)}",
        "entry_bundle_base64": base64_encode(books.entry_bundle(entries)),
        "formula": books.formula_cases(),
    }


def _descriptor() -> dict[str, Any]:
    descriptor = descriptor_parse(books.DESCRIPTOR)
    return {
        "descriptor": books.DESCRIPTOR,
        "canonical": canonical_json(descriptor.model_dump(mode="json", exclude_unset=True)).decode(),
        "descriptor_digest": descriptor_digest(descriptor),
    }


def _bundle(entries: list[bytes]) -> dict[str, Any]:
    index, seal = books.bundle(entries)
    return {"index": json.loads(index), "index_text": index.decode(), "seal": _envelope(seal, PAYLOAD_TYPE_STATEMENT)}


def _problem() -> dict[str, Any]:
    error = MessageInvalidError(
        "The message is not a ExchangeRequest: 1 fault, the first at '/free/slots': Input should be greater than or equal to 0. "
        "docs/PROTOCOL.md shows each message.",
        errors=[{"path": "/free/slots", "code": "greater_than_equal", "message": "Input should be greater than or equal to 0"}],
    )
    return {"message_invalid": error.document()}


def _document(message: Message) -> dict[str, Any]:
    """The message as it goes over the wire."""
    document: dict[str, Any] = json.loads(message.model_dump_json())
    return document


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
