"""Many movements at once: in few statements, all or none, each once, in order."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from ledger.checkpoints import checkpoint_publish
from ledger.models import Account, Entry, EntryKind, LogItem, PendingItem, Posting
from ledger.movements import CreditsInsufficientError, EntryConflictError, Movement, entry_leaf, movements_post
from ledger.services import account_of, accounts_of, grant_of, payment_of, refund_of, reservation_of
from tests.factories.ledger import account_make, payment_make
from tests.factories.people import user_make
from workers.protocol.canonical import canonical_json
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY, EntryLeaf, leaf_parse


def balance(account: Account) -> int:
    return Account.objects.get(pk=account.pk).balance_micro


def jobs_make(owner: Account, node: Account, count: int) -> list[Movement]:
    """Reservation, payment and refund of `count` jobs of 10, of which 4 are paid."""
    movements: list[Movement | None] = []
    for _ in range(count):
        job = uuid.uuid4()
        movements.append(reservation_of(account=owner, job_id=job, amount_micro=10))
        movements.append(payment_of(job_id=job, payment=payment_make(node, 4), formula={"version": "1"}))
        movements.append(refund_of(account=owner, job_id=job, amount_micro=6))
    return [movement for movement in movements if movement is not None]


@pytest.mark.django_db
@pytest.mark.parametrize("count", [1, 100])
def test_statements_do_not_grow_with_movements(count: int, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    owner, node = account_make(10 * count), account_make()
    movements = jobs_make(owner, node, count)
    # A savepoint and its release, the locks, what is written already, the numbers, three tables.
    with django_assert_max_num_queries(8):
        movements_post(movements)
    assert (balance(owner), balance(node)) == (6 * count, 4 * count)
    assert Entry.objects.count() == LogItem.objects.count() == PendingItem.objects.count() == 3 * count + 1
    assert Posting.objects.count() == 2 * (3 * count + 1)


@pytest.mark.django_db
def test_nothing_to_post_asks_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        movements_post([])


@pytest.mark.django_db
def test_again_they_change_nothing_and_what_is_new_among_them_is_written() -> None:
    owner, node = account_make(100), account_make()
    movements = jobs_make(owner, node, 3)
    movements_post(movements[:5])
    movements_post([*movements, *movements])
    movements_post(movements)
    assert Entry.objects.count() == 1 + 9
    assert (balance(owner), balance(node)) == (88, 12)


@pytest.mark.django_db
def test_a_key_with_another_content_conflicts_within_a_batch_and_with_what_is_written() -> None:
    account = account_make()
    five, six = (grant_of(to=account, amount_micro=amount, reason="", idempotency_key="k") for amount in (5, 6))
    with pytest.raises(EntryConflictError, match="comes twice"):
        movements_post([five, six])
    movements_post([five])
    with pytest.raises(EntryConflictError, match="another content"):
        movements_post([grant_of(to=account, amount_micro=1, reason="", idempotency_key="new"), six])
    assert balance(account) == 5


@pytest.mark.django_db
def test_the_first_that_lacks_credits_is_named_and_none_is_written() -> None:
    owner, node = account_make(25), account_make()
    movements = [reservation_of(account=owner, job_id=uuid.uuid4(), amount_micro=10) for _ in range(4)]
    with pytest.raises(CreditsInsufficientError) as caught:
        movements_post([grant_of(to=node, amount_micro=1, reason="", idempotency_key="k"), *movements])
    assert caught.value.extra == {"key": movements[2].key, "needed_micro": "10", "balance_micro": "5"}
    assert (balance(owner), balance(node)) == (25, 0)


@pytest.mark.django_db
def test_each_is_held_against_what_those_before_have_left() -> None:
    account, other = account_make(), account_make()
    job = uuid.uuid4()
    reservation = reservation_of(account=account, job_id=job, amount_micro=7)
    grant = grant_of(to=account, amount_micro=7, reason="", idempotency_key="k")
    with pytest.raises(CreditsInsufficientError):
        movements_post([reservation, grant])
    movements_post([grant, reservation, payment_of(job_id=job, payment=payment_make(other, 7), formula={})])
    assert (balance(account), balance(other)) == (0, 7)


@pytest.mark.django_db
def test_a_payment_beyond_the_escrow_is_refused() -> None:
    with pytest.raises(CreditsInsufficientError, match=r"payment:.* takes 0\.000001 credits; the account holds 0\.000000"):
        movements_post([payment_of(job_id=uuid.uuid4(), payment=payment_make(account_make(), 1), formula={})])


@pytest.mark.django_db
def test_an_account_that_is_not_there_is_an_error_and_nothing_is_written() -> None:
    with pytest.raises(KeyError):
        movements_post([Movement(EntryKind.GRANT, "grant:x", {}, {ACCOUNT_TREASURY: -1, uuid.uuid4(): 1})])
    assert not Entry.objects.exists()


@pytest.mark.django_db
def test_leaves_are_canonical_and_what_auditors_read() -> None:
    account = account_make()
    movements_post([grant_of(to=account, amount_micro=5, reason='tab\t "ä" \u2028 \U0001f600', idempotency_key="ke\\y")])
    [item] = LogItem.objects.all()
    data = bytes(item.data)
    leaf = leaf_parse(data)
    assert isinstance(leaf, EntryLeaf)
    assert data == canonical_json(leaf.model_dump(mode="json") | {"at": item.created_at.isoformat()})
    assert (leaf.entry, leaf.key, leaf.evidence) == (str(item.pk), "grant:ke\\y", item.entry.evidence)
    assert {posting.account: int(posting.amount_micro) for posting in leaf.postings} == {ACCOUNT_TREASURY: -5, account.pk: 5}


@given(
    evidence=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        st.text(st.characters(exclude_categories=["Cs"])) | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
        max_size=4,
    )
)
def test_a_leaf_of_any_strings_is_in_canonical_json(evidence: dict[str, Any]) -> None:
    at = datetime(2027, 1, 15, tzinfo=UTC)
    data = entry_leaf(number=1, kind="grant", key="k", at=at, evidence=evidence, postings={ACCOUNT_TREASURY: -1, ACCOUNT_ESCROW: 1})
    lines = [{"account": str(ACCOUNT_TREASURY), "amount_micro": "-1"}, {"account": str(ACCOUNT_ESCROW), "amount_micro": "1"}]
    assert data == canonical_json(
        {"at": at.isoformat(), "entry": "1", "evidence": evidence, "key": "k", "kind": "grant", "postings": lines}
    )


@pytest.mark.django_db
def test_accounts_of_many_people_take_two_statements_and_one_when_they_are_there(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    users = [user_make() for _ in range(5)]
    first = account_of(user=users[0])
    with django_assert_num_queries(2):
        accounts = accounts_of([user.pk for user in users])
    assert accounts[users[0].pk] == first
    assert {pk: account.owner_id for pk, account in accounts.items()} == {user.pk: user.pk for user in users}
    with django_assert_num_queries(1):
        assert accounts_of([user.pk for user in users]) == accounts
    assert accounts_of([]) == {}


def test_movements_from_many_sides_at_once_neither_deadlock_nor_come_twice(own_database: str) -> None:
    accounts = [account_make(1000) for _ in range(4)]
    batches = [jobs_make(owner, node, 5) for owner in accounts for node in accounts if owner != node]
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def run(number: int) -> None:
        try:
            start.wait(timeout=30)
            for batch in batches if number % 2 else reversed(batches):
                movements_post(batch)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert failures == []
    assert Entry.objects.count() == 4 + 3 * 5 * len(batches)
    assert [balance(account) for account in accounts] == [1000] * 4
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    assert checkpoint.size == Entry.objects.count()
