"""Every read of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.models import Account, Checkpoint, Entry, EntryKind, EntryTotal, LogLeaf, Posting
from ledger.movements import reversal_key
from ledger.tiles import range_roots
from workers.protocol.canonical import json_parse
from workers.protocol.leaves import LEAF_BYTES_MAX
from workers.protocol.merkle import consistency_ranges, inclusion_ranges


@dataclass(frozen=True)
class Leaf:
    """A leaf of the log: its place, and what its hash covers."""

    index: int
    data: bytes


def inclusion_proof_of(*, index: int, size: int) -> list[bytes]:
    """The RFC 9162 proof that leaf `index` is in the tree of the first `size` leaves. Raises ProofRangeError, TileMissingError."""
    return range_roots(inclusion_ranges(index, size))


def consistency_proof_of(*, old: int, new: int) -> list[bytes]:
    """The RFC 9162 proof that the tree of `new` leaves begins with that of `old`. Raises ProofRangeError, TileMissingError."""
    return range_roots(consistency_ranges(old, new))


def checkpoint_at_least(*, size: int) -> Checkpoint | None:
    """The smallest checkpoint that covers `size` leaves."""
    return Checkpoint.objects.filter(size__gte=size).order_by("size", "-pk").first()


def leaves_page(*, after: int, limit: int) -> list[Leaf]:
    """Up to `limit` leaves with an index above `after` (-1 starts), in order."""
    rows = LogLeaf.objects.filter(index__gt=after).order_by("index").values_list("index", "item__data")[:limit]
    return [Leaf(index, bytes(data)) for index, data in rows]


def leaves_newest(*, before: int | None, limit: int) -> list[Leaf]:
    """Up to `limit` leaves with an index below `before` (None: the newest), newest first."""
    leaves = LogLeaf.objects.order_by("-index").values_list("index", "item__data")
    rows = (leaves if before is None else leaves.filter(index__lt=before))[:limit]
    return [Leaf(index, bytes(data)) for index, data in rows]


def leaf_document(leaf: Leaf) -> dict[str, Any]:
    """A leaf as JSON: its index, and what its data holds."""
    return {"index": leaf.index, **json_parse(leaf.data, limit_bytes=LEAF_BYTES_MAX)}


def balance_micro_of(*, user_id: int) -> int:
    """Millionths of a credit on a person's account; 0 for one that has none yet."""
    return Account.objects.filter(owner=user_id).values_list("balance_micro", flat=True).first() or 0


def statement_page(*, account: Account, before: int | None, limit: int) -> Sequence[Posting]:
    """Up to `limit` postings of an account below posting id `before`, newest first: entries with all postings, leaves
    and the account along."""
    postings = (
        Posting.objects.filter(account=account)
        .select_related("entry__item__leaf", "account")
        .prefetch_related("entry__postings")
        .order_by("-pk")
    )
    return list((postings.filter(pk__lt=before) if before is not None else postings)[:limit])


def statement_after(*, account: Account, after: int, limit: int) -> Sequence[Posting]:
    """Up to `limit` postings of an account above posting id `after` (0 starts), oldest first, with their entries, all
    postings of these, and leaves."""
    postings = Posting.objects.filter(account=account, pk__gt=after).select_related("entry__item__leaf").prefetch_related("entry__postings")
    return list(postings.order_by("pk")[:limit])


def checkpoints_page(*, before: int | None, limit: int) -> list[Checkpoint]:
    """Up to `limit` checkpoints with an id below `before` (None: the newest), newest first."""
    checkpoints = Checkpoint.objects.order_by("-pk")
    return list((checkpoints if before is None else checkpoints.filter(pk__lt=before))[:limit])


def transfer_other_account(posting: Posting) -> UUID | None:
    """Where the credits of a transfer came from, or went, for the account of `posting`; None for other kinds."""
    if posting.entry.kind != EntryKind.TRANSFER:
        return None
    return next(side.account_id for side in posting.entry.postings.all() if side.account_id != posting.account_id)


def transfers_since(*, account: Account, since: datetime) -> int:
    """How many transfers from the account there were after `since`."""
    recent = Posting.objects.filter(account=account, amount_micro__lt=0, entry__kind=EntryKind.TRANSFER, entry__created_at__gt=since)
    return recent.count()


def payments_page(*, account: Account, before: int | None, limit: int) -> Sequence[Posting]:
    """As statement_page, of what was paid to the account for work and nothing else."""
    postings = Posting.objects.filter(account=account, entry__kind=EntryKind.PAYMENT, amount_micro__gt=0)
    newest = postings.select_related("entry__item__leaf").order_by("-pk")
    return list((newest.filter(pk__lt=before) if before is not None else newest)[:limit])


def reversed_among(postings: Sequence[Posting]) -> set[int]:
    """The ids of those entries of `postings` that were reversed."""
    entries = {reversal_key(posting.entry_id): posting.entry_id for posting in postings}
    reversals = Entry.objects.filter(idempotency_key__in=list(entries)).values_list("idempotency_key", flat=True)
    return {entries[key] for key in reversals}


def totals() -> dict[str, int]:
    """{entries, granted_micro, paid_micro}: what the public pages show; `paid_micro` is what was paid and stayed paid.

    A row for each kind is read, however long the log is.
    """
    found = {total.kind: total for total in EntryTotal.objects.all()}
    return {
        "entries": sum(total.entries for total in found.values()),
        "granted_micro": int(found[EntryKind.GRANT].credited_micro),
        "paid_micro": int(found[EntryKind.PAYMENT].credited_micro - found[EntryKind.REVERSAL].credited_micro),
    }
