"""A person's statement: each posting with the balance that it left, a page at a time or whole as a file.

An account's postings have ids in the order in which they happened (its balance is locked before a posting gets one), so the balance after
each follows from the newest one, backwards, or from nothing, forwards. A page's cursor carries the balance along, signed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from channels.db import database_sync_to_async
from django.core import signing

from ledger.exports import spreadsheet_cell
from ledger.models import Account, Posting
from ledger.selectors import statement_after, statement_page, transfer_other_account

EXPORT_LINES: Final = 1000
COLUMNS: Final = ("leaf", "at", "kind", "credits", "balance", "job", "replica", "receipt", "reason", "other_account")
_EVIDENCE: Final = ("job", "replica", "receipt", "reason")


@dataclass(frozen=True)
class StatementLine:
    """A posting, and what was on the account after it."""

    posting: Posting
    balance_micro: int

    @property
    def index(self) -> int | None:
        """The leaf that holds its entry; None until it is in the log, a second or so."""
        leaf = getattr(self.posting.entry.item, "leaf", None)
        return leaf.index if leaf else None

    @property
    def other_account(self) -> UUID | None:
        """Of a transfer: where the credits came from, or went; None for other kinds."""
        return transfer_other_account(self.posting)


@dataclass(frozen=True)
class StatementPage:
    """Newest first. `older` is the cursor of the page behind; None where this is the last."""

    lines: Sequence[StatementLine]
    older: str | None

    @property
    def decimals(self) -> int:
        """How many decimals the amounts and balances need, 2 at least: with as many each, they stand in line."""
        shown = [micro for line in self.lines for micro in (line.posting.amount_micro, line.balance_micro)]
        return max((2, *(len(f"{abs(micro) % 1_000_000:06d}".rstrip("0")) for micro in shown)))


def statement_lines(*, account: Account, cursor: str, limit: int) -> StatementPage:
    """Up to `limit` lines behind `cursor`; the newest for "" and for one that isn't this account's."""
    before, balance = _cursor_read(account, cursor)
    postings = statement_page(account=account, before=before, limit=limit + 1)
    if before is None and postings:
        balance = postings[0].account.balance_micro  # read by the same statement
    lines = []
    for posting in postings[:limit]:
        lines.append(StatementLine(posting, balance))
        balance -= posting.amount_micro
    older = signing.dumps([lines[-1].posting.pk, balance], salt=_salt(account)) if len(postings) > limit else None
    return StatementPage(lines, older)


def statement_csv(account: Account) -> Iterator[bytes]:
    """The whole statement for spreadsheets (RFC 4180), oldest first; credits as decimals."""
    yield _rows([COLUMNS])
    for lines in _pages(account):
        yield _rows([_cells(line) for line in lines])


def statement_json(account: Account) -> Iterator[bytes]:
    """The whole statement as one JSON document, oldest first; amounts in whole millionths, as strings."""
    yield json.dumps({"account_id": str(account.pk)})[:-1].encode() + b', "lines": ['
    separator = b"\n"
    for lines in _pages(account):
        for line in lines:
            yield separator + json.dumps(_document(line)).encode()
            separator = b",\n"
    yield b"\n]}\n"


async def chunks_async(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same for an event loop: each is made on a thread."""
    take: Callable[[], bytes | None] = lambda: next(chunks, None)  # noqa: E731  a def would need its own annotations and say no more
    while (chunk := await database_sync_to_async(take)()) is not None:
        yield chunk


def _pages(account: Account) -> Iterator[list[StatementLine]]:
    after, balance = 0, 0
    while postings := statement_after(account=account, after=after, limit=EXPORT_LINES):
        lines = []
        for posting in postings:
            balance += posting.amount_micro
            lines.append(StatementLine(posting, balance))
        yield lines
        after = postings[-1].pk


def _document(line: StatementLine) -> dict[str, Any]:
    entry = line.posting.entry
    return {
        "index": line.index,
        "entry": str(entry.pk),
        "at": entry.created_at.isoformat(),
        "kind": entry.kind,
        "amount_micro": str(line.posting.amount_micro),
        "balance_micro": str(line.balance_micro),
        "evidence": entry.evidence,
        "other_account": str(line.other_account) if line.other_account else None,
    }


def _cells(line: StatementLine) -> list[str]:
    entry = line.posting.entry
    index = "" if line.index is None else str(line.index)
    amounts = [_decimal(line.posting.amount_micro), _decimal(line.balance_micro)]
    return [
        index,
        entry.created_at.isoformat(),
        entry.kind,
        *amounts,
        *(spreadsheet_cell(str(entry.evidence.get(one, ""))) for one in _EVIDENCE),
        str(line.other_account or ""),
    ]


def _rows(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8")


def _decimal(micro: int) -> str:
    """Credits, exactly."""
    whole, part = divmod(abs(micro), 1_000_000)
    return f"{'-' if micro < 0 else ''}{whole}.{part:06d}"


def _salt(account: Account) -> str:
    return f"people.statements.{account.pk}"


def _cursor_read(account: Account, cursor: str) -> tuple[int | None, int]:
    """(the posting before which to read, the balance there)."""
    if not cursor:
        return None, 0
    try:
        before, balance = signing.loads(cursor, salt=_salt(account))
    except signing.BadSignature:
        return None, 0
    return int(before), int(balance)
