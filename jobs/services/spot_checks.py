"""A spot check that finds no host: of a job that was drawn to run twice, nobody took the second run within the queue deadline.

1. The one result that is there, if it passed its own checks, stands by the default ruling: its host did what it was asked for and is paid,
   and the researcher has what nine of ten `spot` jobs bring. Job, bundle and log say that it was ruled on, and not agreed.
2. Results that disagree, or don't pass, are none to stand: then the job fails like any other that nobody took.
3. Before the result is checked, nothing is decided.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto

from jobs.checking.documents import OWN_CHECKS
from jobs.models import Evidence, Job, Ruling
from jobs.services.conclusion import ruling_conclude
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


def spot_check_end(*, job: Job, permitted: timedelta) -> Standing:
    """Concludes a job whose spot check found no host in the time `permitted`, if its first result may stand. The caller holds its lock."""
    reported = list(job.replicas.filter(state=ReplicaState.REPORTED).select_related("receipt", "node", "node_owner")[:2])
    if not job.spot_chosen or len(reported) != 1:
        return Standing.NONE
    (only,) = reported
    outcomes = dict(Evidence.objects.filter(replica=only, other=None).values_list("check_name", "passed"))
    if False in outcomes.values():
        return Standing.NONE
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
