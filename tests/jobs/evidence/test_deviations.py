"""The deviation report, from answers."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from jobs.answers import EvidenceAnswer, ReplicaAnswer, ReplicaResult
from jobs.evidence.deviations import letter_of, pairs_compared
from jobs.states import ReplicaState
from workers.protocol.messages.machine import Tier

WORST = {"file": "e.csv", "place": "row 2", "one": "1", "other": "1.5", "difference": 0.5, "allowed": 0.25}
DIGEST = "sha256:" + "ab" * 32


def replica(*evidence: EvidenceAnswer, is_shown: bool = True, receipt: str | None = DIGEST) -> ReplicaAnswer:
    result = ReplicaResult(
        verdict="agree", paid_micro="0", failure_code="", fault=None, failure_message="", order_digest=DIGEST, receipt_digest=receipt,
        result_digest=None, archive_digest=None, log_digest=None, late=False, evidence=list(evidence),
    )  # fmt: skip
    return ReplicaAnswer(
        id=uuid4(), state=ReplicaState.ACCEPTED, tier=Tier.CPU, node="n", created_at=timezone.now(), leased_at=None, deadline_at=None,
        progress=None, result=result if is_shown else None,
    )  # fmt: skip


def compared(other: UUID | None, *, passed: bool | None, check: str = "comparison", **detail: Any) -> EvidenceAnswer:
    return EvidenceAnswer(check=check, passed=passed, code="" if passed else "results_differ", fault=None, other=other, detail=detail)


def test_pairs_that_disagree_come_first_with_their_worst_deviation() -> None:
    third = replica()
    second = replica(compared(third.id, passed=False, worst=WORST, compared=9, exceeding=4, files=[], sentence="so"))
    first = replica(compared(second.id, passed=True, worst=None), compared(None, passed=True, check="log"))
    pairs = pairs_compared([first, second, third])
    assert [(pair.one, pair.other, pair.passed) for pair in pairs] == [("B", "C", False), ("A", "B", True)]
    assert pairs[0].worst is not None
    assert (pairs[0].worst.share_percent, pairs[0].compared, pairs[0].exceeding) == (200, 9, 4)
    assert pairs[1].worst is None


def test_files_are_listed_with_what_their_format_measures() -> None:
    other = replica()
    file = {"file": "a.pdb", "format": "pdb", "compared": 3, "exceeding": 0, "worst": None, "rmsd": 0.2, "odd": "text"}
    [pair] = pairs_compared([replica(compared(other.id, passed=True, files=[file], files_compared=5, files_identical=2)), other])
    assert (pair.files[0].file, pair.files[0].measures, pair.files_more, pair.files_identical) == ("a.pdb", [("rmsd", 0.2)], 4, 2)


@pytest.mark.parametrize(("is_shown", "receipt"), [(False, DIGEST), (True, None)])
def test_nothing_is_told_of_a_result_that_is_hidden(is_shown: bool, receipt: str | None) -> None:
    hidden = replica(is_shown=is_shown, receipt=receipt)
    assert pairs_compared([replica(compared(hidden.id, passed=False, worst=WORST)), hidden]) == []


@pytest.mark.parametrize(("difference", "allowed"), [(None, 0.1), (0.1, None), (0.1, 0)])
def test_a_share_that_cant_be_said_is_none(difference: float | None, allowed: float | None) -> None:
    other = replica()
    worst = {**WORST, "difference": difference, "allowed": allowed}
    [pair] = pairs_compared([replica(compared(other.id, passed=False, worst=worst)), other])
    assert pair.worst is not None
    assert pair.worst.share_percent is None


def test_a_check_that_was_not_made_has_no_figures() -> None:
    other = replica()
    [pair] = pairs_compared([replica(compared(other.id, passed=None, message="the store is away")), other])
    assert (pair.passed, pair.sentence, pair.compared, pair.files) == (None, "the store is away", 0, [])


def test_replicas_have_letters_then_numbers() -> None:
    assert [letter_of(number) for number in (0, 25, 26)] == ["A", "Z", "27"]
