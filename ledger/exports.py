"""The log as a download: JSON lines that can be hashed, and a table for spreadsheets. A page of leaves at a time, in flat memory."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

from channels.db import database_sync_to_async

from ledger.selectors import Leaf, leaf_document, leaves_page

PAGE_LEAVES: Final = 1000
COLUMNS: Final = ("index", "at", "kind", "key", "account", "amount_micro")

Leaves = Sequence[Leaf]


def json_lines(page: Leaves) -> bytes:
    """The exact bytes that each leaf's hash covers, and a newline."""
    return b"".join(leaf.data + b"\n" for leaf in page)


def csv_rows(page: Leaves) -> bytes:
    """A row for each posting of the page's entries; before the first leaf of the log, the names of the columns (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    if not page or page[0].index == 0:
        writer.writerow(COLUMNS)
    for leaf in page:
        document = leaf_document(leaf)
        for posting in document.get("postings", ()):
            entry = [document["index"], document["at"], document["kind"], spreadsheet_cell(document["key"])]
            writer.writerow([*entry, posting["account"], posting["amount_micro"]])
    return out.getvalue().encode("utf-8")


def pages(export: Callable[[Leaves], bytes]) -> Iterator[bytes]:
    """The whole log as `export` writes it."""
    after = -1
    while page := leaves_page(after=after, limit=PAGE_LEAVES):
        yield export(page)
        after = page[-1].index
    if after < 0:
        yield export(())


async def pages_async(export: Callable[[Leaves], bytes]) -> AsyncIterator[bytes]:
    """`pages` for an event loop: each page is read on a thread."""
    after = -1
    while page := await database_sync_to_async(leaves_page)(after=after, limit=PAGE_LEAVES):
        yield export(page)
        after = page[-1].index
    if after < 0:
        yield export(())


def spreadsheet_cell(text: str) -> str:
    """Text of somebody's choosing, so that no spreadsheet takes it for a formula: those start with one of these, white space aside."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@", "|", "%")) else text
