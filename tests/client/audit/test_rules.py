"""Each rule over leaves: an honest log is clean, and each way of cheating is found by its code, at its leaf."""

from __future__ import annotations

import inspect
import json
from datetime import timedelta
from pathlib import Path

import pytest

from client.audit.findings import KEPT_PER_CODE, FindingCode
from tests.client.audit import cheats
from tests.client.audit.cheats import CASES, PAID, RESERVED, Cheat, amount_set, first, formula_changed, leaf_append, started
from tests.client.audit.conftest import Audit
from tests.factories.logs import BEGAN, FLOPS, log_make
from tests.workers import protocol as vectors
from workers.protocol.leaves import ACCOUNT_ESCROW


def test_an_honest_log_of_all_kinds_is_clean_and_counted(audit: Audit) -> None:
    log = log_make()
    report = audit(log.leaves)
    assert report.findings.kept == []
    assert report.is_clean
    assert report.size == len(log.leaves)
    assert report.counts.entries + report.counts.receipts + report.counts.node_keys + 2 == report.size
    assert report.counts.receipts == report.counts.payments == 9
    assert (report.counts.spot_choices, report.counts.spot_choices_open) == (4, 0)
    assert report.counts.paid_micro == 9 * PAID


def test_the_golden_vectors_log_is_clean(audit: Audit) -> None:
    document = json.loads((Path(vectors.__file__).parent / "vectors" / "ledger.json").read_text())
    report = audit(document["leaves"])
    assert report.findings.kept == []
    assert report.counts.receipts == report.counts.payments == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"not json", b'{"kind":"gift"}', b"[" * 70 + b"]" * 70, b"\xff", b'{"kind":"spot_key","kind":"spot_key"}'],
)
def test_bytes_that_no_coordinator_writes(audit: Audit, data: bytes) -> None:
    report = audit([*log_make().leaves, data])
    [finding] = report.findings.kept
    assert (finding.code, finding.leaf) == (FindingCode.LEAF_MALFORMED, report.size - 1)


def test_each_cheat_of_the_module_is_tried() -> None:
    functions = inspect.getmembers(cheats, inspect.isfunction)
    assert {function for _, function in functions if list(inspect.signature(function).parameters) == ["log"]} == set(CASES)


@pytest.mark.parametrize("cheat", list(CASES), ids=lambda cheat: cheat.__name__)
def test_a_cheat_is_found_by_its_code_at_its_leaf(audit: Audit, cheat: Cheat) -> None:
    log = log_make()
    leaf = cheat(log)
    report = audit(log.leaves)
    assert set(report.findings.counts) == CASES[cheat], report.findings.kept
    assert log.leaves.index(leaf) in {finding.leaf for finding in report.findings.kept}
    assert not report.is_clean


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "2"),
        ("estimated_flops", "3600000000000000"),  # not the shortest form of the double
        ("estimated_flops", "nan"),
        ("estimated_flops", "-1.0"),
        ("calibration_ratio", "inf"),
        ("calibration_ratio", "1_0.0"),
        ("calibration_ratio", "0x1p0"),
        ("rate_micro", "-1"),
        ("share_micro", "01"),
        ("share_micro", ""),
        ("share_micro", "9" * 40),
        ("another", "1"),
    ],
)
def test_a_formula_is_read_in_one_spelling(audit: Audit, name: str, value: str) -> None:
    log = log_make()
    formula_changed(log, name, value)
    assert set(audit(log.leaves).findings.counts) == {FindingCode.EVIDENCE_MALFORMED}


@pytest.mark.parametrize("formula", [None, "1", {}, {"version": "1"}, {"version": 1}])
def test_a_payment_without_a_whole_formula(audit: Audit, formula: object) -> None:
    log = log_make()
    first(log, "payment")["evidence"]["formula"] = formula
    assert set(audit(log.leaves).findings.counts) == {FindingCode.EVIDENCE_MALFORMED}


def test_a_payment_without_a_share_is_what_the_formula_gives(audit: Audit) -> None:
    log = log_make()
    leaf = first(log, "payment")
    del leaf["evidence"]["formula"]["share_micro"]
    report = audit(log.leaves)
    assert report.is_clean, report.findings.kept


def test_a_share_that_is_not_the_reservation_divided(audit: Audit) -> None:
    log = log_make()
    leaf = formula_changed(log, "share_micro", str(RESERVED - 1))
    [finding] = audit(log.leaves).findings.kept
    assert (finding.code, finding.leaf) == (FindingCode.SHARE_WRONG, log.leaves.index(leaf))


def test_payments_of_one_job_with_different_formulas(audit: Audit) -> None:
    log, person = started()
    log.job(person, [log.host(), log.host()])
    second = [leaf for leaf in log.leaves if leaf["kind"] == "payment"][1]
    second["evidence"]["formula"]["calibration_ratio"] = "1.0000000000000002"
    assert set(audit(log.leaves).findings.counts) == {FindingCode.PAYMENT_AMOUNT_WRONG}


def test_more_paid_than_was_reserved(audit: Audit) -> None:
    log, person = started()
    log.job(person, [log.host()])
    reservation = first(log, "reservation")
    amount_set(reservation, PAID - 1)
    first(log, "payment")["evidence"]["formula"]["share_micro"] = str(PAID - 1)
    log.leaves.remove(first(log, "refund"))
    log.reservation(log.uuid(), person, RESERVED)  # somebody else's credits, in the escrow: no account is negative for it
    log.leaves.insert(0, log.leaves.pop())
    log.leaves.insert(0, log.leaves.pop(1))
    found = set(audit(log.leaves).findings.counts)
    assert found == {FindingCode.RESERVATION_EXCEEDED, FindingCode.PAYMENT_AMOUNT_WRONG}


def test_an_accepted_receipt_that_is_never_paid(audit: Audit) -> None:
    log, person = started()
    log.job(person, [log.host(), log.host()])
    log.leaves.remove(first(log, "payment"))
    amount_set(first(log, "refund"), RESERVED - PAID)
    assert set(audit(log.leaves).findings.counts) == {FindingCode.PAYMENT_MISSING}


@pytest.mark.parametrize("is_refunded", [True, False])
def test_accepted_receipts_of_which_none_is_paid(audit: Audit, is_refunded: bool) -> None:
    log, person = started()
    log.job(person, [log.host(), log.host()])
    refund = first(log, "refund")
    log.leaves = [leaf for leaf in log.leaves if leaf["kind"] not in ("payment", "refund")]
    if is_refunded:
        amount_set(refund, RESERVED)
        log.leaves.append(refund)
    assert audit(log.leaves).is_clean is not is_refunded  # a checkpoint may come between receipts and payments
    later = log.grant(person, 1)
    later["at"] = "2099-01-01T00:00:00+00:00"
    [finding] = audit(log.leaves).findings.kept
    assert finding.code == FindingCode.PAYMENT_MISSING
    assert log.leaves[finding.leaf or 0]["kind"] == "receipt"


def test_a_checkpoint_between_payment_and_refund_is_no_finding(audit: Audit) -> None:
    log, person = started()
    log.job(person, [log.host()])
    assert audit(log.leaves[:-1]).is_clean


def test_a_checkpoint_between_rejected_receipts_and_refund_is_no_finding(audit: Audit) -> None:
    log, person = started()
    job = log.uuid()
    log.reservation(job, person, RESERVED)
    log.receipt(job, log.host(), accepted=False)
    leaf_append(log, at=(BEGAN + timedelta(minutes=59)).isoformat())
    assert audit(log.leaves).is_clean


@pytest.mark.parametrize(("is_refunded", "found"), [(True, set()), (False, {FindingCode.REFUND_MISSING})])
def test_a_reservation_too_small_to_share_pays_nobody_and_is_returned(audit: Audit, is_refunded: bool, found: set[FindingCode]) -> None:
    log, person = started()
    job = log.uuid()
    log.reservation(job, person, 2)
    for _ in range(3):
        log.receipt(job, log.host(), quorum=2)
    if is_refunded:
        log.refund(job, person, 2)
    leaf_append(log, at="2099-01-01T00:00:00+00:00")
    assert set(audit(log.leaves).findings.counts) == found


def test_a_job_of_which_nothing_was_accepted_and_all_is_refunded_is_clean(audit: Audit) -> None:
    log, person = started()
    job = log.uuid()
    log.reservation(job, person, RESERVED)
    log.receipt(job, log.host(), accepted=False)
    log.refund(job, person, RESERVED)
    leaf_append(log, at="2099-01-01T00:00:00+00:00")
    assert audit(log.leaves).is_clean


@pytest.mark.parametrize(("to_escrow", "found"), [(False, set()), (True, {FindingCode.REVERSAL_WRONG})])
def test_a_reversed_payment_goes_back_to_who_had_reserved(audit: Audit, to_escrow: bool, found: set[FindingCode]) -> None:
    log, person = started()
    host = log.host()
    log.job(person, [host])
    log.reversal(first(log, "payment"), source=host.account, target=ACCOUNT_ESCROW if to_escrow else person, amount=PAID)
    assert set(audit(log.leaves).findings.counts) == found


def test_findings_of_one_code_are_all_counted_and_not_all_kept(audit: Audit) -> None:
    report = audit([b"{}" + b" " * number for number in range(KEPT_PER_CODE + 5)])
    assert report.findings.counts == {FindingCode.LEAF_MALFORMED: KEPT_PER_CODE + 5}
    assert len(report.findings.kept) == KEPT_PER_CODE


def test_hostile_text_in_evidence_reaches_no_finding_whole(audit: Audit) -> None:
    log = log_make()
    payment = first(log, "payment")
    payment["evidence"]["receipt"] = "x" * 20_000
    report = audit(log.leaves)
    assert all(len(json.dumps(finding.message)) < 1000 for finding in report.findings.kept)


def test_the_formula_is_held_against_what_is_recorded(audit: Audit) -> None:
    """Inputs and amount changed together are consistent: an auditor can't know what a job's estimate was."""
    log, person = started()
    log.job(person, [log.host()])
    formula = first(log, "payment")["evidence"]["formula"]
    formula["estimated_flops"] = repr(FLOPS * 2)
    amount_set(first(log, "payment"), 2 * PAID)
    amount_set(first(log, "refund"), RESERVED - 2 * PAID)
    assert audit(log.leaves).is_clean
