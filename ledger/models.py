"""Tables of the ledger. All but Account, EntryTotal and PendingItem are append-only (ledger/append_only.py); migration 0002 says what else
the database itself refuses."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class AccountKind(models.TextChoices):
    """Whose credits. Only the treasury may go negative: what it owes is what was ever granted."""

    TREASURY = "treasury"
    PERSON = "person"
    ESCROW = "escrow"


class Account(models.Model):
    """An opaque id and a balance, kept equal to the sum of its postings by the trigger that inserts them. Names stay outside the log.

    Its owner may be forgotten, and is otherwise its owner for good: the database refuses any other change.

    Treasury and escrow have ids that every portal shares (workers.protocol.leaves) and come with the migrations.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=AccountKind.choices)
    owner = models.OneToOneField(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="ledger_account")
    balance_micro = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind"], condition=~Q(kind="person"), name="account_one_treasury_one_escrow"),
            models.CheckConstraint(condition=Q(kind="treasury") | Q(balance_micro__gte=0), name="account_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class LogItem(models.Model):
    """What the Merkle log takes in: `data` is the leaf, written once when it happened (workers/protocol/leaves.py says what is in one).

    An item of an entry's kind completes the entry: no posting can be added any more.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=16)
    key = models.CharField(max_length=120, unique=True)
    data = models.BinaryField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.key


class EntryKind(models.TextChoices):
    """Why credits moved. Each names its evidence in docs/PROTOCOL.md."""

    GRANT = "grant"
    RESERVATION = "reservation"
    PAYMENT = "payment"
    REFUND = "refund"
    TRANSFER = "transfer"
    REVERSAL = "reversal"


class Entry(models.Model):
    """One balanced movement. `idempotency_key` makes a repeated posting the same entry; `evidence` is public (ids and digests only)."""

    item = models.OneToOneField(LogItem, primary_key=True, on_delete=models.PROTECT, related_name="entry")
    """Written after the entry and its postings, in the same transaction; the reference is checked at the commit."""
    kind = models.CharField(max_length=16, choices=EntryKind.choices)
    idempotency_key = models.CharField(max_length=120, unique=True)
    evidence = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "entries"
        indexes: ClassVar = [models.Index(fields=["created_at"], condition=Q(kind="transfer"), name="entry_transfers")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Posting(models.Model):
    """One side of an entry: `amount_micro` onto an account. The postings of an entry sum to zero (checked with its item)."""

    id = models.BigAutoField(primary_key=True)
    # Neither constraint nor index of its own: the trigger wants the entry to be there, and the constraint below has the index.
    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="postings", db_constraint=False, db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="postings")
    amount_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(amount_micro=0), name="posting_not_zero"),
            models.UniqueConstraint(fields=["entry", "account"], name="posting_one_per_account"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} to {self.account_id}"


class EntryTotal(models.Model):
    """How many entries of one kind there are, and how much they have credited to others than the treasury: of reversals, what payments were
    taken back. The items' trigger counts; there is a row for each kind."""

    kind = models.CharField(primary_key=True, max_length=16, choices=EntryKind.choices)
    entries = models.BigIntegerField(default=0)
    credited_micro = models.DecimalField(max_digits=38, decimal_places=0, default=0)
    """Beyond 64 bits: the same credits are reserved and refunded again and again."""

    def __str__(self) -> str:
        return f"{self.entries} of {self.kind}"


class PendingItem(models.Model):
    """An item that is not in the Merkle log yet. The item's trigger writes the row, the leaf's removes it."""

    item = models.OneToOneField(LogItem, primary_key=True, on_delete=models.PROTECT, related_name="pending", db_constraint=False)

    def __str__(self) -> str:
        return str(self.pk)


class LogLeaf(models.Model):
    """One leaf of the Merkle log: `index` is its place, `hash` the RFC 9162 leaf hash of its item's data (32 bytes)."""

    index = models.BigIntegerField(primary_key=True)
    item = models.OneToOneField(LogItem, on_delete=models.PROTECT, related_name="leaf", db_constraint=False)  # the trigger wants it pending
    hash = models.BinaryField(max_length=32)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(index__gte=0), name="leaf_index_not_negative")]

    def __str__(self) -> str:
        return str(self.index)


class Epoch(models.Model):
    """From here on the log has another name: the database came back from a backup. `envelope` is the coordinator's statement about it.

    The first epoch has no row; `number` starts at 2.
    """

    number = models.PositiveIntegerField(primary_key=True)
    origin = models.CharField(max_length=300)
    envelope = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(number__gte=2), name="epoch_after_the_first")]

    def __str__(self) -> str:
        return self.origin


class Checkpoint(models.Model):
    """A signed note over the first `size` leaves, published after the commit that made them durable.

    Two of one size differ in who signed them, or in the epoch.
    """

    id = models.BigAutoField(primary_key=True)
    epoch = models.PositiveIntegerField()
    size = models.BigIntegerField(db_index=True)
    root = models.BinaryField(max_length=32)
    compact_range = models.JSONField(default=list)
    """Hex hashes of the compact range at `size`: where the next integration goes on."""
    note = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = [F("id").desc()]

    def __str__(self) -> str:
        return str(self.size)


class CoordinatorSuccession(models.Model):
    """The coordinator's key `key_id` has signed, in `envelope`, that another follows it. Rows are a chain, in the order of their ids."""

    key_id = models.CharField(max_length=71, unique=True)
    public_key = models.BinaryField(max_length=32)
    successor_key_id = models.CharField(max_length=71, unique=True)
    envelope = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.key_id} -> {self.successor_key_id}"
