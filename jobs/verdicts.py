"""From checked replicas to a decision about their job. Pure.

1. A replica whose own checks failed is invalid: it neither votes nor earns.
2. Two valid replicas agree or not; tolerance is not transitive, so agreement is asked of pairs, never chained.
3. Nothing is decided while a check or a comparison of a reported replica is missing: each of them gets its verdict once, from all there is.
4. The canonical result is the earliest valid replica that agrees with quorum - 1 others. They are accepted with it; so is every further one
   that agrees with it. The rest disagree.
5. Without a quorum: wait while enough replicas are still out; else ask for as many as are missing; at the cap, dispute.
6. A job whose every replica is invalid and that may have no more has no result to dispute: it fails.
7. What the portal could not check is nobody's fault. A replica with such a check has no vote and is not invalid, and a pair that could not
   be compared does not agree and does not disagree: more are asked for, at the cap a person looks (a dispute), and what a quorum of others
   leaves over stays undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Verdict(StrEnum):
    """What verification says of one replica."""

    AGREE = "agree"
    DISAGREE = "disagree"
    INVALID = "invalid"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class CheckedReplica:
    """A reported replica. `valid` is whether it passed its own checks; None while one has still to be made, or (`unchecked`) never will."""

    replica_id: UUID
    valid: bool | None
    unchecked: bool = False


@dataclass(frozen=True)
class Conclude:
    """The quorum is met."""

    canonical: UUID
    verdicts: Mapping[UUID, Verdict]


@dataclass(frozen=True)
class Wait:
    """Replicas that are out may still bring the quorum, or (`checks_missing`) checks that are not made yet."""

    verdicts: Mapping[UUID, Verdict]
    checks_missing: bool = False


@dataclass(frozen=True)
class AskForMore:
    """The quorum needs this many replicas beyond those that are out."""

    count: int
    verdicts: Mapping[UUID, Verdict]


@dataclass(frozen=True)
class Dispute:
    """Valid replicas disagree and the cap is reached."""

    verdicts: Mapping[UUID, Verdict]


@dataclass(frozen=True)
class NoValidResult:
    """Every replica is invalid and the cap is reached."""

    verdicts: Mapping[UUID, Verdict]


Decision = Conclude | Wait | AskForMore | Dispute | NoValidResult


def pair(one: UUID, other: UUID) -> frozenset[UUID]:
    """The key of an unordered pair in `agreements`."""
    return frozenset((one, other))


def decide(
    *,
    replicas: Sequence[CheckedReplica],
    agreements: Mapping[frozenset[UUID], bool | None],
    quorum: int,
    outstanding: int,
    may_ask: int,
) -> Decision:
    """What to do with a job.

    `replicas` in the order in which their receipts came; `agreements` holds the compared pairs, None for one that never can be compared;
    `outstanding` replicas are queued or running; `may_ask` is how many more the cap allows. The answer depends on nothing else, so it can
    be recomputed from the evidence.
    """
    verdicts = {r.replica_id: Verdict.INVALID if r.valid is False else Verdict.UNDECIDED for r in replicas}
    valid = [r.replica_id for r in replicas if r.valid]
    agreeing = {one: [other for other in valid if other != one and agreements.get(pair(one, other))] for one in valid}

    if any(r.valid is None and not r.unchecked for r in replicas) or _comparison_missing(valid, agreements):
        return Wait(verdicts, checks_missing=True)
    for candidate in valid:
        if len(agreeing[candidate]) + 1 >= quorum:
            for replica_id in valid:
                if replica_id == candidate or agreements[pair(candidate, replica_id)]:
                    verdicts[replica_id] = Verdict.AGREE
                elif agreements[pair(candidate, replica_id)] is False:
                    verdicts[replica_id] = Verdict.DISAGREE
            return Conclude(canonical=candidate, verdicts=verdicts)
    missing = quorum - max((len(others) + 1 for others in agreeing.values()), default=0) - outstanding
    if missing <= 0:
        return Wait(verdicts)
    if missing <= may_ask:
        return AskForMore(count=missing, verdicts=verdicts)
    if outstanding:
        return Wait(verdicts)
    return Dispute(verdicts) if valid or any(r.unchecked for r in replicas) else NoValidResult(verdicts)


def _comparison_missing(valid: Sequence[UUID], agreements: Mapping[frozenset[UUID], bool | None]) -> bool:
    """Whether some pair has not been compared yet."""
    return any(pair(one, other) not in agreements for place, one in enumerate(valid) for other in valid[place + 1 :])
