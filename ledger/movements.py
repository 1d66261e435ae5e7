"""Movements of credits: any number at once, written as entries, postings and items of the log in a few statements.

1. A movement is written once: its key again, with the same content, changes nothing; with another content it is an error.
2. Balances are locked before anything is looked at, in the order of the accounts' ids, treasury and escrow first: movements that share an
   account wait for each other. So a movement can't come from two sides at once, as it touches the same accounts on both.
3. Movements happen in the order in which they are given, each against the balances that those before it have left.
4. What enters the log can be written as canonical JSON, within what a leaf may hold: an entry that can't would stop the log for ever.
5. The database enforces the rest, whoever writes (migration 0002).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from ledger.models import Entry, EntryKind
from workers.protocol.canonical import canonical_json
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY, LEAF_BYTES_MAX
from workers.protocol.problems import ProblemError

REVERSAL_KEYS: Final = "reversal:"
"""What the idempotency keys of reversals begin with."""

_LOCK: Final = "SELECT id, balance_micro FROM ledger_account WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
_WRITTEN: Final = "SELECT item_id FROM ledger_entry WHERE idempotency_key = ANY(%s)"
_NUMBERS: Final = "SELECT nextval('ledger_logitem_id_seq') FROM generate_series(1, %s)"
_ENTRIES: Final = "COPY ledger_entry (item_id, kind, idempotency_key, evidence, created_at) FROM STDIN"
_POSTINGS: Final = "COPY ledger_posting (entry_id, account_id, amount_micro) FROM STDIN"
_ITEMS: Final = "COPY ledger_logitem (id, kind, key, data, created_at) FROM STDIN"


class CreditsInsufficientError(ProblemError):
    """The account does not hold what the movement needs."""

    code = "credits_insufficient"
    status = 402
    title = "Not enough credits"


class EntryConflictError(Exception):
    """The idempotency key was used for another content: our bug, never the caller's fault."""


def reversal_key(entry_id: int) -> str:
    """The idempotency key under which an entry is reversed, once."""
    return f"{REVERSAL_KEYS}{entry_id}"


def transfer_key(account_id: UUID, transfer_id: UUID) -> str:
    """The idempotency key of what an account's owner gives away: nobody else's ids are in their way."""
    return f"transfer:{account_id}:{transfer_id}"


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
        for value in self.evidence.values():
            if not isinstance(value, str) and not (isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values())):
                raise ValueError(f"{self.key}: expected evidence made of strings, found {self.evidence!r}")


def movements_post(movements: Sequence[Movement]) -> int:
    """Writes them, all or none, in six statements or fewer; how many were new. Those that were written before are left as they are.

    Raises CreditsInsufficientError, naming the first movement that an account can't afford; EntryConflictError; ValueError where a leaf
    would be too long. After an error nothing was written.
    """
    if not movements:
        return 0
    with transaction.atomic(), connection.cursor() as cursor:
        balances = _balances_locked(cursor, {account for movement in movements for account in movement.postings})
        new = _new_of(cursor, movements)
        for movement in new:
            _balances_move(balances, movement)
        if not new:
            return 0
        cursor.execute(_NUMBERS, [len(new)])
        numbered = [(number, movement) for (number,), movement in zip(cursor.fetchall(), new, strict=True)]
        at = timezone.now()
        _rows_write(
            cursor, _ENTRIES, ((number, one.kind, one.key, canonical_json(dict(one.evidence)).decode(), at) for number, one in numbered)
        )
        _rows_write(cursor, _POSTINGS, ((number, *side) for number, one in numbered for side in one.postings.items()))
        _rows_write(cursor, _ITEMS, ((number, one.kind, one.key, _leaf(number, one, at), at) for number, one in numbered))
    return len(new)


def balances_lock(accounts: Collection[UUID]) -> None:
    """Locks the balances of these accounts and of the escrow, in rule 2's order, for who will post more than once in one transaction."""
    with connection.cursor() as cursor:
        _balances_locked(cursor, {ACCOUNT_ESCROW, *accounts})


def entry_leaf(*, number: int, kind: str, key: str, at: datetime, evidence: Mapping[str, Any], postings: Mapping[UUID, int]) -> bytes:
    """The leaf of an entry, as canonical JSON; postings in the order of their accounts' ids."""
    lines = [{"account": account, "amount_micro": amount} for account, amount in sorted((str(a), str(m)) for a, m in postings.items())]
    document = {"at": at.isoformat(), "entry": str(number), "evidence": dict(evidence), "key": key, "kind": str(kind), "postings": lines}
    return canonical_json(document)


def _balances_locked(cursor: Any, accounts: Collection[UUID]) -> dict[UUID, int]:
    cursor.execute(_LOCK, [list(accounts)])
    return dict(cursor.fetchall())


def _leaf(number: int, movement: Movement, at: datetime) -> bytes:
    data = entry_leaf(number=number, kind=movement.kind, key=movement.key, at=at, evidence=movement.evidence, postings=movement.postings)
    if len(data) > LEAF_BYTES_MAX:
        raise ValueError(f"{movement.key}: expected a leaf of at most {LEAF_BYTES_MAX} bytes, found {len(data)}")
    return data


def _new_of(cursor: Any, movements: Sequence[Movement]) -> list[Movement]:
    """Those that are not written yet, each once. The balances are locked. Raises EntryConflictError."""
    first: dict[str, Movement] = {}
    for movement in movements:
        if first.setdefault(movement.key, movement) is not movement and not _same(first[movement.key], movement):
            raise EntryConflictError(f"{movement.key} comes twice, with different content")
    cursor.execute(_WRITTEN, [list(first)])
    written = [number for (number,) in cursor.fetchall()]
    for entry in Entry.objects.filter(pk__in=written).prefetch_related("postings") if written else ():
        movement = first.pop(entry.idempotency_key)
        if entry.kind != movement.kind or {one.account_id: one.amount_micro for one in entry.postings.all()} != movement.postings:
            raise EntryConflictError(f"{movement.key} was posted before with another content: entry {entry.pk}")
    return list(first.values())


def _balances_move(balances: dict[UUID, int], movement: Movement) -> None:
    """What the balances are after it. Raises CreditsInsufficientError."""
    for account, amount in movement.postings.items():
        balance = balances[account]
        balances[account] = balance + amount
        if amount < 0 and balance + amount < 0 and account != ACCOUNT_TREASURY:
            raise _insufficient(movement, needed=-amount, balance=balance)


def _rows_write(cursor: Any, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


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
    if movement.kind == EntryKind.TRANSFER:
        return CreditsInsufficientError(
            f"Expected at most the {balance / 1e6:.6f} credits that you have, found {needed / 1e6:.6f}.", **amounts
        )
    return CreditsInsufficientError(
        f"The {movement.kind} {movement.key} takes {needed / 1e6:.6f} credits; the account holds {balance / 1e6:.6f}.", **amounts
    )
