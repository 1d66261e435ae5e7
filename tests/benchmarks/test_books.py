"""The books of a soak: what doesn't balance is found. A soak that could not fail would show nothing."""

from __future__ import annotations

from typing import Any

from benchmarks.books import balance_faults, payment_faults

RESERVATION = {"entry": "1", "kind": "reservation", "evidence": {"job": "j"}, "postings": [("researcher", -20), ("escrow", 20)]}
PAYMENT = {"entry": "2", "kind": "payment", "evidence": {"job": "j", "replica": "r"}, "postings": [("escrow", -7), ("host", 7)]}
REFUND = {"entry": "3", "kind": "refund", "evidence": {"job": "j"}, "postings": [("escrow", -13), ("researcher", 13)]}
BALANCES = {"researcher": -7, "host": 7}


def log(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries as the public export has them."""
    return [
        {**entry, "postings": [{"account": account, "amount_micro": str(amount)} for account, amount in entry["postings"]]}
        for entry in entries
    ]


def test_books_that_balance_have_no_faults() -> None:
    entries = log(RESERVATION, PAYMENT, REFUND)
    assert balance_faults(entries, balances=BALANCES, escrow="escrow") == []
    assert payment_faults(entries, paid_micro={"r": 7}) == []


def test_an_entry_that_makes_credits_is_found() -> None:
    forged = {**REFUND, "postings": [("escrow", -13), ("researcher", 14)]}
    found = balance_faults(log(RESERVATION, PAYMENT, forged), balances=BALANCES, escrow="escrow")
    assert found[0] == "expected the postings of entry 3 to sum to zero, found 1"


def test_a_balance_that_the_log_does_not_show_is_found() -> None:
    assert len(balance_faults(log(RESERVATION, PAYMENT, REFUND), balances={"researcher": -7, "host": 8}, escrow="escrow")) == 1


def test_what_is_left_in_the_escrow_is_found() -> None:
    found = balance_faults(log(RESERVATION, PAYMENT), balances={"researcher": -20, "host": 7}, escrow="escrow")
    assert found == ["expected a balance of 0 for escrow, found 13 in the log"]


def test_a_replica_paid_twice_is_found() -> None:
    [found] = payment_faults(log(RESERVATION, PAYMENT, PAYMENT), paid_micro={"r": 7})
    assert found.endswith("found 0 missing and 1 too many")


def test_a_replica_paid_nothing_or_another_amount_is_found() -> None:
    assert payment_faults(log(RESERVATION), paid_micro={"r": 7})[0].endswith("found 1 missing and 0 too many")
    assert payment_faults(log(PAYMENT), paid_micro={"r": 8})[0].endswith("found 1 missing and 1 too many")
