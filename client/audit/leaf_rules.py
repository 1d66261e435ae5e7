"""The rules for leaves of every kind, in the order of the log."""

from __future__ import annotations

from client.audit.books import Books
from client.audit.entry_rules import entry_check
from client.audit.findings import FindingCode
from client.audit.names import NAME_KEY, name_digest
from client.audit.receipt_rules import node_key_check, receipt_check
from client.audit.spot_rules import commitment_check, spot_key_check
from workers.protocol.leaves import (
    EntryLeaf,
    LeafMalformedError,
    NodeKeyLeaf,
    ReceiptLeaf,
    SpotCommitmentLeaf,
    SpotKeyLeaf,
    leaf_parse,
)


def leaf_check(books: Books, index: int, data: bytes) -> None:
    """Judges the next leaf."""
    try:
        leaf = leaf_parse(data)
    except LeafMalformedError as error:
        books.findings.add(FindingCode.LEAF_MALFORMED, index, str(error))
        return
    books.names.append(name_digest(leaf.key), NAME_KEY, index)
    books.newest_at = max(books.newest_at, leaf.at)
    match leaf:
        case EntryLeaf():
            entry_check(books, index, leaf)
        case NodeKeyLeaf():
            node_key_check(books, index, leaf)
        case ReceiptLeaf():
            receipt_check(books, index, leaf)
        case SpotCommitmentLeaf():
            commitment_check(books, index, leaf)
        case SpotKeyLeaf():
            spot_key_check(books, index, leaf)
