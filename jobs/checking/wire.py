"""What a verify worker and a child of its say to each other, over one pair of stream sockets.

Down, for each job: a frame of a fixed head, a JSON object, and the bytes that the object counts, one after the other; open files go with
it (SCM_RIGHTS), in the order of their mention. Up: lines of JSON, one for each piece with all that was found, or several. The child
believes its parent. The parent believes nothing: a line is bounded, and has the members and types below, or LineRefusedError is raised.
"""

from __future__ import annotations

import array
import base64
import json
import math
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Never

from jobs.checking.codes import CODES_OF_WORKER, EVIDENCE_FAULTS
from jobs.checking.documents import TRACE_CHARACTERS_MAX, BlobDocument, Finding, JobDocument, Outcome, ReplicaDocument, Unmade

LINE_BYTES_MAX: Final = 256 * 1024
DETAIL_DEPTH_MAX: Final = 8
"""Of what a check found. The worker writes it as JSON again, as does the database: neither may choke on it."""
FILES_MAX: Final = 64
"""Open files on their way at once; the kernel carries 253 in one message."""
RECEIVE_BYTES: Final = 256 * 1024
_HEAD: Final = struct.Struct("!IQ")


class LineRefusedError(Exception):
    """A child said something that no child of ours says."""


@dataclass(frozen=True)
class Said:
    """A line: outcomes of a piece, and whether they are the last of it."""

    job: int
    piece: int
    is_end: bool
    outcomes: Sequence[Outcome]


# --- down ----------------------------------------------------------------------------------------------------------------


def frame_encode(number: int, document: JobDocument, *, pieces: list[int], cpu_seconds: list[int], told_at_once: bool) -> list[bytes]:
    """The frame as parts to be sent one after the other. `pieces` are those to be made, each within its `cpu_seconds`.

    `told_at_once`: each outcome is sent as soon as it is known, so that a death shows in which check it came.
    """
    payload: list[bytes] = [document.descriptor]
    replicas = []
    for replica in document.replicas:
        payload.append(replica.envelope)
        replicas.append(
            {
                "id": replica.replica_id,
                "lease": replica.lease_id,
                "order": replica.order_digest,
                "key": base64.b64encode(replica.public_key).decode("ascii"),
                "envelope": len(replica.envelope),
                "archive": _blob_encode(replica.archive, payload),
                "log": _blob_encode(replica.log, payload),
                "passed": replica.passed,
            }
        )
    head = {
        "number": number,
        "descriptor": len(document.descriptor),
        "replicas": replicas,
        "pairs": document.pairs,
        "pieces": pieces,
        "cpu_seconds": cpu_seconds,
        "told_at_once": told_at_once,
    }
    text = _ENCODER.encode(head).encode("ascii")
    return [_HEAD.pack(len(text), sum(map(len, payload))), text, *payload]


def _blob_encode(blob: BlobDocument, payload: list[bytes]) -> list[Any]:
    if blob.data is not None:
        payload.append(blob.data)
        return [blob.digest, blob.size_bytes, "data", len(blob.data)]
    if blob.descriptor is not None:
        return [blob.digest, blob.size_bytes, "file", 0]
    return [blob.digest, blob.size_bytes, "away", blob.away]


def document_files(document: JobDocument) -> list[int]:
    """The open files of a document, in the order in which its frame mentions them."""
    blobs = [blob for replica in document.replicas for blob in (replica.archive, replica.log)]
    return [blob.descriptor for blob in blobs if blob.descriptor is not None]


@dataclass(frozen=True)
class Task:
    """A frame as the child reads it."""

    number: int
    document: JobDocument
    pieces: list[int]
    cpu_seconds: list[int]
    told_at_once: bool


class TaskReader:
    """The frames of a socket. For the child."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._bytes = bytearray()
        self._files: deque[int] = deque()

    def __iter__(self) -> Iterator[Task]:
        """Until the other side closes. A task's files are closed when the next one is asked for."""
        while len(head := self._take(_HEAD.size)) == _HEAD.size:
            text_bytes, payload_bytes = _HEAD.unpack(head)
            head_document = json.loads(self._take(text_bytes))
            payload = memoryview(self._take(payload_bytes))
            task, files = self._task(head_document, payload)
            yield task
            for descriptor in files:
                os.close(descriptor)

    def pending(self) -> bool:
        """Whether the whole of the next frame has been received already."""
        if len(self._bytes) < _HEAD.size:
            return False
        text_bytes, payload_bytes = _HEAD.unpack_from(self._bytes)
        return bool(len(self._bytes) >= _HEAD.size + text_bytes + payload_bytes)

    def _take(self, count: int) -> bytes:
        """Exactly so many bytes; fewer at the end."""
        while len(self._bytes) < count:
            data, ancillary, _, _ = self._channel.recvmsg(max(RECEIVE_BYTES, count - len(self._bytes)), socket.CMSG_SPACE(4 * FILES_MAX))
            for _, kind, rights in ancillary:
                if kind == socket.SCM_RIGHTS:
                    self._files.extend(array.array("i", rights[: len(rights) - len(rights) % 4]))
            if not data:
                break
            self._bytes += data
        taken = bytes(memoryview(self._bytes)[:count])
        del self._bytes[:count]
        return taken

    def _task(self, head: Mapping[str, Any], payload: memoryview) -> tuple[Task, list[int]]:
        place, files = 0, []

        def bytes_next(count: int) -> bytes:
            nonlocal place
            place += count
            return bytes(payload[place - count : place])

        def blob_next(digest: str | None, size_bytes: int, how: str, what: Any) -> BlobDocument:
            match how:
                case "data":
                    return BlobDocument(digest, size_bytes, data=bytes_next(what))
                case "file":
                    files.append(self._files.popleft())
                    return BlobDocument(digest, size_bytes, descriptor=files[-1])
                case _:
                    return BlobDocument(digest, size_bytes, away=what)

        descriptor = bytes_next(head["descriptor"])
        replicas = [
            ReplicaDocument(
                replica_id=one["id"],
                lease_id=one["lease"],
                order_digest=one["order"],
                public_key=base64.b64decode(one["key"]),
                envelope=bytes_next(one["envelope"]),
                archive=blob_next(*one["archive"]),
                log=blob_next(*one["log"]),
                passed=one["passed"],
            )
            for one in head["replicas"]
        ]
        document = JobDocument(descriptor, replicas, [(one, other) for one, other in head["pairs"]])
        return Task(head["number"], document, head["pieces"], head["cpu_seconds"], head["told_at_once"]), files


# --- up ------------------------------------------------------------------------------------------------------------------


def line_encode(said: Said) -> bytes:
    """The line, with its end."""
    return _ENCODER.encode([said.job, said.piece, said.is_end, [_outcome_values(one) for one in said.outcomes]]).encode("ascii") + b"\n"


def line_decode(line: bytes) -> Said:
    """What a line says, without its end. Raises LineRefusedError."""
    try:
        match _DECODER.decode(line.decode("ascii")):
            case [int(job), int(piece), bool(is_end), list(outcomes)]:
                return Said(job, piece, is_end, [_outcome(values) for values in outcomes])
    except (ValueError, RecursionError) as error:
        raise LineRefusedError(f"expected a line of JSON; {error}") from error
    raise LineRefusedError(f"expected outcomes of a piece; found {line[:200]!r}")


def _outcome_values(outcome: Outcome) -> list[Any]:
    match outcome:
        case Finding():
            return [outcome.replica_id, outcome.other_id, outcome.check_name, outcome.passed, outcome.code, outcome.detail]
        case Unmade():
            return [outcome.replica_id, outcome.other_id, outcome.check_name, outcome.error, outcome.trace, outcome.by_bytes]


def _outcome(values: Any) -> Outcome:
    match values:
        case [str(replica_id), str() | None as other_id, str(check_name), bool(passed), str(code), dict(detail)]:
            if (passed and code) or not (passed or code in EVIDENCE_FAULTS.keys() - CODES_OF_WORKER):
                raise LineRefusedError(f"expected a code of evidence just where a check failed; found {code[:80]!r} with passed {passed}")
            if not _is_flat(detail, DETAIL_DEPTH_MAX):
                raise LineRefusedError(f"expected a detail of at most {DETAIL_DEPTH_MAX} levels; found more")
            return Finding(replica_id, check_name, passed, code, detail, other_id)
        case [str(replica_id), str() | None as other_id, str(check_name), str(error), str(trace), bool(by_bytes)]:
            return Unmade(replica_id, check_name, error[:200], trace[-TRACE_CHARACTERS_MAX:], other_id, by_bytes)
    raise LineRefusedError(f"expected an outcome; found {str(values)[:200]}")


def _is_flat(value: Any, depth: int) -> bool:
    match value:
        case dict():
            return depth > 0 and all(_is_flat(inner, depth - 1) for inner in value.values())
        case list():
            return depth > 0 and all(_is_flat(inner, depth - 1) for inner in value)
        case _:
            return True


def _finite(text: str) -> float:
    """JSON may say a number that no float holds; PostgreSQL and json.dumps refuse what it becomes."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is beyond what a float holds")
    return value


def _refuse(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
