"""The custody line and the verdict's sentence."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.evidence.custody import MARKS, MarkState, Progress, job_line, replica_line, verdict_sentence
from jobs.states import JobState, ReplicaState

WORST = {"file": "energies.csv", "place": "row 2, energy", "difference": 0.0041234, "allowed": 0.01}


def drawn(line: list[Any]) -> str:
    """A letter a mark: d(one), n(ow), w(aiting), b(roken), o(pen)."""
    return "".join(mark.state[0] for mark in line)


@pytest.mark.parametrize(
    ("state", "leased", "receipts", "line"),
    [
        (JobState.QUEUED, 0, 0, "dwoooo"),
        (JobState.RUNNING, 1, 0, "ddnooo"),
        (JobState.RUNNING, 2, 1, "dddnoo"),
        (JobState.QUEUED, 1, 1, "dddwoo"),
        (JobState.VERIFYING, 2, 2, "ddddno"),
        (JobState.COMPLETED, 2, 2, "dddddd"),
        (JobState.DISPUTED, 2, 2, "ddddbo"),
        (JobState.FAILED, 0, 0, "dboooo"),
        (JobState.CANCELLED, 1, 0, "ddbooo"),
    ],
)
def test_a_jobs_line_is_reached_in_order(state: JobState, leased: int, receipts: int, line: str) -> None:
    marks = job_line(state=state, quorum=2, progress=Progress(leased=leased, receipts=receipts))
    assert [mark.name for mark in marks] == list(MARKS)
    assert drawn(marks) == line


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (ReplicaState.QUEUED, "dwoooo"),
        (ReplicaState.LEASED, "ddnooo"),
        (ReplicaState.RUNNING, "ddnooo"),
        (ReplicaState.REPORTED, "ddddno"),
        (ReplicaState.ACCEPTED, "dddddd"),
        (ReplicaState.REJECTED, "ddddbo"),
        (ReplicaState.EXPIRED, "ddbooo"),
        (ReplicaState.FAILED, "ddbooo"),
    ],
)
def test_a_replicas_line(state: ReplicaState, line: str) -> None:
    assert drawn(replica_line(state=state, is_leased=True)) == line


def test_a_replica_cancelled_in_the_queue_was_never_leased() -> None:
    assert drawn(replica_line(state=ReplicaState.CANCELLED, is_leased=False)) == "dboooo"


def test_marks_not_reached_have_no_time() -> None:
    marks = job_line(state=JobState.QUEUED, quorum=1, progress=Progress(), notes=["2 copies"])
    assert (marks[0].note, marks[5].at, marks[5].state) == ("2 copies", None, MarkState.OPEN)


def completed(summary: dict[str, Any], *, names_shown: bool = True) -> str:
    return verdict_sentence(state=JobState.COMPLETED, quorum=2, summary=summary, names_shown=names_shown)


def test_agreement_says_how_many_how_far_and_where() -> None:
    summary = {"agreeing": 2, "reported": 3, "worst": WORST}
    assert completed(summary) == "2 of 3 replicas agree; worst deviation 0.00412, tolerance 0.01 at row 2, energy of energies.csv."


def test_the_public_sentence_names_no_file() -> None:
    summary = {"agreeing": 2, "reported": 2, "worst": WORST}
    assert completed(summary, names_shown=False) == "2 of 2 replicas agree; worst deviation 0.00412, tolerance 0.01."


def test_nothing_that_differs_is_exact_agreement() -> None:
    assert completed({"agreeing": 2, "reported": 2, "worst": None}) == "2 of 2 replicas agree, exactly."


def test_one_replica_agrees_with_nobody() -> None:
    assert "nothing to compare" in completed({"agreeing": 1, "reported": 1, "worst": None})


def test_a_ruling_is_no_agreement() -> None:
    summary = {"agreeing": 1, "reported": 4, "quorum": 3, "worst": None, "ruled": True}
    assert completed(summary) == "A moderator upheld one of 4 results that did not agree; 1 accepted."


def test_a_failure_keeps_its_message_from_strangers() -> None:
    words = "/data/secret-target.pdb was not there"
    assert verdict_sentence(state=JobState.FAILED, quorum=1, summary=None, failure_message=words) == words
    public = verdict_sentence(state=JobState.FAILED, quorum=1, summary=None, failure_message=words, names_shown=False)
    assert "secret" not in public


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_has_a_sentence(state: JobState) -> None:
    assert verdict_sentence(state=state, quorum=2, summary={"agreeing": 2, "reported": 2, "worst": None}).endswith(".")
