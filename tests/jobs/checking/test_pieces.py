"""What is left to do of a job while children come and go, and what is said of a piece that two died of."""

from __future__ import annotations

import pytest

from jobs.checking.documents import NO_BLOB, OWN_CHECKS, Finding, JobDocument, Outcome, ReplicaDocument, Unmade
from jobs.checking.endings import Ending
from jobs.checking.pieces import JobPieces
from jobs.checking.wire import LineRefusedError, Said


def pieces_of(names: str, pairs: list[tuple[int, int]] | None = None, *, passed: str = "") -> JobPieces:
    replicas = [ReplicaDocument(name, "", "", b"", b"", NO_BLOB, NO_BLOB, passed=name in passed) for name in names]
    return JobPieces(JobDocument(b"{}", replicas, pairs or []))


def own(name: str, failed: str = "") -> list[Outcome]:
    return [Finding(name, check, passed=check != failed, code="log_refused" if check == failed else "") for check in OWN_CHECKS]


def test_own_checks_come_first_and_only_where_they_have_not_been_made() -> None:
    assert pieces_of("abc", [(0, 1), (1, 2)], passed="b").ask() == [0, 1, 2, 3]


def test_pair_of_which_one_failed_is_not_asked_for() -> None:
    job = pieces_of("ab", [(0, 1)])
    assert job.ask() == [0, 1, 2]
    job.said(Said(0, 0, True, own("a", failed="log")))
    assert job.ask() == [1]


def test_what_was_said_before_is_no_news() -> None:
    job = pieces_of("a")
    job.ask()
    assert job.said(Said(0, 0, False, own("a")[:2])) == own("a")[:2]
    assert job.said(Said(0, 0, True, own("a"))) == own("a")[2:]
    assert job.ask() == []


def test_piece_that_a_child_died_of_is_asked_for_alone_and_then_the_rest() -> None:
    job = pieces_of("abc")
    job.ask()
    job.said(Said(0, 0, True, own("a")))
    assert job.died(Ending.CRASHED, 1) == []
    assert (job.ask(), job.alone) == ([1], True)
    job.said(Said(0, 1, True, own("b")))
    assert (job.ask(), job.alone) == ([2], False)


def test_child_that_marks_what_it_was_not_asked_for_died_of_the_first() -> None:
    job = pieces_of("ab")
    job.ask()
    job.died(Ending.CRASHED, 7)
    assert job.ask() == [0]


@pytest.mark.parametrize(
    ("ending", "code"), [(Ending.MEMORY, "check_exceeded"), (Ending.TIME, "check_exceeded"), (Ending.CRASHED, "check_crashed")]
)
def test_second_death_of_its_own_doing_fails_the_check_in_hand(ending: Ending, code: str) -> None:
    job = pieces_of("a")
    job.ask()
    job.died(Ending.KILLED, 0)
    job.ask()
    job.said(Said(0, 0, False, own("a")[:2]))
    found = job.died(ending, 0)
    assert [(one.check_name, getattr(one, "code", None)) for one in found] == [("outputs", code), ("log", "not_checked")]
    assert job.ask() == []


@pytest.mark.parametrize("ending", [Ending.ENDED, Ending.KILLED, Ending.LATE, Ending.FAULT])
def test_second_death_of_another_cause_accuses_nobody(ending: Ending) -> None:
    job = pieces_of("ab", [(0, 1)], passed="ab")
    job.ask()
    job.died(ending, 0)
    job.ask()
    assert job.died(ending, 0) == [Unmade("a", "comparison", f"child {ending.value}", other_id="b")]


@pytest.mark.parametrize(
    "said", [Said(0, 1, True, []), Said(0, 0, True, own("b")), Said(0, 0, True, [Finding("a", "comparison", passed=True)])]
)
def test_word_of_another_piece_replica_or_check_is_refused(said: Said) -> None:
    job = pieces_of("ab")
    job.ask()
    with pytest.raises(LineRefusedError):
        job.said(said)


def test_comparison_with_another_replica_than_the_pair_has_is_refused() -> None:
    job = pieces_of("ab", [(0, 1)], passed="ab")
    job.ask()
    with pytest.raises(LineRefusedError):
        job.said(Said(0, 0, True, [Finding("a", "comparison", passed=True, other_id="c")]))


@pytest.mark.parametrize(("said", "check"), [([], "signature"), (own("a")[:2], "outputs")])
def test_own_checks_that_end_before_all_is_said_are_not_made(said: list[Outcome], check: str) -> None:
    job = pieces_of("a")
    job.ask()
    assert job.said(Said(0, 0, True, said)) == [*said, Unmade("a", check, "child said nothing")]
    assert job.ask() == []


def test_pair_of_which_nothing_is_said_is_not_made() -> None:
    job = pieces_of("ab", [(0, 1)], passed="ab")
    job.ask()
    assert job.said(Said(0, 0, True, [])) == [Unmade("a", "comparison", "child said nothing", other_id="b")]


def test_nothing_is_to_be_said_of_a_pair_of_which_one_has_just_failed() -> None:
    job = pieces_of("ab", [(0, 1)])
    job.ask()
    job.said(Said(0, 0, True, own("a", failed="log")))
    job.said(Said(0, 1, True, own("b")))
    assert job.said(Said(0, 2, True, [])) == []
