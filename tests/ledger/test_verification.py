"""`manage.py ledger_verify`: clean books are clean, and whatever the database's owner does to them is found."""

from __future__ import annotations

import io
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection

from ledger.checkpoints import checkpoint_publish
from ledger.epochs import epoch_begin
from ledger.faults import FaultCode
from ledger.items import node_key_log
from ledger.models import Entry, EntryTotal, LogLeaf
from ledger.selectors import totals
from ledger.services import refund_of, reservation_of, reversal_post
from ledger.verification import LedgerVerification
from tests.factories.ledger import account_make, entries_make, entry_post, items_insert
from workers.protocol.keys import PrivateKey

LEAVES = 300


@pytest.fixture
def books(own_database: str) -> None:
    """A log of LEAVES leaves under two checkpoints, in a second epoch."""
    cache.clear()
    account = account_make(5)
    entries_make(10)
    node_key_log(node_id=uuid.uuid4(), key=PrivateKey.generate().public, account=account)
    checkpoint_publish()
    epoch_begin(reason="a restore")
    grant = Entry.objects.filter(kind="grant").order_by("-pk").first()
    assert grant is not None
    reversal_post(entry=grant, reason="the wrong person")  # what goes back to the treasury is in no total
    entries_make(LEAVES - 13)
    checkpoint_publish()


def tamper(statement: str, parameters: list[Any] | None = None) -> None:
    """As the owner of the database can: without triggers, and without foreign keys."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, parameters)
        assert cursor.rowcount > 0
        cursor.execute("SET session_replication_role = origin")


def codes() -> list[str]:
    return [fault.code.value for fault in LedgerVerification().faults()]


def verify() -> str:
    out = io.StringIO()
    call_command("ledger_verify", stdout=out)
    return out.getvalue()


def test_an_empty_ledger_is_clean(own_database: str) -> None:
    assert verify() == "Read: 0 leaves, 0 checkpoints, 0 files.\nDatabase, log and files agree.\n"


def test_clean_books_are_clean_and_say_what_was_read(books: None) -> None:
    assert verify() == f"Read: {LEAVES} leaves, 2 checkpoints, 2 files.\nDatabase, log and files agree.\n"


def test_totals_grow_beyond_64_bits_and_are_clean(own_database: str) -> None:
    """The same credits are reserved and given back again and again."""
    account, amount_micro = account_make(2**62), 2**62
    for job in (uuid.uuid4() for _ in range(3)):
        entry_post(reservation_of(account=account, job_id=job, amount_micro=amount_micro))
        entry_post(refund_of(account=account, job_id=job, amount_micro=amount_micro))
    assert EntryTotal.objects.get(kind="refund").credited_micro == 3 * amount_micro > 2**63
    assert totals() == {"entries": 7, "granted_micro": amount_micro, "paid_micro": 0}
    checkpoint_publish()
    assert codes() == []


# `:item` is the item of leaf 6, an entry.
TAMPERINGS: dict[str, tuple[str, set[FaultCode]]] = {
    "evidence altered": (
        """UPDATE ledger_entry SET evidence = '{"reason": "other"}' WHERE item_id = :item""",
        {FaultCode.ENTRY_ALTERED},
    ),
    "key of an entry altered": ("UPDATE ledger_entry SET idempotency_key = 'grant:other' WHERE item_id = :item", {FaultCode.ENTRY_ALTERED}),
    "time of an entry altered": ("UPDATE ledger_entry SET created_at = now() WHERE item_id = :item", {FaultCode.ENTRY_ALTERED}),
    "amounts altered": (
        "UPDATE ledger_posting SET amount_micro = amount_micro * 2 WHERE entry_id = :item",
        {FaultCode.ENTRY_ALTERED, FaultCode.BALANCE_WRONG},
    ),
    "one amount altered": (
        "UPDATE ledger_posting SET amount_micro = 5 WHERE entry_id = :item AND amount_micro > 0",
        {FaultCode.ENTRY_ALTERED, FaultCode.ENTRY_UNBALANCED, FaultCode.BALANCE_WRONG},
    ),
    "posting removed": (
        "DELETE FROM ledger_posting WHERE entry_id = :item AND amount_micro > 0",
        {FaultCode.ENTRY_ALTERED, FaultCode.ENTRY_UNBALANCED, FaultCode.BALANCE_WRONG},
    ),
    "posting added": (
        "INSERT INTO ledger_posting (entry_id, account_id, amount_micro) VALUES (:item, '00000000-0000-4000-8000-000000000002', 9)",
        {FaultCode.ENTRY_ALTERED, FaultCode.ENTRY_UNBALANCED, FaultCode.BALANCE_WRONG},
    ),
    "posting without an entry": (
        "INSERT INTO ledger_posting (entry_id, account_id, amount_micro) VALUES (99999, '00000000-0000-4000-8000-000000000002', 9)",
        {FaultCode.POSTING_STRAY, FaultCode.ENTRY_UNBALANCED, FaultCode.BALANCE_WRONG},
    ),
    "entry removed": ("DELETE FROM ledger_entry WHERE item_id = :item", {FaultCode.ENTRY_MISSING, FaultCode.POSTING_STRAY}),
    "entry added": (
        "INSERT INTO ledger_entry (item_id, kind, idempotency_key, evidence, created_at) VALUES (99999, 'grant', 'grant:x', '{}', now())",
        {FaultCode.ENTRY_ITEM_MISSING},
    ),
    "leaf's data altered": (
        "UPDATE ledger_logitem SET data = convert_to(replace(convert_from(data, 'UTF8'), 'test', 'tesd'), 'UTF8') WHERE id = :item",
        {FaultCode.LEAF_HASH_WRONG, FaultCode.ENTRY_ALTERED, FaultCode.CHECKPOINT_ROOT_WRONG, FaultCode.FILE_WRONG},
    ),
    "leaf's data and hash altered": (
        "WITH item AS (UPDATE ledger_logitem SET data = '{}' WHERE id = :item RETURNING id, data)"
        r" UPDATE ledger_logleaf SET hash = sha256('\x00'::bytea || item.data) FROM item WHERE item_id = item.id",
        {FaultCode.ENTRY_ALTERED, FaultCode.CHECKPOINT_ROOT_WRONG, FaultCode.FILE_WRONG},
    ),
    "leaf's hash altered": ("UPDATE ledger_logleaf SET hash = sha256('') WHERE index = 6", {FaultCode.LEAF_HASH_WRONG}),
    "item's columns altered": ("UPDATE ledger_logitem SET key = 'node_key:other' WHERE kind = 'node_key'", {FaultCode.ITEM_COLUMNS_WRONG}),
    "leaf removed": ("DELETE FROM ledger_logleaf WHERE index = 6", {FaultCode.LEAF_GAP, FaultCode.ITEM_LOST}),
    "last leaf removed": ("DELETE FROM ledger_logleaf WHERE index = :last", {FaultCode.LEAF_GAP, FaultCode.ITEM_LOST}),
    "item removed": ("DELETE FROM ledger_logitem WHERE id = :item", {FaultCode.LEAF_ITEM_MISSING, FaultCode.ENTRY_ITEM_MISSING}),
    "leaves reordered": (
        "UPDATE ledger_logleaf SET index = index + 100000 WHERE index IN (6, 7);"
        " UPDATE ledger_logleaf SET index = CASE index WHEN 100006 THEN 7 ELSE 6 END WHERE index >= 100000",
        {FaultCode.CHECKPOINT_ROOT_WRONG, FaultCode.FILE_WRONG},
    ),
    "item kept out of the log": (
        "INSERT INTO ledger_logitem (kind, key, data, created_at) VALUES ('spot_key', 'x', '{}', now())",
        {FaultCode.ITEM_LOST},
    ),
    "item logged and waiting": (
        "INSERT INTO ledger_pendingitem (item_id) VALUES (:item)",
        {FaultCode.ITEM_PENDING_TWICE},
    ),
    "balance altered": (
        "UPDATE ledger_account SET balance_micro = balance_micro + 1 WHERE kind = 'person' AND balance_micro = 5",
        {FaultCode.BALANCE_WRONG},
    ),
    "total altered": ("UPDATE ledger_entrytotal SET entries = entries + 1 WHERE kind = 'refund'", {FaultCode.TOTAL_WRONG}),
    "total removed": ("DELETE FROM ledger_entrytotal WHERE kind = 'grant'", {FaultCode.TOTAL_WRONG}),
    "root altered": ("UPDATE ledger_checkpoint SET root = sha256('') WHERE size = :size", {FaultCode.CHECKPOINT_ROOT_WRONG}),
    "compact range altered": ("UPDATE ledger_checkpoint SET compact_range = '[]' WHERE size = 12", {FaultCode.CHECKPOINT_RANGE_WRONG}),
    "note altered": ("UPDATE ledger_checkpoint SET note = replace(note, 'A', 'B') WHERE size = 12", {FaultCode.CHECKPOINT_NOTE_WRONG}),
    "newest checkpoint removed": (
        "DELETE FROM ledger_checkpoint WHERE size = :size",
        {FaultCode.CHECKPOINT_MISSING, FaultCode.PUBLISHED_AHEAD},
    ),
    "epoch renamed": ("UPDATE ledger_epoch SET origin = 'testserver/ledger/3'", {FaultCode.EPOCH_WRONG}),
    "statement altered": ("UPDATE ledger_epoch SET envelope = '{}'", {FaultCode.EPOCH_WRONG}),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_with_the_database_is_found(books: None, name: str) -> None:
    statement, expected = TAMPERINGS[name]
    item = LogLeaf.objects.get(index=6).item_id
    for mark, value in {":item": item, ":size": LEAVES, ":last": LEAVES - 1}.items():
        statement = statement.replace(mark, str(value))
    tamper(statement)
    found = {FaultCode(code) for code in codes()}
    assert expected <= found
    # What else is found follows from it: a wrong root means wrong ranges and notes, a missing leaf no root at all, another amount
    # another total.
    follow = {FaultCode.CHECKPOINT_RANGE_WRONG, FaultCode.CHECKPOINT_NOTE_WRONG, FaultCode.PUBLISHED_AHEAD, FaultCode.TOTAL_WRONG}
    assert found - expected <= follow
    with pytest.raises(CommandError, match="The ledger has"):
        verify()


def test_a_negative_balance_is_found(books: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_account DROP CONSTRAINT account_not_negative")
    tamper("UPDATE ledger_account SET balance_micro = -1 WHERE kind = 'escrow'")
    assert set(codes()) == {"balance_wrong", "account_negative"}


def _remove(path: Path) -> None:
    path.unlink()


def _alter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("tile/0/000", _remove, FaultCode.FILE_MISSING),
        ("tile/entries/000", _remove, FaultCode.FILE_MISSING),
        ("tile/0/000", _alter, FaultCode.FILE_WRONG),
        ("tile/entries/000", _alter, FaultCode.FILE_WRONG),
        ("checkpoint", _alter, FaultCode.PUBLISHED_UNREADABLE),
    ],
)
def test_tampering_with_the_files_is_found(books: None, name: str, change: Callable[[Path], None], code: FaultCode) -> None:
    change(Path(settings.NEXA_LOG_ROOT) / "epoch-2" / name)
    assert codes() == [code]


def test_without_files_the_database_is_verified_alone(books: None) -> None:
    settings.NEXA_LOG_ROOT = Path(settings.NEXA_LOG_ROOT) / "nowhere"
    assert f"{LEAVES} leaves, 2 checkpoints, 0 files" in verify()


def test_items_may_wait_a_minute_and_no_longer(books: None) -> None:
    entries_make(2)
    assert codes() == []
    tamper("UPDATE ledger_logitem SET created_at = created_at - interval '2 minutes' WHERE id IN (SELECT item_id FROM ledger_pendingitem)")
    [fault] = LedgerVerification().faults()
    assert fault.code == FaultCode.ITEM_OVERDUE
    assert "found 2 waiting" in str(fault)


def test_memory_is_that_of_a_page_however_long_the_log_is(own_database: str) -> None:
    items_insert(5000)
    checkpoint_publish()
    verification = LedgerVerification()
    tracemalloc.start()
    try:
        found = {fault.code for fault in verification.faults()}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert verification.leaves == 5000
    assert found == {FaultCode.ITEM_COLUMNS_WRONG}  # items of no kind
    assert peak < 12 * 2**20
