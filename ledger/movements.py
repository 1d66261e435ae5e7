"""Movements of credits: any number at once, written as entries, postings and items of the log in a few statements.

1. A movement is written once: its key again, with the same content, changes nothing; with another content it is an error.
2. Balances are locked before anything is looked at, in the order treasury, escrow, people: movements that share an account wait for each
   other and never deadlock, also when a transaction makes several. A movement's key can't come from two sides at once, as the same
   movement touches the same accounts.
3. Movements happen in the order in which they are given, each against the balances that those before it have left.
4. What enters the log can be written as canonical JSON, within what a leaf may hold: an entry that can't would stop the log for ever.
5. The database enforces the rest, whoever writes (migration 0002).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from ledger.models import AccountKind, Entry, EntryKind
from workers.protocol.canonical import canonical_json
from workers.protocol.leaves import LEAF_BYTES_MAX
from workers.protocol.problems import ProblemError

_LOCK: Final = """SELECT id, kind, balance_micro FROM ledger_account WHERE id = ANY(%s)
    ORDER BY CASE kind WHEN 'treasury' THEN 0 WHEN 'escrow' THEN 1 ELSE 2 END, id FOR NO KEY UPDATE"""
_NUMBERS: Final = "SELECT nextval('ledger_logitem_id_seq') FROM generate_series(1, %s)"
_ENTRIES: Final = """INSERT INTO ledger_entry (item_id, kind, idempotency_key, evidence, created_at)
    SELECT id, kind, key, evidence, %s FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::jsonb[]) AS given (id, kind, key, evidence)"""
_POSTINGS: Final = """INSERT INTO ledger_posting (entry_id, account_id, amount_micro)
    SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bigint[])"""
_ITEMS: Final = """INSERT INTO ledger_logitem (id, kind, key, data, created_at)
    SELECT id, kind, key, data, %s FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bytea[]) AS given (id, kind, key, data)"""


class CreditsInsufficientError(ProblemError):
    """The account does not hold what the movement needs."""

    code = "credits_insufficient"
    status = 402
    title = "Not enough credits"


class EntryConflictError(Exception):
    """The idempotency key was used for another content: our bug, never the caller's fault."""


@dataclass(frozen=True)
class Movement:
    """Credits that move between accounts, by account id and in millionths: two or more amounts, none zero, that sum to zero.

    `evidence` is public: strings by name, at most one level deep, so that what PostgreSQL gives back is what was written.
    Raises ValueError.
    """

    kind: EntryKind
    key: str
    evidence: Mapping[str, Any]
    postings: Mapping[UUID, int]

    def __post_init__(self) -> None:
        amounts = self.postings.values()
        if sum(amounts) != 0 or len(amounts) < 2 or 0 in amounts:
            raise ValueError(f"{self.key}: expected at least two non-zero postings that sum to zero; found {list(amounts)}")
        values = [inner for value in self.evidence.values() for inner in (value.values() if isinstance(value, Mapping) else [value])]
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{self.key}: expected evidence made of strings, found {self.evidence!r}")


def movements_post(movements: Sequence[Movement]) -> None:
    """Writes them, all or none, in six statements or fewer. Those that were written before are left as they are.

    Raises CreditsInsufficientError, naming the first movement that an account can't afford; EntryConflictError; ValueError where a leaf
    would be too long. After an error nothing was written.
    """
    if not movements:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        balances, kinds = {}, {}
        cursor.execute(_LOCK, [list({account for movement in movements for account in movement.postings})])
        for account, kind, balance in cursor.fetchall():
            balances[account], kinds[account] = balance, kind
        new = _new_of(movements)
        for movement in new:
            for account, amount in movement.postings.items():
                balances[account] += amount
                if balances[account] < 0 and amount < 0 and kinds[account] != AccountKind.TREASURY:
                    raise _insufficient(movement, needed=-amount, balance=balances[account] - amount)
        if not new:
            return
        cursor.execute(_NUMBERS, [len(new)])
        numbers = [number for (number,) in cursor.fetchall()]
        at = timezone.now()
        names = [str(movement.kind) for movement in new], [movement.key for movement in new]
        data = [_leaf(number, movement, at) for number, movement in zip(numbers, new, strict=True)]
        cursor.execute(_ENTRIES, [at, numbers, *names, [_text(dict(movement.evidence)) for movement in new]])
        rows = [(number, *one) for number, movement in zip(numbers, new, strict=True) for one in movement.postings.items()]
        cursor.execute(_POSTINGS, [list(column) for column in zip(*rows, strict=True)])
        cursor.execute(_ITEMS, [at, numbers, *names, data])


def entry_leaf(*, number: int, kind: str, key: str, at: datetime, evidence: Mapping[str, Any], postings: Mapping[UUID, int]) -> bytes:
    """The leaf of an entry, as canonical JSON; postings in the order of their accounts' ids."""
    lines = [{"account": account, "amount_micro": amount} for account, amount in sorted((str(a), str(m)) for a, m in postings.items())]
    document = {"at": at.isoformat(), "entry": str(number), "evidence": dict(evidence), "key": key, "kind": kind, "postings": lines}
    return _text(document).encode("utf-8")


def _leaf(number: int, movement: Movement, at: datetime) -> bytes:
    data = entry_leaf(number=number, kind=movement.kind, key=movement.key, at=at, evidence=movement.evidence, postings=movement.postings)
    if len(data) > LEAF_BYTES_MAX:
        raise ValueError(f"{movement.key}: expected a leaf of at most {LEAF_BYTES_MAX} bytes, found {len(data)}")
    return data


def _text(document: dict[str, Any]) -> str:
    """Canonical JSON. Strings under ASCII names the standard library writes as RFC 8785 does, in a fraction of the time."""
    names = "".join([*document, *(name for value in document.values() if isinstance(value, dict) for name in value)])
    if not names.isascii():
        return canonical_json(document).decode("utf-8")
    return _ENCODER.encode(document)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _new_of(movements: Sequence[Movement]) -> list[Movement]:
    """Those that are not written yet, each once. The balances are locked. Raises EntryConflictError."""
    first: dict[str, Movement] = {}
    for movement in movements:
        if first.setdefault(movement.key, movement) is not movement and not _same(first[movement.key], movement):
            raise EntryConflictError(f"{movement.key} comes twice, with different content")
    written = Entry.objects.filter(idempotency_key__in=list(first)).prefetch_related("postings")
    for entry in written:
        movement = first.pop(entry.idempotency_key)
        if entry.kind != movement.kind or {one.account_id: one.amount_micro for one in entry.postings.all()} != movement.postings:
            raise EntryConflictError(f"{movement.key} was posted before with another content: entry {entry.pk}")
    return list(first.values())


def _same(one: Movement, other: Movement) -> bool:
    return one.kind == other.kind and dict(one.postings) == dict(other.postings)


def _insufficient(movement: Movement, *, needed: int, balance: int) -> CreditsInsufficientError:
    amounts = {"key": movement.key, "needed_micro": str(needed), "balance_micro": str(balance)}
    if movement.kind == EntryKind.RESERVATION:
        return CreditsInsufficientError(
            f"This job reserves up to {needed / 1e6:.6f} credits; your balance is {balance / 1e6:.6f}. "
            "Earn some with a node, ask a moderator for a grant, or lower estimated_flops, copies or credit_rate.",
            **amounts,
        )
    return CreditsInsufficientError(
        f"The {movement.kind} {movement.key} takes {needed / 1e6:.6f} credits; the account holds {balance / 1e6:.6f}.", **amounts
    )
