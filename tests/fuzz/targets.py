"""The parsers, valid input for each, and what each may raise. Any other exception is a fault; so is a broken promise (AssertionError)."""

from __future__ import annotations

import io
import json
import random
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ValidationError

from jobs.comparison.rules import FileRule, Tolerance
from jobs.descriptor import DescriptorInvalidError, descriptor_document, descriptor_parse
from jobs.descriptor.formats import FileFormat, NanPolicy, RowOrder
from jobs.submission.images import reference_parse
from tests.jobs.comparison.seeds import SEEDS
from tests.jobs.comparison.sides import attempt
from tests.workers.protocol import vector_story as story
from workers.progress import progress_parse
from workers.protocol.archives import ArchiveLimits, archive_check
from workers.protocol.bundles import index_parse
from workers.protocol.compute_log import log_check
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_key_id, envelope_open, envelope_sign
from workers.protocol.errors import VerificationError
from workers.protocol.http_signatures import request_sign, request_verify
from workers.protocol.join_tokens import join_token_decode, join_token_encode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import Message
from workers.protocol.messages.exchange import ExchangeRequest
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, ReceiptPredicate
from workers.protocol.problems import ProblemError
from workers.protocol.signed_note import Checkpoint, note_open, note_sign
from workers.protocol.statements import statement_parse
from workers.protocol.tlog_tiles import place_parse, place_text
from workers.protocol.validation import message_parse

KEY = PrivateKey.generate()
ORIGIN = "portal.example"
_FOLDER = Path(__file__).parents[1]
_REFUSALS = (VerificationError, ProblemError)


@dataclass(frozen=True)
class Target:
    """One parser: `run` takes any bytes, and returns or raises one of `declared`."""

    name: str
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], object]
    declared: tuple[type[Exception], ...] = _REFUSALS


def targets() -> list[Target]:
    """All of them, each with seeds that it accepts."""
    archive, archive_info = story.archive({"a.csv": b"x\n1\n", "b/long name.txt": b"2" * 600})
    log, log_reference = story.compute_log()
    receipt = envelope_open(story.receipt_completed(), payload_type=PAYLOAD_TYPE_STATEMENT, key=story.NODE.public)
    failed = envelope_open(story.receipt_failed(), payload_type=PAYLOAD_TYPE_STATEMENT, key=story.NODE.public)
    checkpoint = Checkpoint(ORIGIN, 5, bytes(32)).to_text()
    exchanges = story.exchanges(checkpoint)
    return [
        *(Target(f"compare-{kind}", tuple(seeds), partial(_compared, kind)) for kind, seeds in SEEDS.items()),
        Target("archive", (archive,), partial(_archive, archive_info.digest)),
        Target("log", (log,), lambda data: _log(data, log_reference.head, log_reference.lines)),
        Target("envelope", (envelope_sign(b"payload", PAYLOAD_TYPE_STATEMENT, KEY),), _envelope),
        Target("receipt", (receipt, failed), _receipt, (*_REFUSALS, ValidationError)),
        Target("note", (note_sign(checkpoint, ORIGIN, KEY),), lambda data: note_open(data, name=ORIGIN, key=KEY.public)),
        Target("checkpoint", (checkpoint.encode(),), lambda data: Checkpoint.from_text(_text(data))),
        Target("tile-place", (b"x001/x234/067", b"067.p/12"), _tile_place),
        Target("descriptor", _descriptors(), _descriptor),
        Target("exchange", _bodies({name: pair[0] for name, pair in exchanges.items()}), partial(_message, ExchangeRequest)),
        Target("registration", _bodies({"": story.registration()[0]}), partial(_message, RegistrationRequest)),
        Target("request-signature", (_signature_headers(),), _request_signature),
        Target("bundle-index", (_bundle_index(),), index_parse),
        Target("join-token", (join_token_encode(story.join_token_content()).encode(),), lambda data: join_token_decode(_text(data))),
        Target(
            "image-reference", (b"registry.example:5000/group/name:1.0@sha256:" + b"0" * 64,), lambda data: reference_parse(_text(data))
        ),
        Target("progress", (b'{"nexa_progress": 0.5, "stage": "adding"}',), progress_parse),
    ]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _compared(kind: FileFormat, data: bytes) -> object:
    """Against itself and each seed, in both orders, by rules drawn from the bytes; a seed by the plain one."""
    rule = FileRule("file", kind) if data in SEEDS[kind] else _rule(kind, random.Random(zlib.crc32(data)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Duplicate name")
        own = attempt(rule, data, bytes(data))
        assert own is None or rule.refuses_nan or own.exceeding == 0, "a file disagrees with itself"
        for seed in SEEDS[kind]:
            if (found := attempt(rule, data, seed)) is not None:
                json.dumps(found.document(), allow_nan=False)
    if own is None:
        raise VerificationError("unreadable")
    return own


def _rule(kind: FileFormat, source: random.Random) -> FileRule:
    is_keyed = source.random() < 0.3
    return FileRule(
        "file",
        kind,
        Tolerance(source.choice((0.0, 1e-3, 1e300)), source.choice((0.0, 1e-3, 1.0))),
        {"x": Tolerance(1.0)} if source.random() < 0.2 else {},
        nan=source.choice(list(NanPolicy)),
        header=source.choice((None, None, True, False)),
        order=RowOrder.ANY if is_keyed else RowOrder.FIXED,
        key=("t",) if is_keyed else (),
        superpose=source.random() < 0.7,
    )


def _archive(digest: str, data: bytes) -> object:
    found = archive_check(io.BytesIO(data), limits=ArchiveLimits(content_bytes=2**20))
    assert found.digest == digest_of(data)
    return found


def _log(data: bytes, head: str, lines: int) -> object:
    found = log_check(io.BytesIO(data), order_digest=story.order().digest, head=head, lines_expected=lines)
    assert found.digest == digest_of(data)
    return found


def _envelope(data: bytes) -> object:
    envelope_key_id(data)
    payload = envelope_open(data, payload_type=PAYLOAD_TYPE_STATEMENT, key=KEY.public)
    assert payload == b"payload", "an envelope opened to what nobody signed"
    return payload


def _receipt(data: bytes) -> object:
    """Signed by whoever changed it: what is behind a good signature is a stranger's all the same."""
    payload = envelope_open(envelope_sign(data, PAYLOAD_TYPE_STATEMENT, KEY), payload_type=PAYLOAD_TYPE_STATEMENT, key=KEY.public)
    return ReceiptPredicate.model_validate(statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE).predicate)


def _tile_place(data: bytes) -> object:
    text = _text(data)
    found = place_parse(text)
    if found is None:
        raise VerificationError("no place")
    assert text.startswith(place_text(found[0]))
    return found


def _descriptors() -> tuple[bytes, ...]:
    compared = {
        "schema_version": "1.0",
        "job_id": "label",
        "type": "test",
        "docker_image": "example/science:1.0",
        "estimated_flops": 1e12,
        "outputs": [{"path": "a.csv"}, {"path": "b.pdb"}],
        "verification": {
            "method": "numeric",
            "copies": 2,
            "quorum": 2,
            "files": [
                {"path": "a.csv", "absolute": 0.1, "columns": {"x": {"relative": 0.1}}, "order": "any", "key": ["t"], "nan": "refuse"},
                {"path": "b.pdb", "format": "pdb", "superpose": False},
            ],
        },
    }
    return (_FOLDER / "jobs" / "data" / "seed_example.json").read_bytes(), json.dumps(compared).encode()


def _descriptor(data: bytes) -> object:
    try:
        found = descriptor_parse(data)
    except DescriptorInvalidError as error:
        json.dumps(error.document(), allow_nan=False)
        raise
    assert descriptor_parse(json.loads(json.dumps(descriptor_document(found)))).run_limits == found.run_limits
    return found


def _bodies(messages: Mapping[str, BaseModel]) -> tuple[bytes, ...]:
    return tuple(message.model_dump_json().encode() for message in messages.values())


def _message(model: type[Message], data: bytes) -> object:
    return message_parse(model, data, limit_bytes=2**20)


def _signature_headers() -> bytes:
    headers = {"content-type": "application/json"}
    signed = request_sign(method="POST", url=f"https://{ORIGIN}/x", headers=headers, body=b"{}", key=KEY, now=0)
    return json.dumps(headers | signed).encode()


def _request_signature(data: bytes) -> object:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise VerificationError("no headers") from error
    if not isinstance(found, dict):
        raise VerificationError("no headers")
    headers = {name: str(value) for name, value in found.items()}
    return request_verify(method="POST", authority=ORIGIN, path="/x", query="", headers=headers, body=b"{}", key=KEY.public, now=0)


def _bundle_index() -> bytes:
    vectors = json.loads((_FOLDER / "workers" / "protocol" / "vectors" / "bundle.json").read_bytes())
    return json.dumps(vectors["index"]).encode()
