"""The checks of one replica alone. Pure: a document in, findings out. They read strangers' bytes, hold no key and move no state.

1. `signature`: the stored envelope again, with the node's key; the predicate names this order, this lease, these blobs.
2. `archive`: the bytes are a well-formed archive, within the job's limits, with the digests that the receipt states.
3. `outputs`: every required output is in the manifest, and the receipt's subjects are archive, log and manifest, no more and no fewer.
4. `log`: an unbroken hash chain from the order to the stated head.

The first check that fails ends them, and the rest fails with it, not checked. One that can't be made (the store is away; a bug, which the
bytes have found) is Unmade, and ends them too: nothing is said of those after it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from jobs.checking.documents import (
    OWN_CHECKS,
    TRACE_CHARACTERS_MAX,
    BlobAwayError,
    BlobDocument,
    Finding,
    Outcome,
    ReplicaDocument,
    Unmade,
    failure_findings,
)
from jobs.descriptor import Descriptor
from workers.protocol.archives import ArchiveInfo, ArchiveLimits, ArchiveReader
from workers.protocol.compute_log import LOG_BYTES_MAX, LogRefusedError, log_check
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_open
from workers.protocol.errors import StatementMalformedError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, Manifest, ReceiptPredicate
from workers.protocol.plurals import counted
from workers.protocol.statements import Statement, statement_parse


class ReceiptContradictionError(VerificationError):
    """A receipt says something else than what it belongs to, or than the bytes that it names."""

    code = "receipt_contradiction"


class OutputMissingError(VerificationError):
    """A required output is not in the archive."""

    code = "output_missing"


class ReadArchive:
    """An archive that was read to its end and is well-formed, and where in it the bytes of each file are."""

    def __init__(self, blob: BlobDocument, *, limits: ArchiveLimits) -> None:
        """Raises ArchiveRefusedError, BlobAwayError, OSError."""
        self._blob = blob
        self._places: dict[str, tuple[int, int]] = {}
        with blob.open() as stream:
            reader = ArchiveReader(stream, limits=limits)
            for member in reader:
                self._places[member.path] = (member.offset_bytes, member.size_bytes)
        self.info: ArchiveInfo = reader.info

    @property
    def manifest(self) -> Manifest:
        return self.info.manifest

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        """The file's bytes, at most `limit_bytes` of them. Raises KeyError, OSError."""
        offset_bytes, size_bytes = self._places[path]
        with self._blob.open() as stream:
            stream.seek(offset_bytes)
            return stream.read(min(size_bytes, limit_bytes))


class ReplicaCheck:
    """The four checks of one replica; later ones build on what earlier ones have read. `archive` is there once it was read."""

    archive: ReadArchive

    def __init__(self, descriptor: Descriptor, replica: ReplicaDocument) -> None:
        self._descriptor, self._replica = descriptor, replica
        self._key: PublicKey
        self._statement: Statement
        self._predicate: ReceiptPredicate

    def outcomes(self) -> Iterator[Outcome]:
        """Each check as it is made. The replica has passed when there is a Finding for each, and all passed."""
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "signature": self._signature_check,
            "archive": self._archive_check,
            "outputs": self._outputs_check,
            "log": self._log_check,
        }
        replica_id = self._replica.replica_id
        try:
            self._key = PublicKey(self._replica.public_key)
        except VerificationError as error:  # a row of ours is wrong: nothing that accuses the host
            yield unmade(replica_id, OWN_CHECKS[0], error)
            return
        for name in OWN_CHECKS:
            try:
                detail = makers[name]()
            except VerificationError as error:
                yield from failure_findings(replica_id, name, code=error.code, message=str(error))
                return
            except MemoryError:
                raise
            except (BlobAwayError, OSError) as error:
                yield unmade(replica_id, name, error)
                return
            except Exception as error:
                yield unmade(replica_id, name, error, by_bytes=True)
                return
            yield Finding(replica_id, name, passed=True, detail=detail)

    def _signature_check(self) -> dict[str, Any]:
        replica = self._replica
        payload = envelope_open(replica.envelope, payload_type=PAYLOAD_TYPE_STATEMENT, key=self._key)
        self._statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
        try:
            self._predicate = ReceiptPredicate.model_validate(self._statement.predicate)
        except ValidationError as error:
            raise StatementMalformedError(f"The receipt's predicate has {counted(error.error_count(), 'fault')}.") from error
        expected = {
            "order_digest": replica.order_digest,
            "replica_id": UUID(replica.replica_id),
            "lease_id": UUID(replica.lease_id),
            "node_key_id": self._key.key_id,
            "outcome": "completed",
        }
        for field, value in expected.items():
            if (found := getattr(self._predicate, field)) != value:
                raise ReceiptContradictionError(f"The receipt's {field} is {found}; its replica's is {value}.")
        return {"key": self._key.key_id, "order": replica.order_digest}

    def _archive_check(self) -> dict[str, Any]:
        stated = self._predicate.archive
        if stated is None:  # the model of a completed receipt has one; mypy can't know
            raise ReceiptContradictionError("The receipt names no archive.")
        _same("archive", stated.digest, self._replica.archive.digest)
        self.archive = archive_read(self._descriptor, self._replica)
        info = self.archive.info
        _same("archive digest", stated.digest, info.digest)
        _same("archive size", stated.size_bytes, info.size_bytes)
        _same("result digest", self._predicate.result_digest, info.result_digest)
        return {"digest": stated.digest, "result_digest": info.result_digest, "files": len(info.manifest.files)}

    def _outputs_check(self) -> dict[str, Any]:
        found = {file.path for file in self.archive.manifest.files}
        missing = [output.path for output in self._descriptor.outputs if output.required and output.path not in found]
        if missing:
            raise OutputMissingError(f"Required outputs are not in the archive: {', '.join(missing[:20])}.")
        stated = {subject.name: subject.digest_text for subject in self._statement.subjects}
        named = {
            "archive": self.archive.info.digest,
            "log": self._predicate.log.digest,
            "manifest": self.archive.info.result_digest,
        }
        for name in sorted(stated.keys() | named.keys()):
            _same(f"subject {name}", stated.get(name), named.get(name))
        return {"required": sum(output.required for output in self._descriptor.outputs), "files": len(found)}

    def _log_check(self) -> dict[str, Any]:
        stated, log = self._predicate.log, self._replica.log
        _same("log", stated.digest, log.digest)
        if log.size_bytes > LOG_BYTES_MAX:
            raise LogRefusedError(f"Expected a log of at most {LOG_BYTES_MAX} bytes; found more.")
        with log.open() as lines:
            summary = log_check(lines, order_digest=self._replica.order_digest, head=stated.head, lines_expected=stated.lines)
        _same("log size", stated.size_bytes, summary.size_bytes)
        _same("log digest", stated.digest, summary.digest)
        return {"lines": summary.lines, "samples": summary.samples, "head": stated.head}


def archive_read(descriptor: Descriptor, replica: ReplicaDocument) -> ReadArchive:
    """The replica's archive, within the job's limits. Raises ArchiveRefusedError, BlobAwayError, OSError."""
    return ReadArchive(replica.archive, limits=ArchiveLimits(content_bytes=descriptor.run_limits.output_bytes))


def unmade(replica_id: str, check_name: str, error: Exception, *, other_id: str | None = None, by_bytes: bool = False) -> Unmade:
    """What to say of a check that `error` kept from being made."""
    trace = "".join(traceback.format_exception(error))[-TRACE_CHARACTERS_MAX:]
    return Unmade(replica_id, check_name, f"{type(error).__name__}", trace, other_id, by_bytes)


def _same(what: str, stated: object, found: object) -> None:
    if stated != found:
        raise ReceiptContradictionError(f"The receipt states the {what} {str(stated)[:200]}; found {str(found)[:200]}.")
