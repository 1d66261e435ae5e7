"""Tables of the ledger. Entry, Posting, LogLeaf and Checkpoint are append-only: migration 0002 refuses UPDATE, DELETE and TRUNCATE."""

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
    """An opaque id and a balance, kept equal to the sum of its postings by the trigger that inserts them. Names stay outside the log."""

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


class EntryKind(models.TextChoices):
    """Why credits moved. Each names its evidence in docs/PROTOCOL.md."""

    GRANT = "grant"
    RESERVATION = "reservation"
    PAYMENT = "payment"
    REFUND = "refund"
    REVERSAL = "reversal"


class Entry(models.Model):
    """One balanced movement. `idempotency_key` makes a repeated posting the same entry; `evidence` is public (ids and digests only)."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=16, choices=EntryKind.choices)
    idempotency_key = models.CharField(max_length=120, unique=True)
    evidence = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Posting(models.Model):
    """One side of an entry: `amount_micro` onto an account. The postings of an entry sum to zero (deferred constraint trigger)."""

    id = models.BigAutoField(primary_key=True)
    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="postings")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="postings")
    amount_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(amount_micro=0), name="posting_not_zero"),
            models.UniqueConstraint(fields=["entry", "account"], name="posting_one_per_account"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} to {self.account_id}"


class PendingEntry(models.Model):
    """An entry that is not in the Merkle log yet. A trigger writes the row with the entry, integration removes it."""

    entry = models.OneToOneField(Entry, primary_key=True, on_delete=models.PROTECT, related_name="pending")

    def __str__(self) -> str:
        return str(self.pk)


class LogLeaf(models.Model):
    """One leaf of the Merkle log: `index` is its place, `data` the canonical JSON that anyone can hash (RFC 9162)."""

    index = models.BigIntegerField(primary_key=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="leaf")
    data = models.BinaryField()

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(index__gte=0), name="leaf_index_not_negative")]

    def __str__(self) -> str:
        return str(self.index)


class Checkpoint(models.Model):
    """A signed note over the first `size` leaves, published after the commit that made them durable."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField(max_length=32)
    compact_range = models.JSONField(default=list)
    """Hex hashes of the compact range at `size`: where the next integration goes on."""
    note = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = [F("size").desc()]

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
