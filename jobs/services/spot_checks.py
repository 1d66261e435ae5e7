"""A spot check that finds no host: of a job that was drawn to run twice, nobody took the second run within the queue deadline.

1. The one result that is there, if it passed its own checks, stands by the default ruling: its host did what it was asked for and is paid,
   and the researcher has what nine of ten `spot` jobs bring. Job, bundle and log say that it was ruled on, and not agreed.
2. Results that disagree, or don't pass, are none to stand: then the job fails like any other that nobody took.
3. A result of which nothing is known but that the portal could not check it is disputed: that is no fault of its host, and a person looks.
4. Before the result is checked, nothing is decided.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto

from django.utils import timezone

from jobs.checking.codes import CHECK_IMPOSSIBLE, NOT_CHECKED
from jobs.checking.documents import OWN_CHECKS
from jobs.models import Evidence, Job, Replica, Ruling
from jobs.services.conclusion import ruling_conclude
from jobs.services.settlement import NEVER, job_dispute
from jobs.services.transitions import ReplicaStep, steps_take
from jobs.states import ReplicaState
from jobs.verdicts import Verdict
from workers.protocol.plurals import counted


class Standing(Enum):
    """What becomes of the one result."""

    NONE = auto()
    """There is none that could stand."""
    UNCHECKED = auto()
    """It is not checked yet."""
    UPHELD = auto()
    """It stands, and the job is concluded."""
    DISPUTED = auto()
    """A moderator says whether it stands."""


def spot_check_end(*, job: Job, permitted: timedelta) -> Standing:
    """Concludes a job whose spot check found no host in the time `permitted`, if its first result may stand. The caller holds its lock.

    What is still queued of it is cancelled when the job is concluded or disputed.
    """
    reported = list(job.replicas.filter(state=ReplicaState.REPORTED).select_related("receipt", "node", "node_owner")[:2])
    if not job.spot_chosen or len(reported) != 1:
        return Standing.NONE
    (only,) = reported
    checks = Evidence.objects.filter(replica=only, other=None)
    failures = set(checks.filter(passed=False).values_list("code", flat=True))
    if CHECK_IMPOSSIBLE in failures and failures <= {CHECK_IMPOSSIBLE, NOT_CHECKED}:
        _dispute(job, only)
        return Standing.DISPUTED
    if failures:
        return Standing.NONE
    outcomes = dict(checks.values_list("check_name", "passed"))
    if any(outcomes.get(name) is None for name in OWN_CHECKS):
        return Standing.UNCHECKED
    only.job, only.verdict = job, Verdict.AGREE
    ruling_conclude(job=job, reported=[only], canonical_id=only.pk)
    reason = (
        f"Drawn to run twice, and no second host took it within {counted(round(permitted.total_seconds()), 'second')}. Its one result "
        "passed its own checks and is accepted without another beside it. Submit the job anew to have it compared."
    )
    Ruling.objects.create(job=job, by=None, canonical=only, reason=reason)
    return Standing.UPHELD


def _dispute(job: Job, only: Replica) -> None:
    queued = job.replicas.select_for_update(no_key=True).filter(state=ReplicaState.QUEUED).order_by("pk")
    fields = {"cancel_reason": "A moderator has to look at the job.", "concluded_at": timezone.now()}
    steps_take([ReplicaStep(replica, ReplicaState.CANCELLED, fields=fields) for replica in queued])
    only.verdict, only.verify_claimed_until = Verdict.UNDECIDED, NEVER
    only.save(update_fields=["verdict", "verify_claimed_until"])
    job_dispute(job=job)
