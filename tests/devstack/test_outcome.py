"""What the demo finds wrong with an outcome: one test for each thing that can be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from devstack.outcome import Outcome, faults_of, replicas_text

DIGEST = "sha256:" + "0" * 64
OWNERS = {"attic": "ada", "barn": "bob", "cellar": "ada"}


def replica(name: str, node: str | None, *, state: str = "accepted", paid_micro: int = 1250, **result: Any) -> dict[str, Any]:
    told = {"receipt_digest": DIGEST, "result_digest": DIGEST, "verdict": "accepted", "paid_micro": str(paid_micro), **result}
    return {"id": name, "node": node, "state": state, "result": told}


def outcome(**changed: Any) -> Outcome:
    """An outcome with no fault: two hosts of two owners agree and are paid; what is in `changed` is otherwise."""
    job = {"state": "completed", "quorum": 2, "canonical_replica": "r1", "failure_code": "", "failure_message": ""}
    values: dict[str, Any] = {
        "job": job | changed.pop("job", {}),
        "replicas": [replica("r1", "attic"), replica("r2", "barn"), {"id": "r3", "node": None, "state": "cancelled", "result": None}],
        "balances": {"ada": 1250, "bob": 1250},
        "ledger": {"leaves": 9, "checkpoint_size": 9, "checkpoint_at": "2027-01-15T08:00:00Z"},
        "owners": OWNERS,
    }
    return Outcome(**{**values, **changed})


def test_nothing_is_wrong_with_a_job_that_went_as_it_should() -> None:
    assert faults_of(outcome()) == []
    # More may be accepted than the quorum asks for, and one that disagreed was not paid.
    more = [replica("r1", "attic"), replica("r2", "barn"), replica("r3", "cellar", state="rejected", paid_micro=0)]
    assert faults_of(outcome(replicas=more, job={"quorum": 1})) == []


def test_a_job_that_failed_is_the_only_fault_told() -> None:
    failed = outcome(job={"state": "failed", "failure_code": "limit_wall", "failure_message": "Too slow."}, replicas=[], balances={})
    assert faults_of(failed) == ["expected a completed job, found it failed: limit_wall Too slow."]
    assert faults_of(outcome(job={"state": "running"})) == ["expected a completed job, found it running:"]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"replicas": [replica("r1", "attic")], "balances": {"ada": 1250}}, "expected 2 accepted replicas of as many owners, found 1 of 1"),
        (
            {"replicas": [replica("r1", "attic"), replica("r2", "cellar")], "balances": {"ada": 2500}},
            "expected 2 accepted replicas of as many owners, found 2 of 1",
        ),
        (
            {"replicas": [replica("r1", "attic"), replica("r2", "shed")], "balances": {"ada": 1250}},
            "expected 2 accepted replicas of as many owners, found 2 of 2",
        ),
        (
            {"replicas": [replica("r1", "attic"), replica("r2", "barn", result_digest="")]},
            "expected a result digest of each accepted replica, found one without",
        ),
        ({"job": {"canonical_replica": "r3"}}, "expected the canonical replica among the accepted ones, found r3"),
        ({"job": {"canonical_replica": None}}, "expected the canonical replica among the accepted ones, found None"),
        (
            {"balances": {"ada": 1250, "bob": 0}},
            "expected bob to have the 0.001250 credits that were paid for accepted work, found 0.000000 credits",
        ),
        (
            {"balances": {"ada": 1250, "bob": 1250, "eve": 1}},
            "expected eve to have the 0.000000 credits that were paid for accepted work, found 0.000001 credits",
        ),
        (
            {
                "replicas": [replica("r1", "attic", paid_micro=0), replica("r2", "barn", paid_micro=0)],
                "balances": {"ada": 0, "bob": 0},
            },
            "expected the accepted work to be paid, found every owner's balance at 0",
        ),
        ({"balances": {}}, "expected the accepted work to be paid, found every owner's balance at 0"),
    ],
    ids=[
        "too few",
        "one owner twice",
        "an unknown owner",
        "no digest",
        "canonical rejected",
        "no canonical",
        "unpaid",
        "paid for nothing",
        "nobody paid",
        "no balances",
    ],
)
def test_each_fault_is_told_alone_as_expected_and_found(changed: dict[str, Any], fault: str) -> None:
    assert faults_of(outcome(**changed)) == [fault]


def test_several_faults_are_all_told() -> None:
    faults = faults_of(outcome(balances={"ada": 0, "bob": 0}, job={"canonical_replica": None}))
    assert len(faults) == 4


def test_only_replicas_with_a_receipt_have_reported() -> None:
    silent = replica("r4", "attic", state="expired", receipt_digest="")
    found = dataclasses.replace(outcome(), replicas=[*outcome().replicas, silent])
    assert [one["id"] for one in found.reported] == ["r1", "r2"]


def test_replicas_are_told_in_a_line_each_with_what_is_against_them() -> None:
    evidence = [{"check": "signature", "code": "", "passed": True}, {"check": "log", "code": "log_refused", "passed": False}]
    rejected = replica("r1", "attic", state="rejected", evidence=evidence, verdict="invalid")
    failed = replica("r2", "barn", state="failed", verdict=None, failure_code="limit_wall", failure_message="Too slow.")
    assert replicas_text([rejected, failed, {"id": "r3", "node": None, "state": "queued", "result": None}]).splitlines() == [
        "replica r1 on attic: rejected invalid, log log_refused",
        "replica r2 on barn: failed limit_wall Too slow.",
        "replica r3 on no host: queued ",
    ]
