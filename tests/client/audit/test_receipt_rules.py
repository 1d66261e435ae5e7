"""Receipts: who signed, what they say, and what the leaf says of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from client.audit.findings import FindingCode
from client.audit.receipt_rules import ACCEPTED_MAX
from tests.client.audit.cheats import RESERVED, STRANGER, started
from tests.client.audit.conftest import Audit
from workers.protocol.keys import PrivateKey


def test_two_nodes_of_one_account_are_no_quorum_of_two(audit: Audit) -> None:
    log, person = started()
    one = log.host()
    second_key = PrivateKey.from_raw(b"\x09" * 32)
    named = {"node": str(log.uuid()), "public_key": second_key.public.to_base64(), "account": str(one.account)}
    log.add("node_key", f"node_key:{second_key.public.key_id}", **named)
    log.job(person, [one, type(one)(second_key, log.uuid(), one.account)])
    [finding] = audit(log.leaves).findings.kept
    assert finding.code == FindingCode.QUORUM_MISSED
    assert "of 1 accounts; its quorum is 2" in finding.message


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"replica_id": str(UUID(int=1))}, "about the replica"),
        ({"node_key_id": STRANGER.public.key_id}, "names the key"),
        ({"log": {"digest": "sha256:" + "0" * 64, "head": "sha256:" + "0" * 64, "lines": 1, "size_bytes": 1}}, "subjects"),
        (
            {
                "outcome": "failed",
                "exit_code": 3,
                "failure": {"code": "exit_nonzero", "message": "3"},
                "archive": None,
                "result_digest": None,
            },
            "says that the run failed",
        ),
    ],
)
def test_a_receipt_that_says_something_else_than_its_leaf(audit: Audit, changed: dict[str, Any], why: str) -> None:
    log, person = started()
    host, job = log.host(), log.uuid()
    log.reservation(job, person, RESERVED)
    log.receipt(job, host, **changed)
    [finding] = audit(log.leaves).findings.kept
    assert finding.code == FindingCode.RECEIPT_MISMATCH
    assert why in finding.message


def test_a_receipt_whose_predicate_is_none(audit: Audit) -> None:
    log, person = started()
    host, job = log.host(), log.uuid()
    log.reservation(job, person, RESERVED)
    log.receipt(job, host, usage={})
    assert set(audit(log.leaves).findings.counts) == {FindingCode.RECEIPT_MALFORMED}


def test_a_receipt_signed_by_another_key_under_the_id_of_a_registered_one(audit: Audit) -> None:
    log, person = started()
    host, job = log.host(), log.uuid()
    log.reservation(job, person, RESERVED)
    leaf = log.receipt(job, host, sign_key=STRANGER)
    leaf["envelope"]["signatures"][0]["keyid"] = host.key.public.key_id
    [finding] = audit(log.leaves).findings.kept
    assert finding.code == FindingCode.RECEIPT_SIGNATURE_INVALID


def test_one_order_reported_twice(audit: Audit) -> None:
    log, person = started()
    host, job, order = log.host(), log.uuid(), "sha256:" + "3" * 64
    log.reservation(job, person, RESERVED)
    for _ in range(2):
        log.receipt(job, host, order_digest=order, accepted=False)
    assert set(audit(log.leaves).findings.counts) == {FindingCode.ORDER_REPEATED}


def test_receipts_of_one_job_with_different_quorums(audit: Audit) -> None:
    log, person = started()
    host, job = log.host(), log.uuid()
    log.reservation(job, person, RESERVED)
    log.receipt(job, host, accepted=False, quorum=1)
    log.receipt(job, host, accepted=False, quorum=2)
    assert set(audit(log.leaves).findings.counts) == {FindingCode.RECEIPTS_CONTRADICT}


def test_a_receipt_of_a_job_that_nobody_reserved_for(audit: Audit) -> None:
    log, _ = started()
    log.receipt(log.uuid(), log.host(), accepted=False)
    assert set(audit(log.leaves).findings.counts) == {FindingCode.JOB_UNRESERVED}


def test_a_job_has_a_bounded_number_of_accepted_receipts(audit: Audit) -> None:
    log, person = started()
    host, job = log.host(), log.uuid()
    log.reservation(job, person, RESERVED)
    for _ in range(ACCEPTED_MAX + 1):
        log.receipt(job, host)
    [finding] = audit(log.leaves).findings.kept
    assert (finding.code, finding.leaf) == (FindingCode.RECEIPTS_CONTRADICT, len(log.leaves) - 1)


@pytest.mark.parametrize(("ruled", "found"), [(True, set()), (False, {FindingCode.QUORUM_MISSED})])
def test_a_moderator_may_rule_against_the_quorum_and_the_log_says_so(audit: Audit, ruled: bool, found: set[FindingCode]) -> None:
    log, person = started()
    log.job(person, [log.host()], quorum=2)
    for leaf in log.leaves:
        if leaf["kind"] == "receipt" and ruled:
            leaf["ruled"] = True
    report = audit(log.leaves)
    assert set(report.findings.counts) == found
    assert report.counts.jobs_ruled == ruled


def test_a_ruling_for_one_receipt_of_a_job_only(audit: Audit) -> None:
    log, person = started()
    log.job(person, [log.host(), log.host()])
    next(leaf for leaf in log.leaves if leaf["kind"] == "receipt")["ruled"] = True
    assert set(audit(log.leaves).findings.counts) == {FindingCode.RECEIPTS_CONTRADICT}
