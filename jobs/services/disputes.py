"""Disputes: valid results that disagree, and how such a job ends all the same.

1. A moderator upholds one result: its replica, and every one that agrees with it pairwise, is accepted and paid as by a quorum; the rest is
   rejected, unpaid. What could not be compared with it stays undecided. Or none: the job fails, nobody is paid, the reservation comes back.
   One that the portal could not check may be upheld, if the key of its node signed it: no payment is without a receipt in the log.
2. Nobody rules on a job of their own, or on one that a node of theirs ran.
3. At the deadline the default ruling is given: none is upheld.
4. Each job has one ruling, which stays on record with its reason.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from jobs.checking.codes import CHECK_IMPOSSIBLE
from jobs.checking.documents import COMPARISON
from jobs.errors import JobNotDisputedError, RulingForbiddenError, RulingInterestError, RulingInvalidError
from jobs.models import Evidence, Job, Replica, Ruling
from jobs.services.conclusion import replicas_signed, ruling_conclude, ruling_fail
from jobs.states import JobState, ReplicaState
from jobs.verdicts import Verdict
from people.models import User
from people.moderation.models import ActKind
from people.moderation.trail import act_record

log = logging.getLogger(__name__)

RULINGS_MAX: Final = 500
"""Disputes that one run rules on; beat runs it again in a minute."""

REASON_CHARACTERS_MAX: Final = 2000

_DEFAULT_REASON: Final = (
    "The hosts' results disagree, and nobody ruled in time. No result is accepted and nobody is paid; the reservation is back. "
    "The comparisons say where results differ: widen the tolerance if they should agree, or fix what makes the program vary."
)


def dispute_rule(*, job: Job, by: User, canonical: Replica | None, reason: str) -> Ruling:
    """Ends a dispute as a moderator says. `canonical` None upholds no result. The reason is shown to the job's owner.

    Raises JobNotDisputedError, RulingForbiddenError, RulingInterestError, RulingInvalidError.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= REASON_CHARACTERS_MAX:
        raise RulingInvalidError(
            f"A ruling gives a reason of up to {REASON_CHARACTERS_MAX} characters, which the job's owner reads; found {len(reason)}."
        )
    with transaction.atomic():
        locked = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
        if locked.state != JobState.DISPUTED:
            raise JobNotDisputedError(f"Only a disputed job is ruled on, and only once; this one is {locked.state}.")
        ruling_check(job=locked, by=by)
        upheld = "none" if canonical is None else str(canonical.pk)
        act_record(by=by, kind=ActKind.DISPUTE_RULED, about=locked, reason=reason, detail={"upheld": upheld})
        if canonical is None:
            message = f"A moderator ruled that no result stands; nobody is paid and the reservation is back. {reason}"
            return _uphold_none(locked, by=by, reason=reason, code="dispute_none_upheld", message=message)
        return _uphold(locked, canonical.pk, by=by, reason=reason)


def ruling_check(*, job: Job, by: User) -> None:
    """Raises RulingForbiddenError, RulingInterestError."""
    if not (by.is_active and by.is_staff):
        raise RulingForbiddenError("Only moderators rule on disputes; ask the operator of this portal.")
    if job.owner_id == by.pk:
        raise RulingInterestError("This job is yours: another moderator has to rule on it.")
    if job.replicas.filter(node_owner=by).exists():
        raise RulingInterestError("A node of yours ran this job: another moderator has to rule on it.")


def moderators() -> QuerySet[User]:
    """Who may rule on disputes."""
    return User.objects.filter(is_active=True, is_staff=True)


def may_be_upheld(replica: Replica) -> bool:
    """Whether a reported replica's result may stand: every result but one that failed its own checks."""
    return replica.state == ReplicaState.REPORTED and replica.verdict != Verdict.INVALID


def disputes_rule(*, now: datetime) -> int:
    """Gives overdue disputes the default ruling: no result, no payment, the reservation back. Returns how many.

    One that can't be ruled on is logged, and keeps no other from it.
    """
    overdue = Job.objects.filter(state=JobState.DISPUTED, dispute_deadline_at__lte=now).values_list("pk", flat=True)
    return sum(_default_ruling(job_id) for job_id in list(overdue[:RULINGS_MAX]))


def _default_ruling(job_id: UUID) -> bool:
    try:
        with transaction.atomic():
            job = Job.objects.select_for_update(no_key=True).get(pk=job_id)
            if job.state != JobState.DISPUTED:
                return False  # ruled since
            _uphold_none(job, by=None, reason=_DEFAULT_REASON, code="dispute_unresolved", message=_DEFAULT_REASON)
            return True
    except Exception:  # as above
        log.exception("the default ruling on job %s could not be given", job_id)
        return False


def _uphold(job: Job, canonical_id: UUID, *, by: User, reason: str) -> Ruling:
    reported = _reported(job)
    canonical = next((replica for replica in reported if replica.pk == canonical_id), None)
    if canonical is None or not may_be_upheld(canonical):
        raise RulingInvalidError("Only a result of this job that passed its own checks, as far as they could be made, can be upheld.")
    if canonical.pk not in replicas_signed([canonical]):
        raise RulingInvalidError(
            "The portal could not check this result, and its receipt is not signed by the key of its node. Uphold another one, or none."
        )
    compared = _compared_with(canonical, reported)
    for replica in reported:
        if replica.pk in compared:
            replica.verdict = Verdict.AGREE if compared[replica.pk] else Verdict.DISAGREE
    ruling_conclude(job=job, reported=reported, canonical_id=canonical_id)
    return Ruling.objects.create(job=job, by=by, canonical=canonical, reason=reason)


def _uphold_none(job: Job, *, by: User | None, reason: str, code: str, message: str) -> Ruling:
    ruling_fail(job=job, reported=_reported(job), code=code, message=message, is_ruled=by is not None)
    return Ruling.objects.create(job=job, by=by, canonical=None, reason=reason)


def _reported(job: Job) -> list[Replica]:
    """The replicas that are ruled on, locked, in the order of their receipts."""
    found = job.replicas.filter(state=ReplicaState.REPORTED).select_related("receipt", "node", "node_owner")
    replicas = list(found.order_by("receipt__received_at", "pk").select_for_update(of=("self",), no_key=True))
    for replica in replicas:
        replica.job = job
    return replicas


def _compared_with(canonical: Replica, reported: Sequence[Replica]) -> dict[UUID, bool]:
    """Whether those that could be compared with the canonical one agree with it, as it does with itself."""
    pairs = Evidence.objects.filter(check_name=COMPARISON, replica__in=reported, other__in=reported)
    made = pairs.exclude(code=CHECK_IMPOSSIBLE).values_list("replica", "other", "passed")
    compared = {canonical.pk: True}
    for replica_id, other_id, passed in made:
        if passed is not None and canonical.pk in (replica_id, other_id):
            compared[other_id if replica_id == canonical.pk else replica_id] = passed
    return compared
