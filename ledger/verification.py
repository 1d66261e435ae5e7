"""Whether database, log and files agree: everything is read once and recomputed, a page at a time.

1. Each leaf in its place, its hash that of its item, its item what the rows of its entry say; each entry balanced.
2. Each checkpoint's root and compact range those of the tree, its note signed by a key of the coordinator.
3. Each balance the sum of its postings, none negative but the treasury's; each kind's total that of its entries; no row without the rows
   that it belongs to.
4. Each item in the log, or waiting for it a minute at most.
5. Each published file what the database has, the published checkpoint one that it knows.

That a payment is for a receipt that was accepted is not looked at here: an auditor does, from outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ledger.checkpoints import log_authority, log_epoch, log_origin
from ledger.coordinator_key import coordinator_public_key
from ledger.epochs import epoch_documents
from ledger.faults import Fault, FaultCode
from ledger.models import Checkpoint, CoordinatorSuccession, EntryKind, LogItem, LogLeaf
from ledger.movements import entry_leaf
from ledger.publication import PublishedAheadError, PublishedUnreadableError, published_check, published_checkpoint
from ledger.published_files import PublishedFiles
from workers.protocol import signed_note
from workers.protocol.canonical import json_parse
from workers.protocol.epochs import epochs_open
from workers.protocol.errors import KeyWrongError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.leaves import LEAF_BYTES_MAX
from workers.protocol.merkle import CompactRange, leaf_hash

PAGE_LEAVES: Final = 1000
OVERDUE: Final = timedelta(minutes=1)

_ENTRY_KINDS: Final = frozenset(kind.value for kind in EntryKind)
_ROWS: Final = (
    (
        FaultCode.ENTRY_ITEM_MISSING,
        "SELECT 'entry ' || item_id FROM ledger_entry e WHERE NOT EXISTS (SELECT FROM ledger_logitem i WHERE i.id = e.item_id)",
        "expected its item in the log, found none",
    ),
    (
        FaultCode.POSTING_STRAY,
        "SELECT 'posting ' || id FROM ledger_posting p WHERE NOT EXISTS (SELECT FROM ledger_entry e WHERE e.item_id = p.entry_id)",
        "expected its entry, found none",
    ),
    (
        FaultCode.ENTRY_UNBALANCED,
        "SELECT 'entry ' || entry_id FROM ledger_posting GROUP BY entry_id HAVING sum(amount_micro) <> 0 OR count(*) < 2",
        "expected two postings or more that sum to zero, found others",
    ),
    (
        FaultCode.BALANCE_WRONG,
        "SELECT 'account ' || a.id FROM ledger_account a LEFT JOIN"
        " (SELECT account_id, sum(amount_micro) AS total FROM ledger_posting GROUP BY account_id) p ON p.account_id = a.id"
        " WHERE a.balance_micro <> coalesce(p.total, 0)",
        "expected its balance to be the sum of its postings, found another",
    ),
    (
        FaultCode.TOTAL_WRONG,
        "SELECT 'kind ' || kind FROM ledger_entrytotal t FULL JOIN (SELECT kind, count(DISTINCT item_id) AS entries,"
        " sum(amount_micro) FILTER (WHERE amount_micro > 0"
        " AND account_id <> (SELECT id FROM ledger_account WHERE kind = 'treasury')) AS credited"
        " FROM ledger_entry e LEFT JOIN ledger_posting p ON p.entry_id = e.item_id GROUP BY kind) found USING (kind)"
        " WHERE (t.entries, t.credited_micro) IS DISTINCT FROM (coalesce(found.entries, 0), coalesce(found.credited, 0))",
        "expected the count of its entries and the sum of what they credit, found others",
    ),
    (
        FaultCode.ACCOUNT_NEGATIVE,
        "SELECT 'account ' || id FROM ledger_account WHERE balance_micro < 0 AND kind <> 'treasury'",
        "expected no negative balance but the treasury's, found one",
    ),
    (
        FaultCode.ITEM_LOST,
        "SELECT 'item ' || id FROM ledger_logitem i WHERE NOT EXISTS (SELECT FROM ledger_logleaf l WHERE l.item_id = i.id)"
        " AND NOT EXISTS (SELECT FROM ledger_pendingitem p WHERE p.item_id = i.id)",
        "expected a leaf that holds it, or to find it waiting for one; it is neither",
    ),
    (
        FaultCode.ITEM_PENDING_TWICE,
        "SELECT 'item ' || item_id FROM ledger_pendingitem JOIN ledger_logleaf USING (item_id)",
        "expected it in the log or waiting for it, found both",
    ),
)
"""(code, rows that are at fault by name, what is wrong with them)."""


class LedgerVerification:
    """One pass over everything, in one snapshot of the database. `leaves` and `checkpoints` say how far it came."""

    def __init__(self) -> None:
        self.leaves = 0
        self.checkpoints = 0
        self.files = 0

    def faults(self) -> Iterator[Fault]:
        """Every fault, as it is found; memory stays flat."""
        keys = _coordinator_keys()
        with transaction.atomic(durable=True):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield from self._log(keys)
            yield from _rows()
            yield from _overdue()
            yield from _epochs(keys)
        # Outside of the snapshot: what was published meanwhile is not ahead of the database.
        yield from _published()

    def _log(self, keys: Sequence[PublicKey]) -> Iterator[Fault]:
        tree = CompactRange()
        files = PublishedFiles(_published_size())
        checkpoints = Checkpoint.objects.order_by("size", "pk").iterator(chunk_size=PAGE_LEAVES)
        following = next(checkpoints, None)
        for leaf, item, entry in _leaves():
            if leaf.index != self.leaves:
                yield Fault(FaultCode.LEAF_GAP, f"expected leaf {self.leaves}, found {leaf.index}")
                return
            if item is None:
                yield Fault(FaultCode.LEAF_ITEM_MISSING, f"leaf {leaf.index}: expected item {leaf.item_id}, found none")
                return
            data = bytes(item.data)
            if (found := leaf_hash(data)) != bytes(leaf.hash):
                yield Fault(FaultCode.LEAF_HASH_WRONG, f"leaf {leaf.index}: expected the hash of its item's data, found another")
            yield from _item_faults(leaf.index, item, entry)
            tree.append(found)
            self.leaves += 1
            yield from files.append(data, found)
            while following is not None and following.size == tree.size:
                yield from _checkpoint_faults(following, tree, keys)
                self.checkpoints += 1
                following = next(checkpoints, None)
        self.files = files.checked
        if following is not None:
            yield Fault(FaultCode.LEAF_GAP, f"expected {following.size} leaves, as a checkpoint covers, found {self.leaves}")
        elif self.leaves and not Checkpoint.objects.filter(size=self.leaves).exists():
            yield Fault(FaultCode.CHECKPOINT_MISSING, f"expected a checkpoint over all {self.leaves} leaves, found none")


def _leaves() -> Iterator[tuple[LogLeaf, LogItem | None, dict[str, Any] | None]]:
    """Leaves in order, each with its item, and with the entry as its rows say it is: the arguments of entry_leaf."""
    after = -1
    while page := list(LogLeaf.objects.filter(index__gt=after).order_by("index")[:PAGE_LEAVES]):
        numbers = [leaf.item_id for leaf in page]
        items = LogItem.objects.in_bulk(numbers)
        entries: dict[int, dict[str, Any]] = {}
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT item_id, kind, idempotency_key, created_at, evidence::text FROM ledger_entry WHERE item_id = ANY(%s)", [numbers]
            )
            for number, kind, key, at, evidence in cursor.fetchall():
                entries[number] = {"kind": kind, "key": key, "at": at, "evidence": json.loads(evidence), "postings": {}}
            cursor.execute("SELECT entry_id, account_id, amount_micro FROM ledger_posting WHERE entry_id = ANY(%s)", [numbers])
            for number, account, amount in cursor.fetchall():
                if number in entries:
                    entries[number]["postings"][account] = amount
        for leaf in page:
            yield leaf, items.get(leaf.item_id), entries.get(leaf.item_id)
        after = page[-1].index


def _item_faults(index: int, item: LogItem, entry: dict[str, Any] | None) -> Iterator[Fault]:
    data = bytes(item.data)
    if item.kind in _ENTRY_KINDS:
        if entry is None:
            yield Fault(FaultCode.ENTRY_MISSING, f"leaf {index}: expected entry {item.pk}, found none")
        elif entry_leaf(number=item.pk, **entry) != data or (item.kind, item.key, item.created_at) != (
            entry["kind"],
            entry["key"],
            entry["at"],
        ):
            yield Fault(
                FaultCode.ENTRY_ALTERED, f"leaf {index}: expected entry {item.pk} and its postings to be what it says, found others"
            )
        return
    try:
        document = json_parse(data, limit_bytes=LEAF_BYTES_MAX)
        said = document["kind"], document["key"], datetime.fromisoformat(document["at"])
    except (VerificationError, KeyError, TypeError, ValueError):
        said = None
    if said != (item.kind, item.key, item.created_at):
        yield Fault(
            FaultCode.ITEM_COLUMNS_WRONG, f"leaf {index}: expected item {item.pk} to be a {item.kind} as its columns say, found another"
        )


def _checkpoint_faults(checkpoint: Checkpoint, tree: CompactRange, keys: Sequence[PublicKey]) -> Iterator[Fault]:
    where = f"checkpoint {checkpoint.pk} over {checkpoint.size} leaves"
    root = tree.root()
    if bytes(checkpoint.root) != root:
        yield Fault(FaultCode.CHECKPOINT_ROOT_WRONG, f"{where}: expected the root {root.hex()}, found {bytes(checkpoint.root).hex()}")
    if checkpoint.compact_range != [one.hex() for one in tree.hashes]:
        yield Fault(FaultCode.CHECKPOINT_RANGE_WRONG, f"{where}: expected the compact range of that tree, found another")
    expected = signed_note.Checkpoint(log_origin(checkpoint.epoch), tree.size, root).to_text()
    if _note_text(checkpoint, keys) != expected:
        yield Fault(FaultCode.CHECKPOINT_NOTE_WRONG, f"{where}: expected a note of that tree by a key of the coordinator, found another")


def _note_text(checkpoint: Checkpoint, keys: Sequence[PublicKey]) -> str | None:
    """What a key of the coordinator signed; None where none did."""
    for key in keys:
        try:
            return signed_note.note_open(checkpoint.note.encode("utf-8"), name=log_origin(checkpoint.epoch), key=key)
        except KeyWrongError:
            continue
        except VerificationError:
            return None
    return None


def _coordinator_keys() -> list[PublicKey]:
    """Newest first: most checkpoints are of the last."""
    before = CoordinatorSuccession.objects.order_by("-pk").values_list("public_key", flat=True)
    return [coordinator_public_key(), *(PublicKey(bytes(one)) for one in before)]


def _rows() -> Iterator[Fault]:
    for code, statement, found in _ROWS:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            while rows := cursor.fetchmany(PAGE_LEAVES):
                yield from (Fault(code, f"{name}: {found}") for (name,) in rows)


def _overdue() -> Iterator[Fault]:
    overdue = LogItem.objects.filter(pending__isnull=False, created_at__lt=timezone.now() - OVERDUE)
    if (oldest := overdue.order_by("created_at").first()) is not None:
        yield Fault(
            FaultCode.ITEM_OVERDUE,
            f"expected every item in the log within {OVERDUE.total_seconds():.0f} s, found {overdue.count()} waiting, "
            f"the first, {oldest.key}, since {oldest.created_at:%Y-%m-%d %H:%M:%S} UTC. Is a conclude worker running?",
        )


def _epochs(keys: Sequence[PublicKey]) -> Iterator[Fault]:
    documents = epoch_documents()
    try:
        statements = epochs_open([one["envelope"] for one in documents], keys=keys, authority=log_authority())
    except VerificationError as error:
        yield Fault(FaultCode.EPOCH_WRONG, str(error))
        return
    for document, statement in zip(documents, statements, strict=True):
        if (document["number"], document["origin"]) != (statement.number, statement.origin):
            yield Fault(FaultCode.EPOCH_WRONG, f"expected epoch {document['number']} to be as its statement says, found another")


def _published() -> Iterator[Fault]:
    try:
        published_check(epoch=log_epoch())
    except PublishedAheadError as error:
        yield Fault(FaultCode.PUBLISHED_AHEAD, str(error))
    except PublishedUnreadableError as error:
        yield Fault(FaultCode.PUBLISHED_UNREADABLE, str(error))


def _published_size() -> int:
    """How many leaves the files of the present epoch cover; 0 where none were published here."""
    if not Path(settings.NEXA_LOG_ROOT).is_dir():
        return 0
    try:
        published = published_checkpoint(epoch=log_epoch())
    except PublishedUnreadableError:
        return 0
    return published.size if published else 0
