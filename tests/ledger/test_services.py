"""Movements of credits on a real PostgreSQL: each posting, its repetition, its refusal."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection
from django.test import override_settings

from ledger.models import Account, AccountKind, Entry, EntryKind
from ledger.movements import CreditsInsufficientError, EntryConflictError
from ledger.services import (
    EntryNotReversibleError,
    account_of,
    escrow_account,
    grant_post,
    payment_of,
    refund_of,
    reservation_of,
    reversal_post,
    start_grant_post,
    transfer_post,
    treasury_account,
)
from tests.factories.ledger import account_make, entry_post, payment_make
from tests.factories.people import user_make
from workers.protocol.leaves import LEAF_BYTES_MAX

pytestmark = pytest.mark.django_db


def balance(account: Account) -> int:
    return Account.objects.get(pk=account.pk).balance_micro


def constraints_check() -> None:
    """Runs the deferred triggers now, which a test's transaction would never reach."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def test_account_of_a_person_is_made_once() -> None:
    user = user_make()
    assert account_of(user=user) == account_of(user=user)
    assert account_of(user=user).kind == AccountKind.PERSON


def test_grant_moves_credits_from_the_treasury() -> None:
    account = account_make()
    entry = grant_post(to=account, amount_micro=5, reason="thanks", idempotency_key="k")
    constraints_check()
    assert (balance(account), balance(treasury_account())) == (5, -5)
    assert (entry.kind, entry.evidence) == (EntryKind.GRANT, {"reason": "thanks"})


@pytest.mark.parametrize("amount", [0, -5])
def test_grant_of_nothing_or_less_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        grant_post(to=account_make(), amount_micro=amount, reason="", idempotency_key="k")


def test_grant_repeated_is_the_same_entry() -> None:
    account = account_make()
    first = grant_post(to=account, amount_micro=5, reason="thanks", idempotency_key="k")
    assert grant_post(to=account, amount_micro=5, reason="thanks", idempotency_key="k") == first
    assert balance(account) == 5


def test_key_used_for_another_amount_or_account_conflicts() -> None:
    account = account_make()
    grant_post(to=account, amount_micro=5, reason="thanks", idempotency_key="k")
    with pytest.raises(EntryConflictError, match="another content"):
        grant_post(to=account, amount_micro=6, reason="thanks", idempotency_key="k")
    with pytest.raises(EntryConflictError, match="another content"):
        grant_post(to=account_make(), amount_micro=5, reason="thanks", idempotency_key="k")


def test_grant_to_the_treasury_is_refused_as_one_sided() -> None:
    with pytest.raises(ValueError, match="at least two"):
        grant_post(to=treasury_account(), amount_micro=5, reason="", idempotency_key="k")


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        ({"n": 2**60}, "made of strings"),
        ({"n": 0.5}, "made of strings"),
        ({"n": {"m": {"too": "deep"}}}, "made of strings"),
        ({"n": "x" * LEAF_BYTES_MAX}, "expected a leaf of at most 65535 bytes"),
    ],
)
def test_evidence_that_could_stop_the_log_is_refused(evidence: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grant_post(to=account_make(), amount_micro=5, reason="", idempotency_key="k", evidence=evidence)
    assert not Entry.objects.exists()


def test_reservation_waits_in_escrow() -> None:
    account, job = account_make(10), uuid.uuid4()
    entry_post(reservation_of(account=account, job_id=job, amount_micro=7))
    constraints_check()
    assert (balance(account), balance(escrow_account())) == (3, 7)


def test_reservation_beyond_the_balance_names_need_and_balance() -> None:
    account = account_make(10)
    with pytest.raises(CreditsInsufficientError, match=r"reserves up to 0\.000011 credits; your balance is 0\.000010") as caught:
        entry_post(reservation_of(account=account, job_id=uuid.uuid4(), amount_micro=11))
    assert caught.value.code == "credits_insufficient"
    assert balance(account) == 10


def test_reservation_repeated_is_the_same_entry_also_when_the_rest_would_not_do() -> None:
    account, job = account_make(10), uuid.uuid4()
    first = entry_post(reservation_of(account=account, job_id=job, amount_micro=7))
    assert entry_post(reservation_of(account=account, job_id=job, amount_micro=7)) == first
    assert (balance(account), balance(escrow_account())) == (3, 7)


def test_payment_is_an_entry_for_each_receipt_and_repeated_changes_nothing() -> None:
    account, nodes, job = account_make(10), [account_make(), account_make()], uuid.uuid4()
    entry_post(reservation_of(account=account, job_id=job, amount_micro=10))
    payments = [payment_make(node, 4) for node in nodes]
    movements = [payment_of(job_id=job, payment=payment, formula={"version": "1"}) for payment in payments]
    entries = [entry_post(one) for one in movements]
    assert [entry_post(one) for one in movements] == entries
    constraints_check()
    assert [balance(node) for node in nodes] == [4, 4]
    assert balance(escrow_account()) == 2
    assert entries[0].evidence == {
        "job": str(job),
        "replica": str(payments[0].replica_id),
        "receipt": payments[0].receipt_digest,
        "node_key": payments[0].node_key_id,
        "formula": {"version": "1"},
    }


def test_refund_gives_the_rest_back_once() -> None:
    account, job = account_make(10), uuid.uuid4()
    entry_post(reservation_of(account=account, job_id=job, amount_micro=7))
    first = entry_post(refund_of(account=account, job_id=job, amount_micro=7))
    assert entry_post(refund_of(account=account, job_id=job, amount_micro=7)) == first
    assert (balance(account), balance(escrow_account())) == (10, 0)
    assert refund_of(account=account, job_id=uuid.uuid4(), amount_micro=0) is None


def test_reversed_payment_goes_back_to_who_reserved() -> None:
    account, node, job = account_make(10), account_make(), uuid.uuid4()
    entry_post(reservation_of(account=account, job_id=job, amount_micro=10))
    entry = entry_post(payment_of(job_id=job, payment=payment_make(node, 4), formula={}))
    entry_post(refund_of(account=account, job_id=job, amount_micro=6))
    reversal = reversal_post(entry=entry, reason="fraud")
    assert reversal_post(entry=entry, reason="fraud") == reversal
    constraints_check()
    assert (balance(account), balance(node), balance(escrow_account())) == (10, 0, 0)


def test_reversed_grant_goes_back_to_the_treasury() -> None:
    account = account_make()
    entry = grant_post(to=account, amount_micro=5, reason="", idempotency_key="k")
    reversal_post(entry=entry, reason="mistake")
    assert (balance(account), balance(treasury_account())) == (0, 0)


def test_reversal_of_spent_credits_is_refused() -> None:
    account = account_make()
    entry = grant_post(to=account, amount_micro=5, reason="", idempotency_key="k")
    entry_post(reservation_of(account=account, job_id=uuid.uuid4(), amount_micro=1))
    with pytest.raises(CreditsInsufficientError, match=r"takes 0\.000005 credits; the account holds 0\.000004"):
        reversal_post(entry=entry, reason="mistake")


def test_a_transfer_moves_credits_once_and_never_more_than_there_are() -> None:
    source, target, number = account_make(10), account_make(), uuid.uuid4()
    entry = transfer_post(source=source, target=target, amount_micro=4, transfer_id=number)
    assert transfer_post(source=source, target=target, amount_micro=4, transfer_id=number) == entry
    assert (entry.kind, entry.evidence, balance(source), balance(target)) == ("transfer", {}, 6, 4)
    with pytest.raises(CreditsInsufficientError, match=r"at most the 0\.000006 credits that you have, found 0\.000007"):
        transfer_post(source=source, target=target, amount_micro=7, transfer_id=uuid.uuid4())
    with pytest.raises(EntryConflictError):
        transfer_post(source=source, target=target, amount_micro=5, transfer_id=number)
    back = transfer_post(source=target, target=source, amount_micro=4, transfer_id=number)  # an id of another's is nobody's concern
    assert back != entry
    constraints_check()
    assert (balance(source), balance(target)) == (10, 0)


def test_a_transfer_is_of_something_from_one_person_to_another() -> None:
    source, target = account_make(10), account_make()
    for where, to, amount in (
        (source, source, 1),
        (source, target, 0),
        (source, target, -1),
        (source, escrow_account(), 1),
        (treasury_account(), target, 1),
    ):
        with pytest.raises(ValueError, match="from one person to another"):
            transfer_post(source=where, target=to, amount_micro=amount, transfer_id=uuid.uuid4())


def test_reservations_refunds_transfers_reversals_and_payments_to_oneself_are_not_reversible() -> None:
    account, job = account_make(10), uuid.uuid4()
    transfer = transfer_post(source=account_make(5), target=account_make(), amount_micro=5, transfer_id=job)
    reservation = entry_post(reservation_of(account=account, job_id=job, amount_micro=10))
    to_oneself = entry_post(payment_of(job_id=job, payment=payment_make(account, 4), formula={}))
    refund = entry_post(refund_of(account=account, job_id=job, amount_micro=6))
    grant = grant_post(to=account, amount_micro=5, reason="", idempotency_key="k")
    reversal = reversal_post(entry=grant, reason="mistake")
    for entry in (reservation, refund, transfer, reversal, to_oneself):
        with pytest.raises(EntryNotReversibleError, match="expected a grant"):
            reversal_post(entry=entry, reason="no")


def test_payment_without_reservation_is_not_reversible_to_anyone() -> None:
    funds = account_make(10)
    entry_post(reservation_of(account=funds, job_id=uuid.uuid4(), amount_micro=10))
    stray = entry_post(payment_of(job_id=uuid.uuid4(), payment=payment_make(account_make(), 4), formula={}))
    with pytest.raises(EntryNotReversibleError):
        reversal_post(entry=stray, reason="no")


def test_start_grant_comes_once_and_not_at_all_where_it_is_zero() -> None:
    user = user_make()
    with override_settings(NEXA_START_GRANT_MICRO=0):
        assert start_grant_post(user=user) is None
    with override_settings(NEXA_START_GRANT_MICRO=3):
        assert start_grant_post(user=user) == start_grant_post(user=user)
    assert account_of(user=user).balance_micro == 3
