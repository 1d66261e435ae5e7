"""What PostgreSQL refuses whoever asks: the tests go around the services, through SQL."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, transaction

from ledger.append_only import APPEND_ONLY, BY_TRIGGER
from ledger.checkpoints import checkpoint_publish
from ledger.models import Account, AccountKind, CoordinatorSuccession, Entry, EntryKind, Epoch
from ledger.services import account_of, escrow_account, treasury_account
from tests.factories.ledger import account_make, entries_make, leaves_insert
from tests.factories.people import user_make
from workers.protocol.leaves import LEAF_BYTES_MAX

pytestmark = pytest.mark.django_db

COLUMNS = {
    "ledger_entry": "kind",
    "ledger_posting": "amount_micro",
    "ledger_logitem": "data",
    "ledger_logleaf": "hash",
    "ledger_checkpoint": "note",
    "ledger_epoch": "envelope",
    "ledger_coordinatorsuccession": "envelope",
}


def execute(statement: str, parameters: list[Any] | None = None) -> None:
    """In a savepoint, so that the transaction outlives a refusal; deferred constraints are checked before it and after."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(statement, parameters)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {table} SET {column} = {column}", "DELETE FROM {table}", "TRUNCATE {table} CASCADE"])
def test_history_cannot_be_changed(table: str, statement: str) -> None:
    entries_make(2)
    checkpoint_publish()
    Epoch.objects.create(number=2, origin="testserver/ledger/2", envelope=b"")
    CoordinatorSuccession.objects.create(key_id="a", public_key=b"", successor_key_id="b", envelope=b"")
    with pytest.raises(DatabaseError, match="append-only"):
        execute(statement.format(table=table, column=COLUMNS[table]))


def test_accounts_with_postings_cannot_be_deleted_or_truncated() -> None:
    account = account_make(5)
    with pytest.raises(IntegrityError, match="foreign key"):
        execute("DELETE FROM ledger_account WHERE id = %s", [account.pk])
    with pytest.raises(DatabaseError, match="append-only"):
        execute("TRUNCATE ledger_account CASCADE")


def entry_insert(amounts: list[tuple[Any, int]], *, key: str = "k", item: tuple[str, str] = ("grant", "k")) -> None:
    """A grant with these postings, and its item of this kind and key."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_entry (item_id, kind, idempotency_key, evidence, created_at)"
            " VALUES (nextval('ledger_logitem_id_seq'), 'grant', %s, '{}', now()) RETURNING item_id",
            [key],
        )
        (entry_id,) = cursor.fetchone()
        for account_id, amount in amounts:
            cursor.execute(
                "INSERT INTO ledger_posting (entry_id, account_id, amount_micro) VALUES (%s, %s, %s)", [entry_id, account_id, amount]
            )
        cursor.execute("INSERT INTO ledger_logitem (id, kind, key, data, created_at) VALUES (%s, %s, %s, '{}', now())", [entry_id, *item])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def test_balanced_entry_is_accepted_and_moves_balances() -> None:
    account = account_make()
    entry_insert([(treasury_account().pk, -3), (account.pk, 3)])
    account.refresh_from_db()
    assert account.balance_micro == 3


@pytest.mark.parametrize("amounts", [[], [3], [-3, 2]])
def test_entry_that_does_not_sum_to_zero_is_refused(amounts: list[int]) -> None:
    accounts = [treasury_account().pk, account_make().pk]
    with pytest.raises(IntegrityError, match="postings that sum to"):
        entry_insert(list(zip(accounts, amounts, strict=False)))


def test_posting_of_zero_is_refused() -> None:
    with pytest.raises(IntegrityError, match="posting_not_zero"):
        entry_insert([(treasury_account().pk, 0), (account_make().pk, 0)])


def test_second_posting_on_one_account_is_refused() -> None:
    account = account_make()
    with pytest.raises(IntegrityError, match="posting_one_per_account"):
        entry_insert([(treasury_account().pk, -3), (account.pk, 2), (account.pk, 1)])


@pytest.mark.parametrize("kind", [AccountKind.PERSON, AccountKind.ESCROW])
def test_balance_below_zero_is_refused_but_for_the_treasury(kind: AccountKind) -> None:
    account = escrow_account() if kind == AccountKind.ESCROW else account_make()
    with pytest.raises(IntegrityError, match="account_not_negative"):
        entry_insert([(account.pk, -1), (treasury_account().pk, 1)])


def test_balance_set_by_hand_is_refused() -> None:
    account = account_make(5)
    with pytest.raises(DatabaseError, match="follows from postings"):
        execute("UPDATE ledger_account SET balance_micro = 10 WHERE id = %s", [account.pk])
    with pytest.raises(DatabaseError, match="for good"):
        execute("UPDATE ledger_account SET kind = 'escrow' WHERE id = %s", [account.pk])
    with pytest.raises(DatabaseError, match="must start at 0"):
        Account.objects.create(kind=AccountKind.PERSON, balance_micro=1)


def test_an_account_keeps_its_owner_until_that_person_is_forgotten() -> None:
    owner, other = user_make(), user_make()
    account = account_of(user=owner)
    repoint = "UPDATE ledger_account SET owner_id = %s WHERE id = %s"
    with pytest.raises(DatabaseError, match="nobody else's"):
        execute(repoint, [other.pk, account.pk])
    execute(repoint, [owner.pk, account.pk])
    execute(repoint, [None, account.pk])
    for person in (owner, other):
        with pytest.raises(DatabaseError, match="nobody else's"):
            execute(repoint, [person.pk, account.pk])


def test_posting_added_to_an_entry_that_is_in_the_log_is_refused() -> None:
    (entry,) = entries_make(1)
    checkpoint_publish()
    others = [account_make().pk, account_make().pk]
    with pytest.raises(DatabaseError, match="in the log already"), transaction.atomic():
        execute(
            "INSERT INTO ledger_posting (entry_id, account_id, amount_micro) VALUES (%s, %s, -1), (%s, %s, 1)",
            [entry.pk, others[0], entry.pk, others[1]],
        )
    assert Entry.objects.get(pk=entry.pk).postings.count() == 2


def item_insert(kind: str, key: str = "k") -> None:
    execute("INSERT INTO ledger_logitem (kind, key, data, created_at) VALUES (%s, %s, '{}', now())", [kind, key])


def entry_alone_insert(number: str) -> None:
    execute(
        "INSERT INTO ledger_entry (item_id, kind, idempotency_key, evidence, created_at)"  # noqa: S608 -- a literal of this file
        f" VALUES ({number}, 'grant', 'k', '{{}}', now())"
    )


def test_an_entry_without_its_item_does_not_commit() -> None:
    with pytest.raises(IntegrityError, match="foreign key"):
        entry_alone_insert("nextval('ledger_logitem_id_seq')")


def test_an_entry_after_its_item_is_refused() -> None:
    item_insert("spot_key")
    with pytest.raises(DatabaseError, match="an entry comes before its item"):
        entry_alone_insert("(SELECT max(id) FROM ledger_logitem)")


@pytest.mark.parametrize("kind", EntryKind.values)
def test_an_item_of_an_entrys_kind_without_the_entry_is_refused(kind: str) -> None:
    with pytest.raises(IntegrityError, match="not that of an entry"):
        item_insert(kind)


@pytest.mark.parametrize(("kind", "key"), [("refund", "same"), ("grant", "other"), ("receipt", "same")])
def test_an_item_with_another_kind_or_key_than_its_entry_is_refused(kind: str, key: str) -> None:
    with pytest.raises(IntegrityError, match="not that of an entry"):
        entry_insert([(treasury_account().pk, -1), (account_make().pk, 1)], key="same", item=(kind, key))


def test_two_items_of_one_key_are_refused() -> None:
    item_insert("spot_key")
    with pytest.raises(IntegrityError, match="unique"):
        item_insert("receipt")


def test_a_posting_without_an_entry_is_refused() -> None:
    account = account_make()
    with pytest.raises(IntegrityError, match="an entry comes before its postings"):
        execute("INSERT INTO ledger_posting (entry_id, account_id, amount_micro) VALUES (999999, %s, 1)", [account.pk])


@pytest.mark.parametrize("index", [2, 7])
def test_a_leaf_that_leaves_a_gap_is_refused(index: int) -> None:
    leaves_insert(1)
    item_insert("spot_key")
    with pytest.raises(IntegrityError, match="leave a gap"):
        execute("INSERT INTO ledger_logleaf (index, item_id, hash) SELECT %s, item_id, '' FROM ledger_pendingitem", [index])


def test_a_leaf_of_an_item_that_does_not_wait_is_refused() -> None:
    leaves_insert(1)
    with pytest.raises(IntegrityError, match="of 1 items only 0 were waiting"):
        execute("INSERT INTO ledger_logleaf (index, item_id, hash) SELECT 1, item_id + 1000, '' FROM ledger_logleaf")


def test_triggers_that_need_more_than_their_caller_look_names_up_in_fixed_schemas() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT proname, array_to_string(proconfig, ' ') FROM pg_proc WHERE prosecdef AND proname LIKE 'ledger%%'")
        found = dict(cursor.fetchall())
    assert set(found) == {"ledger_entries_check", "ledger_postings_apply", "ledger_items_take", "ledger_leaves_take"}
    assert all("search_path=pg_catalog, public, pg_temp" in settings for settings in found.values())


def test_every_table_of_the_ledger_but_balances_and_what_waits_is_append_only() -> None:
    tables = {model._meta.db_table for model in apps.get_app_config("ledger").get_models()}
    assert tables - set(APPEND_ONLY) - set(BY_TRIGGER) == {"ledger_account"}


def test_second_treasury_or_escrow_is_refused() -> None:
    treasury_account()
    with pytest.raises(IntegrityError, match="account_one_treasury_one_escrow"), transaction.atomic():
        Account.objects.create(kind=AccountKind.TREASURY)


def test_an_item_that_no_bundle_could_hold_is_refused() -> None:
    insert = "INSERT INTO ledger_logitem (kind, key, data, created_at) VALUES ('test', %s, %s, now())"
    execute(insert, ["fits", b"x" * LEAF_BYTES_MAX])
    with pytest.raises(IntegrityError, match="item_fits_a_bundle"):
        execute(insert, ["too long", b"x" * (LEAF_BYTES_MAX + 1)])
