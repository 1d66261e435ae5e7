"""What the rules remember of the leaves so far, and what they have found."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from client.audit.findings import Findings
from client.audit.shelves import Heap, Shelf, shelves_open
from workers.protocol.keys import PublicKey

AMOUNT_MAX: Final = 2**63 - 1
"""What a coordinator's database can hold."""
_EPOCH: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class AcceptedReceipt:
    """An accepted receipt of a job that is what it must be, and the account that earned it."""

    digest: str
    key_id: str
    account: str
    paid: bool = False


@dataclass(slots=True)
class JobBooks:
    """One job. Ids are 32 hexadecimal digits, amounts millionths of a credit, `..._leaf` indexes in the log."""

    reserver: str | None = None
    reserved: int = 0
    paid: int = 0
    refunded: int = 0
    payments: int = 0
    payment_leaf: int = 0
    payment_at: str = ""
    refund_leaf: int | None = None
    refused: int = 0
    """Receipts that the log calls accepted and that are not what they must be."""
    formula: tuple[str, ...] = ()
    """Of its payments: version, FLOPs, ratio, rate, and the share of the reservation or nothing."""
    accepted_leaf: int = 0
    accepted_at: str = ""
    """Of the last accepted receipt."""
    receipt_leaf: int = 0
    receipt_at: str = ""
    """Of the last receipt, accepted or not."""
    quorum: int | None = None
    ruled: bool = False
    """A moderator decided, not the quorum."""
    spot: tuple[str, str, bool] | None = None
    """(key, share, chosen)."""
    accepted: dict[str, AcceptedReceipt] = field(default_factory=dict)
    """By replica."""

    @property
    def left(self) -> int:
        """What of the reservation is still in the escrow."""
        return self.reserved - self.paid - self.refunded


@dataclass(slots=True)
class NodeKey:
    """A registered node key and the account that its work is paid to."""

    public_key: PublicKey
    account: str


@dataclass(slots=True)
class SpotKey:
    """A key that chooses which `spot` jobs run twice. `secret` is 64 hexadecimal digits, None while it is not published."""

    commitment: str | None
    secret: str | None


@dataclass
class Counts:
    """What was in the log."""

    entries: int = 0
    receipts: int = 0
    payments: int = 0
    node_keys: int = 0
    jobs_ruled: int = 0
    spot_choices: int = 0
    spot_choices_open: int = 0
    paid_micro: int = 0


class Books:
    """The memory of one audit, in a database in `folder`. Rules read and write it; it judges nothing."""

    def __init__(self, folder: Path, findings: Findings) -> None:
        self.findings = findings
        self.counts = Counts()
        self.newest_at = _EPOCH
        self.connection = connection = shelves_open(folder)
        self.jobs: Shelf[JobBooks] = Shelf(connection, "jobs", encode=_job_encode, decode=_job_decode)
        self.balances: Shelf[int] = Shelf(connection, "balances", encode=int, decode=int)
        self.node_keys: Shelf[NodeKey] = Shelf(
            connection,
            "node_keys",
            encode=lambda key: [key.public_key.raw.hex(), key.account],
            decode=lambda row: NodeKey(PublicKey(bytes.fromhex(row[0])), row[1]),
        )
        self.spot_keys: Shelf[SpotKey] = Shelf(connection, "spot_keys", encode=astuple, decode=lambda row: SpotKey(*row))
        self.names = Heap(connection, "names", ("digest BLOB", "space INTEGER", "leaf INTEGER"))
        """What may occur once: digests of names, by what they name (client/audit/closing_rules.py)."""
        self.entries = Heap(
            connection,
            "entries",
            ("entry INTEGER", "leaf INTEGER", "kind TEXT", "source TEXT", "target TEXT", "amount INTEGER", "job TEXT"),
        )
        self.reversals = Heap(connection, "reversals", ("entry INTEGER", "leaf INTEGER", "source TEXT", "target TEXT", "amount INTEGER"))
        self.spot_choices = Heap(connection, "spot_choices", ("spot_key TEXT", "job TEXT", "share TEXT", "chosen INTEGER", "leaf INTEGER"))

    def job(self, job: str) -> JobBooks:
        """The job's row, by its id, a new one if the log has not named it before."""
        return self.jobs.get(bytes.fromhex(job.replace("-", ""))) or JobBooks()

    def job_put(self, job: str, row: JobBooks) -> None:
        """Keeps a job's row."""
        self.jobs.put(bytes.fromhex(job.replace("-", "")), row)

    def flush(self) -> None:
        """Lets queries see all that was appended."""
        for heap in (self.names, self.entries, self.reversals, self.spot_choices):
            heap.flush()

    def close(self) -> None:
        """Ends the connection; the folder is the caller's to remove."""
        self.connection.close()


def _job_encode(row: JobBooks) -> list[Any]:
    accepted = {replica: [one.digest, one.key_id, one.account, one.paid] for replica, one in row.accepted.items()}
    return [
        row.reserver,
        row.reserved,
        row.paid,
        row.refunded,
        row.payments,
        row.payment_leaf,
        row.payment_at,
        row.refund_leaf,
        row.refused,
        row.formula,
        row.accepted_leaf,
        row.accepted_at,
        row.receipt_leaf,
        row.receipt_at,
        row.quorum,
        row.ruled,
        row.spot,
        accepted,
    ]


def _job_decode(row: list[Any]) -> JobBooks:
    *plain, formula, accepted_leaf, accepted_at, receipt_leaf, receipt_at, quorum, ruled, spot, accepted = row
    receipts = {replica: AcceptedReceipt(*one) for replica, one in accepted.items()}
    of_receipts = [accepted_leaf, accepted_at, receipt_leaf, receipt_at]
    values = [*plain, tuple(formula), *of_receipts, quorum, ruled, tuple(spot) if spot else None, receipts]
    return JobBooks(*values)
