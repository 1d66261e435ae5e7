"""Ways to cheat: each changes an honest log in one place, and gives the leaf at which it is to be found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from uuid import UUID

from client.audit.findings import FindingCode
from tests.factories.logs import Leaf, LogMaker
from workers.protocol.keys import PrivateKey
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY

RESERVED = 8_000_000
PAID = 1_000_000
STRANGER = PrivateKey.from_raw(b"\x77" * 32)

Cheat = Callable[[LogMaker], Leaf]


def started() -> tuple[LogMaker, UUID]:
    """A log with a person who has credits."""
    log = LogMaker()
    person = log.uuid()
    log.grant(person, 1_000_000_000)
    return log, person


def first(log: LogMaker, kind: str) -> Leaf:
    return next(leaf for leaf in log.leaves if leaf["kind"] == kind)


def amount_set(leaf: Leaf, amount: int) -> None:
    leaf["postings"][0]["amount_micro"], leaf["postings"][1]["amount_micro"] = str(-amount), str(amount)


def leaf_append(log: LogMaker, *, at: str) -> None:
    """A leaf of that time, which is about nothing else."""
    log.add("spot_commitment", f"spot_commitment:{UUID(int=5)}", spot_key=str(UUID(int=5)), commitment="sha256:" + "0" * 64)
    log.leaves[-1]["at"] = at


# --- the leaf itself --------------------------------------------------------------------------------------------------


def key_twice(log: LogMaker) -> Leaf:
    again = copy.deepcopy(first(log, "grant"))
    again["entry"] = "1000"
    log.leaves.append(again)
    return again


def key_of_another_kind(log: LogMaker) -> Leaf:
    leaf = first(log, "refund")
    leaf["key"] = "refund:none"
    return leaf


def grant_key_of_another_kind(log: LogMaker) -> Leaf:
    leaf = first(log, "grant")
    leaf["key"] = "gift:1"
    return leaf


def entry_number_twice(log: LogMaker) -> Leaf:
    leaf = first(log, "refund")
    leaf["entry"] = first(log, "reservation")["entry"]
    return leaf


def number_beyond_64_bits(log: LogMaker) -> Leaf:
    leaf = log.grant(log.uuid(), 1)
    amount_set(leaf, 2**63)
    return leaf


# --- entries ----------------------------------------------------------------------------------------------------------


def unbalanced(log: LogMaker) -> Leaf:
    leaf = first(log, "grant")
    leaf["postings"][1]["amount_micro"] = "1000000001"
    return leaf


def three_postings(log: LogMaker) -> Leaf:
    leaf = log.grant(log.uuid(), 10)
    leaf["postings"][1]["amount_micro"] = "5"
    leaf["postings"].append({"account": str(log.uuid()), "amount_micro": "5"})
    return leaf


def both_sides_one_account(log: LogMaker) -> Leaf:
    leaf = log.grant(log.uuid(), 10)
    leaf["postings"][1]["account"] = leaf["postings"][0]["account"]
    return leaf


def grant_from_a_person(log: LogMaker) -> Leaf:
    leaf = log.grant(log.uuid(), 10)
    leaf["postings"][0]["account"] = first(log, "grant")["postings"][1]["account"]
    return leaf


def grant_to_the_escrow(log: LogMaker) -> Leaf:
    return log.grant(ACCOUNT_ESCROW, 10)


def reservation_from_the_treasury(log: LogMaker) -> Leaf:
    return log.reservation(log.uuid(), ACCOUNT_TREASURY, 10)


def reservation_to_a_person(log: LogMaker) -> Leaf:
    leaf = log.reservation(log.uuid(), UUID(first(log, "grant")["postings"][1]["account"]), 10)
    leaf["postings"][1]["account"] = str(log.uuid())
    return leaf


def spent_more_than_there_is(log: LogMaker) -> Leaf:
    return log.reservation(log.uuid(), log.uuid(), 10)


def reserved_twice(log: LogMaker) -> Leaf:
    leaf = log.reservation(UUID(first(log, "reservation")["evidence"]["job"]), UUID(first(log, "grant")["postings"][1]["account"]), 1)
    leaf["key"] = "reservation:again"
    return leaf


def evidence_without_reason(log: LogMaker) -> Leaf:
    leaf = log.grant(log.uuid(), 10)
    leaf["evidence"] = {}
    return leaf


def evidence_with_another_spelling_of_the_job(log: LogMaker) -> Leaf:
    leaf = log.reservation(UUID(int=0xABC), UUID(first(log, "grant")["postings"][1]["account"]), 10)
    leaf["evidence"]["job"] = leaf["evidence"]["job"].upper()
    return leaf


def refund_to_somebody_else(log: LogMaker) -> Leaf:
    leaf = first(log, "refund")
    leaf["postings"][1]["account"] = str(log.uuid())
    return leaf


def refund_of_an_unknown_job(log: LogMaker) -> Leaf:
    leaf = log.refund(log.uuid(), log.uuid(), 1)
    leaf["postings"][0]["account"] = first(log, "grant")["postings"][1]["account"]  # who has credits, so that nothing else is wrong
    return leaf


def refund_left_out(log: LogMaker) -> Leaf:
    log.leaves.remove(first(log, "refund"))
    leaf_append(log, at="2027-02-15T08:00:00+00:00")
    return first(log, "payment")


def refund_left_out_where_nothing_was_accepted(log: LogMaker) -> Leaf:
    job, host = log.uuid(), log.host()
    log.reservation(job, UUID(first(log, "reservation")["postings"][0]["account"]), RESERVED)
    log.receipt(job, host, accepted=False)
    leaf = log.receipt(job, host, accepted=False)
    leaf_append(log, at="2027-02-15T08:00:00+00:00")
    return leaf


def refund_left_out_where_the_accepted_receipt_is_none(log: LogMaker) -> Leaf:
    job = log.uuid()
    log.reservation(job, UUID(first(log, "reservation")["postings"][0]["account"]), RESERVED)
    leaf = log.receipt(job, log.host())
    leaf["envelope"] = {"payload": ""}
    leaf_append(log, at="2027-02-15T08:00:00+00:00")
    return leaf


# --- transfers --------------------------------------------------------------------------------------------------------


def transfer_from_the_treasury(log: LogMaker) -> Leaf:
    return log.transfer(ACCOUNT_TREASURY, log.uuid(), 5)


def transfer_to_the_escrow(log: LogMaker) -> Leaf:
    return log.transfer(UUID(first(log, "reservation")["postings"][0]["account"]), ACCOUNT_ESCROW, 5)


def transfer_under_anothers_key(log: LogMaker) -> Leaf:
    leaf = first(log, "transfer")
    leaf["key"] = f"transfer:{log.uuid()}:{log.uuid()}"
    return leaf


def transfer_of_more_than_there_is(log: LogMaker) -> Leaf:
    leaf = first(log, "transfer")
    amount_set(leaf, 10**12)
    return leaf


# --- reversals --------------------------------------------------------------------------------------------------------


def reversal_of_no_entry(log: LogMaker) -> Leaf:
    leaf = first(log, "reversal")
    leaf["evidence"]["entry"], leaf["key"] = "999", "reversal:999"
    return leaf


def reversal_of_another_amount(log: LogMaker) -> Leaf:
    leaf = first(log, "reversal")
    amount_set(leaf, 4)
    return leaf


def reversal_of_a_refund(log: LogMaker) -> Leaf:
    refund = first(log, "refund")
    return log.reversal(refund, source=UUID(refund["postings"][1]["account"]), target=ACCOUNT_ESCROW, amount=7_000_000)


def reversal_of_a_transfer(log: LogMaker) -> Leaf:
    given = first(log, "transfer")
    source, target = (UUID(side["account"]) for side in given["postings"])
    return log.reversal(given, source=target, target=source, amount=42)


def reversal_to_somebody_else(log: LogMaker) -> Leaf:
    leaf = first(log, "reversal")
    leaf["postings"][1]["account"] = str(log.uuid())
    return leaf


def reversal_evidence_without_entry(log: LogMaker) -> Leaf:
    leaf = first(log, "reversal")
    leaf["evidence"]["entry"] = "first"
    return leaf


# --- payments ---------------------------------------------------------------------------------------------------------


def payment_above_the_formula(log: LogMaker) -> Leaf:
    leaf, refund = first(log, "payment"), first(log, "refund")
    amount_set(leaf, PAID + 1)
    amount_set(refund, RESERVED - PAID - 1)
    return leaf


def payment_below_the_formula(log: LogMaker) -> Leaf:
    leaf, refund = first(log, "payment"), first(log, "refund")
    amount_set(leaf, PAID - 1)
    amount_set(refund, RESERVED - PAID + 1)
    return leaf


def formula_changed(log: LogMaker, name: str, value: str) -> Leaf:
    leaf = first(log, "payment")
    leaf["evidence"]["formula"][name] = value
    return leaf


def payment_to_another_account(log: LogMaker) -> Leaf:
    leaf = first(log, "payment")
    leaf["postings"][1]["account"] = str(log.uuid())
    return leaf


def payment_without_receipt(log: LogMaker) -> Leaf:
    log.leaves.remove(first(log, "receipt"))
    return first(log, "payment")


def payment_before_its_receipt(log: LogMaker) -> Leaf:
    receipt, payment = first(log, "receipt"), first(log, "payment")
    log.leaves.remove(receipt)
    log.leaves.insert(log.leaves.index(payment) + 1, receipt)
    return payment


def payment_of_a_receipt_that_was_not_accepted(log: LogMaker) -> Leaf:
    first(log, "receipt")["accepted"] = False
    return first(log, "payment")


def payment_of_another_receipt_digest(log: LogMaker) -> Leaf:
    leaf = first(log, "payment")
    leaf["evidence"]["receipt"] = "sha256:" + "1" * 64
    return leaf


def payment_of_another_job(log: LogMaker) -> Leaf:
    leaf = first(log, "payment")
    leaf["evidence"]["job"] = [one for one in log.leaves if one["kind"] == "reservation"][1]["evidence"]["job"]
    return leaf


def payment_before_the_reservation(log: LogMaker) -> Leaf:
    reservation = first(log, "reservation")
    log.leaves.remove(reservation)
    log.leaves.insert(log.leaves.index(first(log, "payment")) + 1, reservation)
    return first(log, "payment")


def payment_twice(log: LogMaker) -> Leaf:
    payment = first(log, "payment")
    again = copy.deepcopy(payment)
    again["entry"] = "1000"
    log.leaves.insert(log.leaves.index(payment) + 1, again)
    amount_set(first(log, "refund"), RESERVED - 2 * PAID)
    return again


def payment_from_a_person(log: LogMaker) -> Leaf:
    leaf = first(log, "payment")
    leaf["postings"][0]["account"] = first(log, "grant")["postings"][1]["account"]
    return leaf


# --- node keys and receipts -------------------------------------------------------------------------------------------


def node_key_that_is_none(log: LogMaker) -> Leaf:
    return log.add("node_key", "node_key:none", node=str(log.uuid()), public_key="AAAA", account=str(log.uuid()))


def node_key_twice(log: LogMaker) -> Leaf:
    again = copy.deepcopy(first(log, "node_key"))
    again["key"], again["account"] = "node_key:again", str(log.uuid())
    log.leaves.append(again)
    return again


def receipt_signed_by_a_stranger(log: LogMaker) -> Leaf:
    leaf = first(log, "receipt")
    leaf["envelope"]["signatures"][0]["keyid"] = STRANGER.public.key_id
    return leaf


def receipt_with_a_wrong_signature(log: LogMaker) -> Leaf:
    leaf = first(log, "receipt")
    leaf["envelope"]["signatures"][0]["sig"] = "A" * 86 + "=="
    return leaf


def receipt_that_is_no_envelope(log: LogMaker) -> Leaf:
    leaf = first(log, "receipt")
    leaf["envelope"] = {"payload": ""}
    return leaf


def receipt_of_another_digest(log: LogMaker) -> Leaf:
    leaf = first(log, "receipt")
    leaf["receipt"] = "sha256:" + "2" * 64
    return leaf


def receipt_key_wrong(log: LogMaker) -> Leaf:
    leaf = first(log, "receipt")
    leaf["key"] = "receipt:mine"
    return leaf


CODE = FindingCode
CASES: dict[Cheat, set[FindingCode]] = {
    key_twice: {CODE.KEY_REPEATED},
    key_of_another_kind: {CODE.KEY_WRONG},
    grant_key_of_another_kind: {CODE.KEY_WRONG},
    entry_number_twice: {CODE.ENTRY_REPEATED},
    number_beyond_64_bits: {CODE.AMOUNT_IMPOSSIBLE},
    unbalanced: {CODE.POSTINGS_UNBALANCED},
    three_postings: {CODE.POSTINGS_WRONG},
    both_sides_one_account: {CODE.POSTINGS_WRONG},
    grant_from_a_person: {CODE.POSTINGS_WRONG},
    grant_to_the_escrow: {CODE.POSTINGS_WRONG},
    reservation_from_the_treasury: {CODE.POSTINGS_WRONG},
    reservation_to_a_person: {CODE.POSTINGS_WRONG},
    spent_more_than_there_is: {CODE.ACCOUNT_NEGATIVE},
    reserved_twice: {CODE.RESERVATION_REPEATED, CODE.KEY_WRONG, CODE.SHARE_WRONG},
    evidence_without_reason: {CODE.EVIDENCE_MALFORMED},
    evidence_with_another_spelling_of_the_job: {CODE.EVIDENCE_MALFORMED},
    refund_to_somebody_else: {CODE.REFUND_WRONG},
    refund_of_an_unknown_job: {CODE.JOB_UNRESERVED},
    refund_left_out: {CODE.REFUND_MISSING},
    refund_left_out_where_nothing_was_accepted: {CODE.REFUND_MISSING},
    refund_left_out_where_the_accepted_receipt_is_none: {CODE.REFUND_MISSING, CODE.RECEIPT_MALFORMED},
    transfer_from_the_treasury: {CODE.POSTINGS_WRONG},
    transfer_to_the_escrow: {CODE.POSTINGS_WRONG},
    transfer_under_anothers_key: {CODE.KEY_WRONG},
    transfer_of_more_than_there_is: {CODE.ACCOUNT_NEGATIVE},
    reversal_of_no_entry: {CODE.REVERSAL_WRONG},
    reversal_of_another_amount: {CODE.REVERSAL_WRONG},
    reversal_of_a_refund: {CODE.REVERSAL_WRONG},
    reversal_of_a_transfer: {CODE.REVERSAL_WRONG},
    reversal_to_somebody_else: {CODE.REVERSAL_WRONG},
    reversal_evidence_without_entry: {CODE.EVIDENCE_MALFORMED},
    payment_above_the_formula: {CODE.PAYMENT_AMOUNT_WRONG},
    payment_below_the_formula: {CODE.PAYMENT_AMOUNT_WRONG},
    payment_to_another_account: {CODE.PAYMENT_ACCOUNT_WRONG},
    payment_without_receipt: {CODE.PAYMENT_WITHOUT_RECEIPT},
    payment_before_its_receipt: {CODE.PAYMENT_WITHOUT_RECEIPT, CODE.PAYMENT_MISSING},
    payment_of_a_receipt_that_was_not_accepted: {CODE.PAYMENT_WITHOUT_RECEIPT, CODE.QUORUM_MISSED},
    payment_of_another_receipt_digest: {CODE.PAYMENT_WITHOUT_RECEIPT, CODE.PAYMENT_MISSING},
    payment_of_another_job: {
        CODE.JOB_UNRESERVED,  # the other job's reservation comes later
        CODE.PAYMENT_WITHOUT_RECEIPT,
        CODE.PAYMENT_MISSING,
        CODE.PAYMENT_AMOUNT_WRONG,  # its share is not that of the other job's payments
        CODE.RESERVATION_EXCEEDED,
        CODE.REFUND_WRONG,
    },
    payment_before_the_reservation: {CODE.JOB_UNRESERVED, CODE.ACCOUNT_NEGATIVE},
    payment_twice: {CODE.PAYMENT_REPEATED, CODE.KEY_REPEATED},
    payment_from_a_person: {CODE.POSTINGS_WRONG},
    node_key_that_is_none: {CODE.NODE_KEY_MALFORMED},
    node_key_twice: {CODE.NODE_KEY_REPEATED, CODE.KEY_WRONG},
    receipt_signed_by_a_stranger: {CODE.RECEIPT_KEY_UNKNOWN, CODE.PAYMENT_WITHOUT_RECEIPT, CODE.QUORUM_MISSED},
    receipt_with_a_wrong_signature: {CODE.RECEIPT_SIGNATURE_INVALID, CODE.PAYMENT_WITHOUT_RECEIPT, CODE.QUORUM_MISSED},
    receipt_that_is_no_envelope: {CODE.RECEIPT_MALFORMED, CODE.PAYMENT_WITHOUT_RECEIPT, CODE.QUORUM_MISSED},
    receipt_of_another_digest: {CODE.RECEIPT_MISMATCH, CODE.PAYMENT_WITHOUT_RECEIPT, CODE.QUORUM_MISSED},
    receipt_key_wrong: {CODE.KEY_WRONG},
}
"""What is found of each: all of it, so that nothing is found that is not there. The first is found at the leaf that the cheat returns."""
