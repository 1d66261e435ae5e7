"""The custody line: six marks from submission to credit, for a job and for one replica; and the verdict as a sentence. Pure.

1. Marks are reached in order: submitted, leased, run, signed, verified, credited. What is reached is done.
2. The first that isn't is where custody is now: under way while the job is open, broken where it ended without a result.
3. Nothing here tells what a replica delivered before its job is concluded: callers hand in only what may be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from jobs.states import JobState, ReplicaState

MARKS: Final = ("submitted", "leased", "run", "signed", "verified", "credited")


_ALONE: Final = {
    JobState.RUNNING: "A host is at work, or what it delivered is checked; it is shown when it has passed.",
    JobState.VERIFYING: "The receipt is in; the coordinator checks it.",
}
"""Where one result is enough and nothing agrees with anything."""
_SENTENCES: Final = {
    JobState.QUEUED: "Waits for a host of its tier with room for it.",
    JobState.RUNNING: "Hosts are at work, or what they delivered is compared; it is shown once {quorum} agree.",
    JobState.VERIFYING: "Receipts are in; the coordinator checks and compares them. {quorum} must agree.",
    JobState.DISPUTED: "The replicas do not agree and no more may be asked; a moderator looks at them.",
    JobState.FAILED: "Failed; no result was accepted and nothing was paid.",
    JobState.CANCELLED: "Cancelled by its owner; the reservation went back.",
}


class MarkState(StrEnum):
    """How one mark stands; each has a colour, a shape and a word on the pages."""

    DONE = "done"
    NOW = "now"
    WAITING = "waiting"
    BROKEN = "broken"
    OPEN = "open"


@dataclass(frozen=True)
class Mark:
    """One mark of a line. `at` is when it was reached, `note` its evidence in a few words; both may be empty."""

    name: str
    state: MarkState
    at: datetime | None = None
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """What a job's replicas have been through: how many were ever leased, and how many receipts count."""

    leased: int = 0
    receipts: int = 0


def line_of(*, reached: int, is_open: bool, waits: bool, times: Sequence[datetime | None] = (), notes: Sequence[str] = ()) -> list[Mark]:
    """The six marks with the first `reached` done. `waits`: nobody has taken the next step yet."""
    here = (MarkState.WAITING if waits else MarkState.NOW) if is_open else MarkState.BROKEN
    marks = []
    for place, name in enumerate(MARKS):
        state = MarkState.DONE if place < reached else here if place == reached else MarkState.OPEN
        at = times[place] if place < len(times) else None
        marks.append(Mark(name, state, at if state != MarkState.OPEN else None, notes[place] if place < len(notes) else ""))
    return marks


def job_reached(*, state: JobState, quorum: int, progress: Progress) -> int:
    """How many marks a job has behind it."""
    if state == JobState.COMPLETED:
        return len(MARKS)
    if state == JobState.DISPUTED or progress.receipts >= quorum:  # that there is a dispute says that receipts are in
        return 4
    if progress.receipts:
        return 3
    return 2 if progress.leased else 1


def job_line(
    *, state: JobState, quorum: int, progress: Progress, times: Sequence[datetime | None] = (), notes: Sequence[str] = ()
) -> list[Mark]:
    """A job's line. A dispute is broken custody too: it goes on only by a ruling."""
    is_open = state in (JobState.QUEUED, JobState.RUNNING, JobState.VERIFYING)
    reached = job_reached(state=state, quorum=quorum, progress=progress)
    return line_of(reached=reached, is_open=is_open, waits=state == JobState.QUEUED, times=times, notes=notes)


def replica_line(*, state: ReplicaState, is_leased: bool, times: Sequence[datetime | None] = ()) -> list[Mark]:
    """A replica's line, from the state that may be shown."""
    match state:
        case ReplicaState.QUEUED:
            reached, is_open = 1, True
        case ReplicaState.LEASED | ReplicaState.RUNNING:
            reached, is_open = 2, True
        case ReplicaState.REPORTED:
            reached, is_open = 4, True
        case ReplicaState.ACCEPTED:
            reached, is_open = len(MARKS), True
        case ReplicaState.REJECTED:
            reached, is_open = 4, False
        case ReplicaState.EXPIRED | ReplicaState.FAILED | ReplicaState.CANCELLED:
            reached, is_open = 2 if is_leased else 1, False
    return line_of(reached=reached, is_open=is_open, waits=state == ReplicaState.QUEUED, times=times)


def verdict_sentence(
    *, state: JobState, quorum: int, summary: Mapping[str, Any] | None, failure_message: str = "", names_shown: bool = True
) -> str:
    """What became of a job, for people. `names_shown` False leaves out file names and messages: they are the researcher's."""
    if state == JobState.COMPLETED:
        return _agreement(summary or {}, names_shown=names_shown)
    if state == JobState.FAILED and names_shown and failure_message:
        return failure_message
    if quorum == 1 and state in _ALONE:
        return _ALONE[state]
    return _SENTENCES[state].format(quorum=quorum)


def _agreement(summary: Mapping[str, Any], *, names_shown: bool) -> str:
    if summary.get("ruled") and summary.get("reported", 0) <= 1:
        return "1 replica, its own checks passed; no host was found for the second that was to agree with it."
    if summary.get("ruled"):
        return f"A moderator upheld one of {summary.get('reported', 0)} results that did not agree; {summary.get('agreeing', 0)} accepted."
    agreeing, reported, worst = summary.get("agreeing", 0), summary.get("reported", 0), summary.get("worst")
    if reported <= 1:
        return "1 replica, its own checks passed; nothing to compare it with was asked for."
    sentence = f"{agreeing} of {reported} replicas agree"
    if not worst or worst.get("difference") is None:
        return f"{sentence}, exactly."
    within = f"{float(worst['difference']):.3g}"
    allowed = f"{float(worst['allowed']):.3g}" if worst.get("allowed") is not None else "0"
    place = f" at {worst['place']} of {worst['file']}" if names_shown and worst.get("file") else ""
    return f"{sentence}; worst deviation {within}, tolerance {allowed}{place}."
