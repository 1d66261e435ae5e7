"""Reads of the ledger that pages are made of."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from ledger.models import Entry
from ledger.movements import movements_post
from ledger.selectors import statement_page, totals
from ledger.services import payment_of, refund_of, reservation_of, reversal_post
from tests.factories.ledger import account_make, entries_make, entry_post, payment_make

pytestmark = pytest.mark.django_db


def test_totals_count_grants_and_payments_once_each() -> None:
    account, node, job = account_make(100), account_make(), uuid.uuid4()
    entry_post(reservation_of(account=account, job_id=job, amount_micro=40))
    entry_post(payment_of(job_id=job, payment=payment_make(node, 30), formula={}))
    entry_post(refund_of(account=account, job_id=job, amount_micro=10))
    assert totals() == {"entries": 4, "granted_micro": 100, "paid_micro": 30}


def test_empty_ledger_totals_are_zero() -> None:
    assert totals() == {"entries": 0, "granted_micro": 0, "paid_micro": 0}


def test_totals_read_no_entry_and_no_posting(django_assert_num_queries: Any) -> None:
    """They are on public pages: what they cost must not grow with the log."""
    entries_make(3)
    with django_assert_num_queries(1) as captured:
        assert totals()["entries"] == 3
    assert "ledger_entrytotal" in captured.captured_queries[0]["sql"]


def test_totals_count_many_movements_of_one_statement_and_none_that_was_posted_before() -> None:
    account, job = account_make(100), uuid.uuid4()
    movements = [
        reservation_of(account=account, job_id=job, amount_micro=40),
        *(payment_of(job_id=job, payment=payment_make(account_make(), amount), formula={}) for amount in (10, 20)),
    ]
    for _ in range(2):
        movements_post(movements)
    assert totals() == {"entries": 4, "granted_micro": 100, "paid_micro": 30}


def test_totals_leave_out_what_was_paid_and_taken_back_but_no_grant_that_was() -> None:
    account, node, job = account_make(100), account_make(), uuid.uuid4()
    grant = Entry.objects.get(kind="grant")
    entry_post(reservation_of(account=account, job_id=job, amount_micro=40))
    kept, taken = (payment_of(job_id=job, payment=payment_make(node, amount), formula={}) for amount in (10, 20))
    entry_post(kept)
    reversal_post(entry=entry_post(taken), reason="the host made it up")
    assert totals() == {"entries": 5, "granted_micro": 100, "paid_micro": 10}
    other = account_make(7)
    reversal_post(entry=Entry.objects.exclude(pk=grant.pk).get(kind="grant"), reason="the wrong person")
    other.refresh_from_db()
    assert (other.balance_micro, totals()["paid_micro"]) == (0, 10)


def test_totals_read_no_entry_where_there_are_reversals_either(django_assert_num_queries: Any) -> None:
    """With as many entries as a log has, the few that are reversals can't be found without reading all of them on every database."""
    account, node, job = account_make(100), account_make(), uuid.uuid4()
    entry_post(reservation_of(account=account, job_id=job, amount_micro=40))
    reversal_post(entry=entry_post(payment_of(job_id=job, payment=payment_make(node, 20), formula={})), reason="the host made it up")
    with django_assert_num_queries(1):
        assert totals() == {"entries": 4, "granted_micro": 100, "paid_micro": 0}


def test_statement_pages_newest_first_without_others_postings() -> None:
    account = account_make(100)
    account_make(7)
    for _ in range(3):
        entry_post(reservation_of(account=account, job_id=uuid.uuid4(), amount_micro=1))
    first = statement_page(account=account, before=None, limit=3)
    assert [posting.amount_micro for posting in first] == [-1, -1, -1]
    rest = statement_page(account=account, before=first[-1].pk, limit=3)
    assert [posting.amount_micro for posting in rest] == [100]
