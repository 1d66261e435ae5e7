"""What may occur once in a log. Occurrences are written down as digests and sorted at the end: all names would not fit in memory."""

from __future__ import annotations

import hashlib
from typing import Final

from client.audit.books import Books
from client.audit.findings import FindingCode
from workers.protocol.leaves import Leaf

NAME_KEY: Final = 0
NAME_ENTRY: Final = 1
NAME_ORDER: Final = 2

REPEATED: Final = {
    NAME_KEY: (FindingCode.KEY_REPEATED, "Its key"),
    NAME_ENTRY: (FindingCode.ENTRY_REPEATED, "Its entry number"),
    NAME_ORDER: (FindingCode.ORDER_REPEATED, "A receipt of its order"),
}
"""For each kind of name the code, and how the sentence of the finding starts."""


def name_digest(name: str) -> bytes:
    """16 bytes that stand for `name`. Who finds two alike in 2^64 tries has two names for a finding, and gains nothing."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def key_check(books: Books, index: int, leaf: Leaf, key: str) -> None:
    """That a leaf has the key that its kind and its subject give it: then two of one subject have one key, and that occurs once."""
    if leaf.key != key:
        books.findings.add(FindingCode.KEY_WRONG, index, f"Expected the key {key!r}; found {leaf.key!r}.")
