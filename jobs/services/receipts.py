"""Receipts: what a host says it did with orders, taken in by the batch, each once, byte for byte.

A receipt is believed here only as far as this goes:

1. The envelope is signed by a key of the node that sends it, and holds one receipt statement.
2. It names a lease of this node, and that lease's replica and order, and the key that took it, which the node may have replaced since.
3. The blobs that it names came along with it, or were committed by this lease's own uploads, with the sizes that it says.
4. Its run doesn't end before it starts.

What the blobs hold is for verification. The same receipt again gives the same answer; another one for the same lease is refused.

While the job is open, a receipt counts even if the lease had expired. After that it is recorded as late, unpaid, and its blobs may be
missing: a host whose job is closed need not finish its uploads.

A batch is one transaction with a handful of statements, whatever its size: of a lease that lives, of an open job that no other receipt of
the batch is about. What is more than that (a failure, an expired lease, a job that is closed) is taken in by itself, after the others.
A receipt that is refused holds no other up.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import Q

from jobs.blobs import blobs_keep
from jobs.bulk import rows_insert
from jobs.models import Job, Receipt, Replica, Upload
from jobs.nudges import nudge_on_commit, verification_nudge
from jobs.services.breakers import breakers_consider
from jobs.services.failures import replica_failed
from jobs.services.receipt_reading import NodeKeys, ReadReceipt, receipt_read
from jobs.services.transitions import ReplicaStep, job_states_derive, replica_transition, steps_take
from jobs.services.uploads import LeaseUnknownError
from jobs.states import JOB_OPEN, REPLICA_LIVE, REPLICA_VOTES, JobState, ReplicaState
from ledger.movements import balances_lock
from ledger.services import accounts_of
from nodes.models import Node
from workers.protocol.errors import VerificationError
from workers.protocol.messages.delivery import SubmittedReceipt
from workers.protocol.messages.receipt import FailureCode, StoredObject
from workers.protocol.problems import ProblemError

log = logging.getLogger(__name__)

_OF_REPLICA: Final = ("lease_id", "job_id", "state", "order_digest", "node_key_id")
"""What a receipt is held against."""


class ReceiptMismatchError(ProblemError):
    """The receipt is about another order, replica or node than its lease."""

    code: ClassVar[str] = "receipt_mismatch"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The receipt does not fit its lease"


class ReceiptBlobMissingError(ProblemError):
    """The receipt names bytes that neither came along nor were uploaded for its lease."""

    code: ClassVar[str] = "receipt_blob_missing"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Bytes that the receipt names are missing"


class ReceiptConflictError(ProblemError):
    """There is another receipt for the lease."""

    code: ClassVar[str] = "receipt_conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "There is another receipt for this lease"


class ReceiptNotTakenError(ProblemError):
    """Our fault: this receipt, and no other of its batch, could not be written."""

    code: ClassVar[str] = "receipt_not_taken"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The receipt could not be taken in"


Refusal = ProblemError | VerificationError


@dataclass(frozen=True, slots=True)
class TakenReceipt:
    """A receipt that is in the books. `late`: it came when it could not count any more."""

    replica_id: UUID
    digest: str
    received_at: datetime
    late: bool


Result = TakenReceipt | Refusal


def receipts_accept(*, node: Node, submitted: Sequence[SubmittedReceipt], now: datetime) -> list[Result]:
    """Takes in receipts of `node`; of each, in order, its row, which may be there from before, or why it is refused.

    Refusals: those of `receipt_read`, LeaseUnknownError, ReceiptMismatchError, ReceiptBlobMissingError, ReceiptConflictError,
    ReceiptNotTakenError.
    """
    keys = NodeKeys(node)
    results: dict[int, Result] = {}
    read: dict[int, ReadReceipt] = {}
    for place, one in enumerate(submitted):
        try:
            read[place] = receipt_read(one, keys=keys)
        except (ProblemError, VerificationError) as error:
            results[place] = error
    if read:
        results |= _batch_accept(node, read, now)
    return [results[place] for place in range(len(submitted))]


def _batch_accept(node: Node, read: Mapping[int, ReadReceipt], now: datetime) -> dict[int, Result]:
    """All at once; where that fails by a fault of ours, each alone, so that one that can't be written holds no other up."""
    try:
        with transaction.atomic():
            return _Batch(node, read, now).take()
    except OperationalError:
        raise  # the database is away: nothing was written, and all of it is sent again
    except Exception:
        log.exception("a batch of %d receipts of node %s was not taken in at once", len(read), node.pk)
        if len(read) > 1:
            return {place: result for place, one in read.items() for place, result in _batch_accept(node, {place: one}, now).items()}
        fault = ReceiptNotTakenError("A fault of the portal; nothing of this receipt was recorded. Send it again later.")
        return dict.fromkeys(read, fault)


class _Batch:
    """Receipts that are taken in within one transaction, under the locks of their jobs and replicas."""

    def __init__(self, node: Node, read: Mapping[int, ReadReceipt], now: datetime) -> None:
        self._node = node
        self._read = read
        self._now = now
        self._results: dict[int, Result] = {}
        self._replicas: dict[UUID | None, Replica] = {}
        """By lease."""
        self._receipts: dict[UUID, TakenReceipt] = {}
        """By replica."""
        self._failures: list[tuple[Job, FailureCode]] = []
        self._uploaded: set[tuple[UUID | None, str, int]] = set()
        self._kept: set[str] = set()
        """Digests of blobs that came along and are kept."""

    def take(self) -> dict[int, Result]:
        """The result of each. Raises what the database raises."""
        self._lock()
        fitting = {place: replica for place in self._read if (replica := self._fitting(place)) is not None}
        self._uploads_look_up(fitting)
        receipts_of = Counter(replica.job_id for replica in fitting.values())
        plain = {place: one for place, one in fitting.items() if receipts_of[one.job_id] == 1 and self._is_plain(place, one)}
        # All blobs before all rows that refer to them, in one order: two batches that bring the same bytes don't deadlock.
        blobs = self._blobs(fitting)
        blobs_keep(blobs)
        self._kept = set(blobs)
        self._plain_take(plain)
        self._balances_lock({replica.job_id for place, replica in fitting.items() if self._read[place].predicate.failure is not None})
        for place, replica in fitting.items():
            if place not in plain:
                self._single_take(place, replica)
        breakers_consider(self._failures, now=self._now)
        return self._results

    def _lock(self) -> None:
        """The leases that are named, their jobs first, each in the order of their ids.

        With them, by the same statement, the other leases of these jobs that are out: a failure may end the job and cancel them, and a
        renewal of another host locks any of them in that order.
        """
        named = Q(node=self._node, lease_id__in={one.predicate.lease_id for one in self._read.values()})
        of_named = Replica.objects.filter(named).values("job")
        locked = Job.objects.select_for_update(no_key=True).filter(pk__in=of_named).only("state", "was_taken").order_by("pk")
        jobs = {job.pk: job for job in locked}
        replicas = Replica.objects.filter(named | Q(state__in=REPLICA_LIVE), job__in=list(jobs))
        for replica in replicas.select_for_update(no_key=True).only("node_id", *_OF_REPLICA).order_by("pk"):
            if replica.node_id == self._node.pk:
                replica.job = jobs[replica.job_id]
                self._replicas[replica.lease_id] = replica
        known = Receipt.objects.filter(replica__in=[replica.pk for replica in self._replicas.values()])
        self._receipts = {row[0]: TakenReceipt(*row) for row in known.values_list("replica_id", "digest", "received_at", "late")}

    def _balances_lock(self, failing: Collection[UUID]) -> None:
        """Of the owners of jobs that may end, where there are several: each gets its reservation back by a movement of its own."""
        if len(failing) > 1:
            owners = set(Job.objects.filter(pk__in=failing).values_list("owner", flat=True))
            balances_lock([account.pk for account in accounts_of(owners).values()])

    def _fitting(self, place: int) -> Replica | None:
        """The replica that a receipt is to be taken in for; None where its result is known now."""
        one = self._read[place]
        replica = self._replicas.get(one.predicate.lease_id)
        try:
            if replica is None:
                raise LeaseUnknownError(
                    "This node has no lease of the id that the receipt names. Send a receipt by the node that ran the order."
                )
            known = self._receipts.get(replica.pk)
            if known is not None:
                self._results[place] = _same_receipt(known, one)
                return None
            _lease_check(one, replica)
        except ProblemError as error:
            self._results[place] = error
            return None
        return replica

    def _uploads_look_up(self, fitting: Mapping[int, Replica]) -> None:
        """What was uploaded for leases whose receipts didn't bring all that they name."""
        wanting = [replica.pk for place, replica in fitting.items() if any(self._missing(place))]
        if wanting:
            found = Upload.objects.filter(replica__in=wanting, committed_at__isnull=False)
            self._uploaded = set(found.values_list("replica_id", "digest", "size_bytes"))

    def _missing(self, place: int) -> list[StoredObject]:
        """What a receipt names and didn't bring along."""
        one = self._read[place]
        named = [one.predicate.log, *([one.predicate.archive] if one.predicate.archive else [])]
        return [stated for stated in named if stated.digest not in one.blobs]

    def _is_plain(self, place: int, replica: Replica) -> bool:
        """Whether nothing follows from a receipt but that there is a result."""
        is_live = ReplicaState(replica.state) in REPLICA_LIVE and JobState(replica.job.state) in JOB_OPEN
        return is_live and self._read[place].predicate.failure is None

    def _blobs(self, fitting: Mapping[int, Replica]) -> dict[str, bytes]:
        """What came along with receipts that will be recorded: of several for one lease only the first is, however often it is sent.

        Bytes of a receipt that is refused, since others are missing, are not kept: a host could fill the store with them.
        """
        whole = {place: one for place, one in fitting.items() if not self._absent(place, one) or not _may_count(one)}
        first = {replica.pk: self._read[place].digest for place, replica in reversed(list(whole.items()))}
        counted = [self._read[place] for place, replica in whole.items() if self._read[place].digest == first[replica.pk]]
        return {digest: data for one in counted for digest, data in one.blobs.items()}

    def _plain_take(self, plain: Mapping[int, Replica]) -> None:
        records = {}
        for place, replica in plain.items():
            try:
                records[place] = self._record(place, replica, late=False)
            except ProblemError as error:
                self._results[place] = error
        if records:
            self._write(records)
            steps_take([ReplicaStep(plain[place], ReplicaState.REPORTED) for place in records])
            _reported([plain[place].job for place in records])

    def _single_take(self, place: int, replica: Replica) -> None:
        """One that more may follow from, or that another of the batch may have changed the state of the job for."""
        one = self._read[place]
        known = self._receipts.get(replica.pk)
        if known is not None:
            self._results[place] = _same_receipt(known, one)
            return
        job, replica = Job.objects.get(pk=replica.job_id), Replica.objects.get(pk=replica.pk)
        replica.job, late = job, _is_late(replica, job)
        try:
            self._write({place: self._record(place, replica, late=late)})
        except ProblemError as error:
            self._results[place] = error
            return
        if late:
            return
        if one.predicate.failure is not None:
            replica_failed(replica=replica, job=job, failure=one.predicate.failure, now=self._now)
            self._failures.append((job, one.predicate.failure.code))
            return
        if replica.state == ReplicaState.EXPIRED:
            _substitute_withdraw(replica, job, self._now)
        replica_transition(replica=replica, to=ReplicaState.REPORTED)
        _reported([job])

    def _write(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Inserts rows of receipts, which are the results of those that they were made of."""
        like = Receipt()
        rows_insert(like, list(records.values()))
        for place, record in records.items():
            taken = TakenReceipt(record["replica_id"], record["digest"], like.received_at, record["late"])
            self._results[place] = self._receipts[taken.replica_id] = taken

    def _record(self, place: int, replica: Replica, *, late: bool) -> dict[str, Any]:
        """The row to write. Raises ReceiptBlobMissingError."""
        one = self._read[place]
        missing = self._absent(place, replica)
        predicate = one.predicate
        archive = predicate.archive.digest if predicate.archive else None
        if missing and not late:
            name, stated = ("log", predicate.log) if predicate.log.digest in missing else ("archive", predicate.archive)
            size_bytes, digest = (stated.size_bytes, stated.digest) if stated else (0, "")
            raise ReceiptBlobMissingError(
                f"The {name}, {size_bytes} bytes with the digest {digest}, neither came along nor was uploaded for this lease. "
                "Upload it, then send the receipt again.",
                digest=digest,
            )
        missing |= one.blobs.keys() - self._kept
        return {
            "replica_id": replica.pk,
            "envelope": one.envelope,
            "digest": one.digest,
            "predicate": predicate.model_dump(mode="json"),
            "archive_id": archive if archive not in missing else None,
            "log_id": predicate.log.digest if predicate.log.digest not in missing else None,
            "result_digest": predicate.result_digest or "",
            "late": late,
        }

    def _absent(self, place: int, replica: Replica) -> set[str]:
        """Digests of what a receipt names and neither came along nor was uploaded."""
        return {stated.digest for stated in self._missing(place) if not self._is_uploaded(replica, stated)}

    def _is_uploaded(self, replica: Replica, stated: StoredObject) -> bool:
        return (replica.pk, stated.digest, stated.size_bytes) in self._uploaded


def _same_receipt(known: TakenReceipt, one: ReadReceipt) -> Result:
    if known.digest == one.digest:
        return known
    return ReceiptConflictError(f"The receipt {known.digest} is recorded for this lease; found {one.digest}. A lease has one receipt.")


def _lease_check(one: ReadReceipt, replica: Replica) -> None:
    """Raises ReceiptMismatchError."""
    for name, expected, stated in (
        ("order_digest", replica.order_digest, one.predicate.order_digest),
        ("replica_id", str(replica.pk), str(one.predicate.replica_id)),
        ("node_key_id", str(replica.node_key_id), one.predicate.node_key_id),
        ("key", str(replica.node_key_id), one.key.key_id),
    ):
        if stated != expected:
            raise ReceiptMismatchError(f"The lease {replica.lease_id} has {name} {expected}; the receipt says {stated}.", member=name)


def _may_count(replica: Replica) -> bool:
    """False: a receipt for it is late for certain."""
    return JobState(replica.job.state) in JOB_OPEN and ReplicaState(replica.state) in REPLICA_LIVE | {ReplicaState.EXPIRED}


def _is_late(replica: Replica, job: Job) -> bool:
    """Whether this receipt can't count: its job is closed, or the lease was cancelled."""
    state = ReplicaState(replica.state)
    if not _may_count(replica):
        return True
    # A lease that expired and another of the same owner that reported since: one vote for each owner.
    votes = job.replicas.filter(node_owner=replica.node_owner_id, state__in=REPLICA_VOTES)
    return state == ReplicaState.EXPIRED and votes.exists()


def _reported(jobs: Sequence[Job]) -> None:
    """What follows for jobs that have results now."""
    # Receipts before these may have been checked and wait for company: now there is some.
    waiting = Replica.objects.filter(job__in=[job.pk for job in jobs], state=ReplicaState.REPORTED, verify_claimed_until__isnull=False)
    waiting.update(verify_claimed_until=None)
    job_states_derive(jobs=jobs)
    nudge_on_commit(verification_nudge)


def _substitute_withdraw(replica: Replica, job: Job, now: datetime) -> None:
    """An expired lease reports after all: its substitute is needed no more, unless somebody works on it."""
    own = job.replicas.select_for_update(no_key=True).filter(node_owner=replica.node_owner_id, state__in=REPLICA_LIVE).first()
    queued = job.replicas.select_for_update(no_key=True).filter(state=ReplicaState.QUEUED).order_by("-created_at").first()
    surplus = own or queued
    if surplus is not None:
        surplus.job = job
        reason = "The lease that this one stood in for was reported."
        replica_transition(replica=surplus, to=ReplicaState.CANCELLED, cancel_reason=reason, concluded_at=now)
