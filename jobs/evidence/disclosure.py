"""What may be shown of a job before it is concluded, to its owner as to anyone. Pure. Afterwards all is shown but what rules 7 and 8 say.

1. A host, or an owner who is one of the hosts, must learn nothing of what another replica has done: not its result or its log, not whether
   it has delivered, not whether there is one beside those that the descriptor asks for.
2. So an open job is `queued` until some host has taken it and `running` from then on, however often its replicas come and go; `disputed`
   is shown, since it may last and its owner is owed a date.
3. It has as many lines as its descriptor asks for copies; a `spot` job has one, chosen or not. The lines are its oldest replicas that have
   not ended without a result: a substitute takes the place of what it stands in for; what verification asked for beyond the copies is
   not shown.
4. Of a line is shown who runs it, since when, and how far it said it was: `queued` or `running`, so a delivered one still runs. What the
   program says about its progress is not shown: it is a part of the log.
5. Of what happened, the first `job.queued` and `job.running` are shown, and how the job ended. What happens to replicas is not.
6. A `fixed` job of one copy has no other replica to learn about: of it, all is shown but what was delivered.
7. A result that was never judged is never shown, not even its digests: its host is not paid for it. So whoever cancels a job after hosts
   have delivered gets nothing for it. What a host reported as a failure is no result.
8. Of a job that was concluded without an accepted result, archives and logs of rejected ones are not shown: nobody is paid for them, and
   else a program whose results never agree would be run for nothing. Its owner sees their checks and how far they are apart, moderators the
   bytes (jobs/disputes/admin.py). Where a result was accepted, the rejected ones beside it are shown too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from jobs.descriptor import RedundancyPolicy
from jobs.states import JOB_TERMINAL, JobState, ReplicaState

EVENTS_ONCE: Final = frozenset({f"job.{JobState.QUEUED}", f"job.{JobState.RUNNING}"})
"""Kinds of which the first event of a veiled job is shown, and no other."""

RESULT_SHOWN: Final = frozenset({ReplicaState.ACCEPTED, ReplicaState.REJECTED, ReplicaState.FAILED})
"""States of replicas of a concluded job whose receipts may be shown. Rule 7."""
BYTES_SHOWN: Final[Mapping[JobState, frozenset[ReplicaState]]] = {
    JobState.COMPLETED: RESULT_SHOWN,
    JobState.FAILED: RESULT_SHOWN - {ReplicaState.REJECTED},
    JobState.CANCELLED: RESULT_SHOWN - {ReplicaState.REJECTED},
}
"""States of replicas whose archives and logs the owner of a concluded job may have. Rules 7 and 8."""
_ENDED: Final = frozenset({ReplicaState.EXPIRED, ReplicaState.FAILED, ReplicaState.CANCELLED})


class HasState(Protocol):
    """A replica, as far as rule 3 needs it."""

    @property
    def state(self) -> str: ...


HasStateT = TypeVar("HasStateT", bound=HasState)


@dataclass(frozen=True)
class CopiesShown:
    """How many copies a job has, and how many must agree, as far as may be known."""

    copies: int
    quorum: int


def is_veiled(*, state: JobState, policy: str, copies: int) -> bool:
    """Whether rules 2 to 5 hold for a job now. Rule 6."""
    return not is_concluded(state) and (policy == RedundancyPolicy.SPOT or copies > 1)


def is_concluded(state: JobState) -> bool:
    """Whether what its replicas delivered may be shown. A dispute is not a conclusion."""
    return state in JOB_TERMINAL


def is_result_shown(*, job_state: JobState, state: ReplicaState) -> bool:
    """Rule 7: whether what a replica delivered may be shown."""
    return is_concluded(job_state) and state in RESULT_SHOWN


def is_bytes_shown(*, job_state: JobState, state: ReplicaState) -> bool:
    """Rule 8: whether the archive and the log that a replica delivered may be had."""
    return state in BYTES_SHOWN.get(job_state, ())


def copies_shown(*, state: JobState, policy: str, copies: int, quorum: int) -> CopiesShown:
    """Rule 3."""
    if policy == RedundancyPolicy.SPOT and not is_concluded(state):
        return CopiesShown(1, 1)
    return CopiesShown(copies, quorum)


def job_state_shown(*, state: JobState, was_taken: bool) -> JobState:
    """Rule 2, for a veiled job. `was_taken`: whether any replica was ever leased."""
    match state:
        case JobState.QUEUED | JobState.RUNNING | JobState.VERIFYING:
            return JobState.RUNNING if was_taken else JobState.QUEUED
        case JobState.DISPUTED | JobState.COMPLETED | JobState.FAILED | JobState.CANCELLED:
            return state


def lines_of(replicas: Sequence[HasStateT], *, copies: int) -> list[HasStateT]:
    """Rule 3: the lines of a veiled job, from all its replicas, oldest first."""
    under_way = [replica for replica in replicas if ReplicaState(replica.state) not in _ENDED]
    return under_way[:copies]


def replica_state_shown(*, state: ReplicaState) -> ReplicaState:
    """Rule 4: the state of a line of a veiled job."""
    return ReplicaState.QUEUED if state == ReplicaState.QUEUED else ReplicaState.RUNNING


def event_kind_shown(kind: str) -> bool:
    """Rule 5, of a veiled job, but for EVENTS_ONCE: of those only the first."""
    return kind.startswith("job.") and kind != f"job.{JobState.VERIFYING}"
