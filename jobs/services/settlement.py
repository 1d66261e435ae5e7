"""Settlement: from evidence to verdicts, payments, refunds and terminal states.

1. Jobs are settled in slices of SLICE_JOBS, each one short transaction: locked, read again, decided, written, each by a few statements
   however many jobs there are. A slice that fails is settled job by job; a job that fails alone is logged, and left as it was: it is
   settled again when its claim expires.
2. Idempotent: what was settled before, by whomever, is found closed and left alone. A worker that is killed loses its slice, not its batch.
3. A job is decided by jobs.verdicts from rows of evidence, nothing else. What a worker says in passing is not believed.
4. A fault of the job that was believed while results waited to be decided on (jobs/services/failures.py) ends the job if they are no
   quorum: they are cancelled, as by a fault that is reported afterwards. Not where the portal could not check one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs.bulk import rows_update
from jobs.checking.codes import CHECK_IMPOSSIBLE
from jobs.checking.documents import OWN_CHECKS
from jobs.faults import JOB_CODES, is_believed
from jobs.models import Evidence, Job, Replica
from jobs.services.conclusion import Conclusions
from jobs.services.replicas import replicas_queue
from jobs.services.transitions import JobStep, event_record, job_states_derive, steps_take
from jobs.states import JOB_OPEN, REPLICA_LIVE, REPLICA_VOTES, JobState, ReplicaState
from jobs.verdicts import AskForMore, CheckedReplica, Conclude, Decision, Dispute, NoValidResult, Wait, decide, pair

SLICE_JOBS: Final = 100

NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""`verify_claimed_until` of a replica that is checked and waits for others."""

_OF_REPLICA: Final = (
    *("job_id", "state", "created_at", "node_id", "node_key_id", "node_owner_id", "verify_claimed_until", "verdict"),
    *("failure_code", "failure_message", "concluded_at"),
    *("receipt__replica_id", "receipt__digest", "receipt__envelope", "receipt__predicate", "receipt__received_at"),
)
"""What settlement looks at. The order, most of a replica's row, is not."""

log = logging.getLogger(__name__)


def jobs_settle(*, job_ids: Sequence[UUID]) -> None:
    """Decides about each job from its evidence and carries the decision out. One job's fault keeps no other from being settled."""
    for start in range(0, len(job_ids), SLICE_JOBS):
        part = job_ids[start : start + SLICE_JOBS]
        try:
            _slice_settle(part)
        except Exception:
            log.exception("a slice of %d jobs was not settled; they are settled one by one", len(part))
            for job_id in part:
                _alone_settle(job_id)


def job_settle(*, job_id: UUID) -> Decision | None:
    """Settles one job. None when it is closed or has nothing to decide."""
    return _slice_settle([job_id]).get(job_id)


def _alone_settle(job_id: UUID) -> None:
    try:
        job_settle(job_id=job_id)
    except Exception:  # the others of its batch are paid all the same
        log.exception("job %s not settled; it is settled again when its claim expires", job_id)


def _slice_settle(job_ids: Sequence[UUID]) -> dict[UUID, Decision]:
    with transaction.atomic():
        # The descriptor, most of a job's row, is read only where more replicas are asked for.
        jobs = Job.objects.select_for_update(no_key=True).filter(pk__in=job_ids, state__in=sorted(JOB_OPEN)).defer("descriptor", "words")
        found = [_Settling(job) for job in jobs.order_by("pk")]
        _replicas_read({settling.job.pk: settling for settling in found})
        decided = {settling.job.pk: settling for settling in found if settling.reported}
        _decide(decided)
        _carry_out(list(decided.values()))
        return {job_id: settling.decision for job_id, settling in decided.items()}


class _Settling:
    """One job of a slice. `reported` in the order in which their receipts came, the rest of its replicas in `others`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reported: list[Replica] = []
        self.others: list[Replica] = []
        self.own: dict[UUID, dict[str, bool | None]] = {}
        self.unchecked: set[UUID] = set()
        self.comparisons: dict[frozenset[UUID], Evidence] = {}
        self.decision: Decision = Wait({})

    def decide(self) -> Decision:
        outstanding = sum(one.state == ReplicaState.QUEUED or ReplicaState(one.state) in REPLICA_LIVE for one in self.others)
        votes = len(self.reported) + sum(ReplicaState(one.state) in REPLICA_VOTES for one in self.others)
        return decide(
            replicas=[self._checked(replica.pk) for replica in self.reported],
            agreements={
                key: None if row.code == CHECK_IMPOSSIBLE else row.passed for key, row in self.comparisons.items() if row.passed is not None
            },
            quorum=self.job.quorum,
            outstanding=outstanding,
            may_ask=max(0, self.job.replicas_max - votes - outstanding),
        )

    def fault_believed(self) -> Replica | None:
        """The newest failure of those that end the job, since these results are no quorum. None: there is none that does."""
        of_job = [one for one in self.others if one.state == ReplicaState.FAILED and one.failure_code in JOB_CODES]
        seen = [(one.failure_code, one.node_owner_id) for one in of_job]
        is_unmade = self.unchecked or any(row.code == CHECK_IMPOSSIBLE for row in self.comparisons.values())
        if is_unmade or not is_believed(seen, copies=self.job.copies, owners_min=settings.NEXA_FAULT_OWNERS):
            return None
        return max(of_job, key=lambda one: one.concluded_at or one.created_at)

    def _checked(self, replica_id: UUID) -> CheckedReplica:
        if replica_id in self.unchecked:
            return CheckedReplica(replica_id, None, unchecked=True)
        return CheckedReplica(replica_id, _valid(self.own.get(replica_id, {})))


def _replicas_read(by_job: Mapping[UUID, _Settling]) -> None:
    replicas = Replica.objects.filter(job__in=list(by_job)).select_related("receipt").only(*_OF_REPLICA)
    for replica in replicas.order_by("receipt__received_at", "created_at", "pk"):
        settling = by_job[replica.job_id]
        replica.job = settling.job
        (settling.reported if replica.state == ReplicaState.REPORTED else settling.others).append(replica)


def _decide(by_job: Mapping[UUID, _Settling]) -> None:
    """Reads the evidence of all and gives each its decision, and each reported replica its verdict."""
    home = {replica.pk: settling for settling in by_job.values() for replica in settling.reported}
    own = Evidence.objects.filter(replica__in=list(home), other=None)
    for replica_id, check_name, passed, code in own.values_list("replica_id", "check_name", "passed", "code"):
        home[replica_id].own.setdefault(replica_id, {})[check_name] = passed
        if code == CHECK_IMPOSSIBLE:
            home[replica_id].unchecked.add(replica_id)
    several = [replica.pk for settling in by_job.values() if len(settling.reported) > 1 for replica in settling.reported]
    for row in Evidence.objects.filter(replica__in=several, other__in=several):
        if row.other_id is not None and home[row.replica_id] is home[row.other_id]:
            home[row.replica_id].comparisons[pair(row.replica_id, row.other_id)] = row
    for settling in by_job.values():
        settling.decision = settling.decide()
        for replica in settling.reported:
            replica.verdict = settling.decision.verdicts[replica.pk]


def _valid(checks: Mapping[str, bool | None]) -> bool | None:
    """False as soon as one check failed, True when all were made and passed."""
    outcomes = [checks.get(name) for name in OWN_CHECKS]
    if False in outcomes:
        return False
    return None if None in outcomes else True


def _carry_out(slice_: Sequence[_Settling]) -> None:
    conclusions = Conclusions()
    waiting: list[_Settling] = []
    for settling in slice_:
        job, reported = settling.job, settling.reported
        match settling.decision:
            case Conclude(canonical=canonical):
                conclusions.result_add(
                    job, reported, others=settling.others, canonical_id=canonical, comparisons=list(settling.comparisons.values())
                )
            case NoValidResult():
                message = "No host's result passed its own checks; the evidence of each replica says which check failed."
                conclusions.failure_add(job, reported, others=settling.others, code="results_invalid", message=message)
            case Wait(checks_missing=True):
                waiting.append(settling)
            case _ if (fault := settling.fault_believed()) is not None:
                code, message = fault.failure_code, fault.failure_message
                conclusions.failure_add(job, [], others=[*settling.others, *reported], code=code, message=message)
            case Dispute():
                job_dispute(job=job)
                waiting.append(settling)
            case AskForMore(count=count):
                event_record(job=job, kind="job.replicas_added", payload={"count": count}, public=False)
                replicas_queue(job=job, count=count)
                waiting.append(settling)
            case Wait():
                waiting.append(settling)
    conclusions.write()
    _wait(waiting)


def job_dispute(*, job: Job) -> None:
    """A moderator has to look at an open job's results. The caller holds its lock, and nothing of it is queued or out."""
    deadline_at = timezone.now() + timedelta(seconds=settings.NEXA_DISPUTE_SECONDS)
    steps = [] if job.state == JobState.VERIFYING else [JobStep(job, JobState.VERIFYING)]
    steps_take([*steps, JobStep(job, JobState.DISPUTED, fields={"dispute_deadline_at": deadline_at})])


def _wait(waiting: Sequence[_Settling]) -> None:
    """Keeps verdicts so far, and the dispatcher from claiming them before another receipt comes. Missing checks can't rest."""
    if not waiting:
        return
    for settling in waiting:
        is_missing = isinstance(settling.decision, Wait) and settling.decision.checks_missing
        for replica in settling.reported:
            replica.verify_claimed_until = replica.verify_claimed_until if is_missing else NEVER
    rows_update([replica for settling in waiting for replica in settling.reported], ["verdict", "verify_claimed_until"])
    job_states_derive(jobs=[settling.job for settling in waiting if settling.job.state in JOB_OPEN])
