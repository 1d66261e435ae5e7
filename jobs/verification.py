"""The checks behind a verdict: they read strangers' bytes and write evidence, nothing else. They hold no key and move no state.

1. `signature`: the stored envelope again, with the node's key; the predicate names this order, this lease, these blobs.
2. `archive`: the bytes are a well-formed archive, within the job's limits, with the digests that the receipt states.
3. `outputs`: every required output is in the manifest, and the receipt's subjects are its files and blobs, no more and no fewer.
4. `log`: an unbroken hash chain from the order to the stated head.
5. `comparison`: each pair of replicas that passed 1 to 4, by the job's own rules.

A check that fails is evidence; a check that can't be made (the store is away, a bug) writes nothing and is made again. CHECK_PATIENCE
after the receipt it fails as `check_impossible`, so that no job waits for ever for a check of ours; the log of this process says why.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.utils import timezone
from pydantic import ValidationError

from jobs.blobs import blob_open
from jobs.comparison import FILE_BYTES_MAX, FileUnreadableError, results_compare, rules_of
from jobs.descriptor import Descriptor
from jobs.models import Evidence, Job, Receipt, Replica
from jobs.states import ReplicaState
from workers.protocol.archives import ArchiveInfo, ArchiveLimits, ArchiveMember, ArchiveReader, archive_check
from workers.protocol.compute_log import LOG_BYTES_MAX, LogRefusedError, log_check
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_open
from workers.protocol.errors import StatementMalformedError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.messages import RECEIPT_PREDICATE_TYPE, Manifest, ReceiptPredicate
from workers.protocol.statements import Statement, statement_parse

OWN_CHECKS: Final = ("signature", "archive", "outputs", "log")
"""The checks that concern one replica alone, in the order in which they are made."""

CHECK_IMPOSSIBLE: Final = "check_impossible"
CHECK_PATIENCE: Final = timedelta(hours=6)

log = logging.getLogger(__name__)


class ReceiptContradictionError(VerificationError):
    """A receipt says something else than what it belongs to, or than the bytes that it names."""

    code = "receipt_contradiction"


class OutputMissingError(VerificationError):
    """A required output is not in the archive."""

    code = "output_missing"


def job_check(*, job_id: UUID) -> None:
    """Makes every check of the job's reported replicas that has not been made. Idempotent."""
    job = Job.objects.get(pk=job_id)
    reported = job.replicas.filter(state=ReplicaState.REPORTED).select_related("receipt__log", "node_key")
    passed = [replica for replica in reported.order_by("receipt__received_at", "pk") if _replica_check(job, replica)]
    compared = {frozenset((row.replica_id, row.other_id)) for row in Evidence.objects.filter(check_name="comparison", replica__in=passed)}
    for one, other in combinations(passed, 2):
        if frozenset((one.pk, other.pk)) not in compared:
            _pair_check(job, one, other)


def _replica_check(job: Job, replica: Replica) -> bool:
    """Whether the replica passed its own checks, made now or before. The first failure ends them; the rest fails with it, not checked."""
    known = {row.check_name: row for row in Evidence.objects.filter(replica=replica, other=None)}
    if all(name in known for name in OWN_CHECKS):
        return all(known[name].passed for name in OWN_CHECKS)
    checking = _ReplicaCheck(job, replica)
    for name in OWN_CHECKS:
        try:
            detail = checking.make(name)
        except VerificationError as error:
            _own_failure_write(replica, name, error.code, str(error))
            return False
        except Exception as error:  # our fault; the replica's other checks need this one
            log.exception("the check %s of replica %s was not made", name, replica.pk)
            if _patience_over(replica):
                _own_failure_write(replica, name, CHECK_IMPOSSIBLE, f"The portal could not make this check: {type(error).__name__}.")
            return False
        _evidence_write(replica, name, passed=True, code="", detail=detail)
    return True


def _own_failure_write(replica: Replica, name: str, code: str, message: str) -> None:
    _evidence_write(replica, name, passed=False, code=code, detail={"message": message[:1000]})
    for following in OWN_CHECKS[OWN_CHECKS.index(name) + 1 :]:
        _evidence_write(replica, following, passed=False, code="not_checked", detail={"after": name})


def _pair_check(job: Job, one: Replica, other: Replica) -> None:
    try:
        _pair_compare(job, one, other)
    except Exception as error:  # our fault; other pairs can still be compared
        log.exception("replicas %s and %s were not compared", one.pk, other.pk)
        if _patience_over(one, other):
            detail = {"message": f"The portal could not compare them: {type(error).__name__}.", "worst": None}
            _evidence_write(one, "comparison", passed=False, code=CHECK_IMPOSSIBLE, detail=detail, other=other)


def _patience_over(*replicas: Replica) -> bool:
    return all(replica.receipt.received_at + CHECK_PATIENCE < timezone.now() for replica in replicas)


class _ReplicaCheck:
    """The four checks of one replica; later ones build on what earlier ones have read."""

    def __init__(self, job: Job, replica: Replica) -> None:
        self._descriptor = Descriptor.model_validate(job.descriptor)
        if replica.node_key is None:
            raise ValueError(f"replica {replica.pk} has a receipt and no key that took its lease")
        self._replica, self._key = replica, PublicKey(bytes(replica.node_key.public_key))
        self._receipt: Receipt = replica.receipt
        self._statement: Statement
        self._predicate: ReceiptPredicate
        self._archive: ArchiveInfo

    def make(self, name: str) -> dict[str, Any]:
        """Makes the check and returns what it found, for the evidence. Raises VerificationError."""
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "signature": self._signature,
            "archive": self._archive_bytes,
            "outputs": self._outputs,
            "log": self._log,
        }
        return makers[name]()

    def _signature(self) -> dict[str, Any]:
        replica = self._replica
        payload = envelope_open(bytes(self._receipt.envelope), payload_type=PAYLOAD_TYPE_STATEMENT, key=self._key)
        self._statement = statement_parse(payload, predicate_type=RECEIPT_PREDICATE_TYPE)
        try:
            self._predicate = ReceiptPredicate.model_validate(self._statement.predicate)
        except ValidationError as error:
            raise StatementMalformedError(f"The receipt's predicate has {error.error_count()} faults.") from error
        expected = {
            "order_digest": replica.order_digest,
            "replica_id": replica.pk,
            "lease_id": replica.lease_id,
            "node_key_id": self._key.key_id,
            "outcome": "completed",
        }
        for field, value in expected.items():
            if (found := getattr(self._predicate, field)) != value:
                raise ReceiptContradictionError(f"The receipt's {field} is {found}; its replica's is {value}.")
        return {"key": self._key.key_id, "order": replica.order_digest}

    def _archive_bytes(self) -> dict[str, Any]:
        stated = self._predicate.archive
        if stated is None:  # the model of a completed receipt has one; mypy can't know
            raise ReceiptContradictionError("The receipt names no archive.")
        _same("archive", stated.digest, self._receipt.archive_id)
        limits = ArchiveLimits(content_bytes=self._descriptor.run_limits.output_bytes)
        with blob_open(stated.digest) as stream:
            self._archive = archive_check(stream, limits=limits)
        _same("archive digest", stated.digest, self._archive.digest)
        _same("archive size", stated.size_bytes, self._archive.size_bytes)
        _same("result digest", self._predicate.result_digest, self._archive.result_digest)
        return {"digest": stated.digest, "result_digest": self._archive.result_digest, "files": len(self._archive.manifest.files)}

    def _outputs(self) -> dict[str, Any]:
        found = {file.path: file.digest for file in self._archive.manifest.files}
        missing = [output.path for output in self._descriptor.outputs if output.required and output.path not in found]
        if missing:
            raise OutputMissingError(f"Required outputs are not in the archive: {', '.join(missing[:20])}.")
        stated = {subject.name: subject.digest_text for subject in self._statement.subjects}
        named = {
            "archive": self._archive.digest,
            "log": self._predicate.log.digest,
            "manifest": self._archive.result_digest,
            **{f"outputs/{path}": digest for path, digest in found.items()},
        }
        for name in sorted(stated.keys() | named.keys()):
            _same(f"subject {name}", stated.get(name), named.get(name))
        return {"required": sum(output.required for output in self._descriptor.outputs), "files": len(found)}

    def _log(self) -> dict[str, Any]:
        stated = self._predicate.log
        _same("log", stated.digest, self._receipt.log_id)
        if self._receipt.log is None or self._receipt.log.size_bytes > LOG_BYTES_MAX:  # a line is read whole: bound it before
            raise LogRefusedError(f"Expected a log of at most {LOG_BYTES_MAX} bytes; found more.")
        with blob_open(stated.digest) as lines:
            summary = log_check(lines, order_digest=self._replica.order_digest, head=stated.head, lines_expected=stated.lines)
        _same("log size", stated.size_bytes, summary.size_bytes)
        return {"lines": summary.lines, "samples": summary.samples, "head": stated.head}


def _pair_compare(job: Job, one: Replica, other: Replica) -> None:
    descriptor = Descriptor.model_validate(job.descriptor)
    with _result_opened(descriptor, one) as first, _result_opened(descriptor, other) as second:
        sides = (first, second)
        try:
            comparison = results_compare(
                descriptor=descriptor, manifests=(first.manifest, second.manifest), read=lambda side, path: sides[side].read(path)
            )
        except FileUnreadableError as error:
            detail = {"message": str(error)[:1000], "worst": None}
            _evidence_write(one, "comparison", passed=False, code=error.code, detail=detail, other=other)
            return
    code = "" if comparison.agree else "results_differ"
    _evidence_write(one, "comparison", passed=comparison.agree, code=code, detail=comparison.document(), other=other)


class _OpenedResult:
    """The files of a checked archive that are compared as numbers, in a temporary folder under names of ours."""

    def __init__(self, manifest: Manifest, files: dict[str, Path]) -> None:
        self.manifest = manifest
        self._files = files

    def read(self, path: str) -> bytes:
        return self._files[path].read_bytes()


@contextmanager
def _result_opened(descriptor: Descriptor, replica: Replica) -> Iterator[_OpenedResult]:
    """The result of a replica whose archive check has passed."""
    archive = str(replica.receipt.archive_id)
    limits = ArchiveLimits(content_bytes=descriptor.run_limits.output_bytes)
    with blob_open(archive) as stream:
        manifest = archive_check(stream, limits=limits).manifest
    wanted = {rule.path for rule in rules_of(descriptor, (manifest, manifest))[0]}
    with tempfile.TemporaryDirectory(prefix="nexapod-compare-") as folder:
        files: dict[str, Path] = {}
        if wanted:
            with blob_open(archive) as stream:
                for number, member in enumerate(ArchiveReader(stream, limits=limits)):
                    if member.path in wanted:
                        files[member.path] = Path(folder) / str(number)
                        _member_save(member, files[member.path])
        yield _OpenedResult(manifest, files)


def _member_save(member: ArchiveMember, path: Path) -> None:
    """One byte beyond the limit is enough for the comparison to say that the file is too large."""
    left = FILE_BYTES_MAX + 1
    with path.open("wb") as file:
        while left > 0 and (chunk := member.read(left)):
            left -= file.write(chunk)


def _evidence_write(
    replica: Replica, check_name: str, *, passed: bool, code: str, detail: dict[str, Any], other: Replica | None = None
) -> None:
    """The first finding stands: a second worker that makes the same check adds nothing."""
    defaults = {"passed": passed, "code": code, "detail": _storable(detail)}
    Evidence.objects.get_or_create(replica=replica, check_name=check_name, other=other, defaults=defaults)


def _storable(value: Any) -> Any:
    """`value` without U+0000, which PostgreSQL can't store and a stranger's file may hold."""
    match value:
        case str():
            return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        case dict():
            return {name: _storable(inner) for name, inner in value.items()}
        case _:
            return value


def _same(what: str, stated: object, found: object) -> None:
    if stated != found:
        raise ReceiptContradictionError(f"The receipt states the {what} {str(stated)[:200]}; found {str(found)[:200]}.")


def slices_of(job_ids: Sequence[UUID], *, parallel: int) -> list[list[UUID]]:
    """Cuts a batch into header slices: one job each while few, `parallel` equal parts when many."""
    width = max(1, -(-len(job_ids) // parallel))
    return [list(job_ids[start : start + width]) for start in range(0, len(job_ids), width)]
