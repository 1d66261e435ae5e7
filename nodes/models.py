"""Tables of nodes."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q


class NodeState(models.TextChoices):
    """Whether a node gets work. Only active nodes do. A draining one finishes what it has, and its worker ends."""

    ACTIVE = "active"
    PAUSED = "paused"
    DRAINING = "draining"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"


class Node(models.Model):
    """A host's identity on the coordinator: one key at a time, one owner. The profile is the host's claim."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="nodes")
    name = models.CharField(max_length=64)
    public_key = models.BinaryField(max_length=32, unique=True)
    key_id = models.CharField(max_length=71, unique=True)
    state = models.CharField(max_length=16, choices=NodeState.choices, default=NodeState.ACTIVE)
    tier = models.CharField(max_length=16)
    queues = models.JSONField(default=list)
    profile = models.JSONField()
    benchmark_gflops = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    last_no_work = models.JSONField(null=True, blank=True)
    """{code, message} of the newest exchange that asked for work and got none."""
    clone_seen_at = models.DateTimeField(null=True, blank=True)
    """When two workers were last seen to use the key at once: the node's home was copied. A rotation of the key clears it."""
    clone_told_at = models.DateTimeField(null=True, blank=True)
    """When the owner was last told of that."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "name"], condition=~Q(state="revoked"), name="node_name_unique_per_owner")
        ]
        indexes: ClassVar = [
            models.Index(fields=["tier", "last_seen_at"]),
            models.Index(fields=["name"], opclasses=["varchar_pattern_ops"], name="node_name_begins"),
            models.Index(fields=["clone_seen_at"], condition=Q(clone_seen_at__isnull=False), name="node_clone_seen"),
        ]

    def __str__(self) -> str:
        return self.name


class NodeKey(models.Model):
    """A key that is or was a node's, for ever: what it signed is verified with it, and it never becomes another node's."""

    key_id = models.CharField(max_length=71, primary_key=True)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="keys")
    public_key = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    successor = models.OneToOneField("self", null=True, blank=True, on_delete=models.PROTECT, related_name="predecessor")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["node"], condition=Q(retired_at=None), name="node_key_one_current"),
            models.CheckConstraint(
                condition=Q(retired_at=None, successor=None) | Q(retired_at__isnull=False, successor__isnull=False),
                name="node_key_retired_has_successor",
            ),
        ]

    def __str__(self) -> str:
        return self.key_id


class JoinToken(models.Model):
    """Lets one host register once, as a node of `owner`. Only the secret's SHA-256 is stored."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="join_tokens")
    secret_sha256 = models.BinaryField(max_length=32, unique=True)
    name = models.CharField(max_length=64, blank=True)
    """What the node is to be called, unless its host says otherwise."""
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    node = models.OneToOneField(Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="join_token")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="join_token_expiry")]

    def __str__(self) -> str:
        return f"join token of {self.owner_id}"


class Workday(models.Model):
    """What one person's nodes did for one science on one day (UTC): receipts that were judged, and what the accepted ones were worth.

    Settlement adds to it in the transaction that pays, and a reversal takes it off again in its own: the sum of `paid_micro` is what the
    ledger paid for work and never took back.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="workdays", db_index=False)
    day = models.DateField()
    science = models.CharField(max_length=64)
    """The type of the jobs."""
    accepted = models.PositiveIntegerField()
    rejected = models.PositiveIntegerField()
    work_micro = models.BigIntegerField()
    """Verified work in millionths of a TFLOP/s-hour: what was paid for, at a rate of 1."""
    paid_micro = models.BigIntegerField()
    due_on = models.DateField(null=True, blank=True)
    """When its owner's standings are to be summed again: its day where something came in, later the day on which it leaves a period."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["owner", "day", "science"], name="workday_unique")]
        indexes: ClassVar = [models.Index(fields=["due_on"], condition=Q(due_on__isnull=False), name="workday_due")]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.day} {self.science}"


class Standing(models.Model):
    """A person's sums over a period, what the wall is sorted by. Follows from workdays (nodes/wall/summing.py), some seconds later."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="standings", db_index=False)
    period_days = models.PositiveSmallIntegerField()
    """The last so many days, today among them; 0: all days."""
    science = models.CharField(max_length=64)
    """A type of jobs; empty: all of them."""
    accepted = models.BigIntegerField()
    rejected = models.BigIntegerField()
    work_micro = models.BigIntegerField()
    paid_micro = models.BigIntegerField()
    since = models.DateField()
    """The person's first workday, whatever the period."""
    team = models.ForeignKey("people.Team", null=True, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False)
    """The team in whose sums this one is; who changes teams is due again (the trigger of migration 0002)."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["owner", "period_days", "science"], name="standing_unique")]
        indexes: ClassVar = [
            # Places are counted from the index alone.
            models.Index(fields=["period_days", "science", "-work_micro", "owner"], name="standing_rank")
        ]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.period_days} {self.science}"


class TeamStanding(models.Model):
    """The sums of the standings with work of a team's members; moves with them, in their transaction, and goes with the last of them.

    A team that is gone may have some for seconds: they refer to it without a constraint, so that a run never waits for who ends a team.
    """

    pk = models.CompositePrimaryKey("team_id", "period_days", "science")
    team = models.ForeignKey("people.Team", on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False)
    period_days = models.PositiveSmallIntegerField()
    science = models.CharField(max_length=64)
    members = models.BigIntegerField()
    """Who have verified work."""
    accepted = models.BigIntegerField()
    rejected = models.BigIntegerField()
    work_micro = models.BigIntegerField()
    paid_micro = models.BigIntegerField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["period_days", "science", "-work_micro", "team"], name="team_standing_rank")]

    def __str__(self) -> str:
        return f"{self.team_id} {self.period_days} {self.science}"


class WallTotal(models.Model):
    """The sums of all standings of a period and science; moves with them, in their transaction."""

    period_days = models.PositiveSmallIntegerField()
    science = models.CharField(max_length=64)
    contributors = models.BigIntegerField()
    """Who have verified work."""
    work_micro = models.BigIntegerField()
    paid_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["period_days", "science"], name="wall_total_unique")]

    def __str__(self) -> str:
        return f"{self.period_days} {self.science}"


class NodeSample(models.Model):
    """What a node's machine did in one minute, by one of its exchanges (workers.protocol.messages.MachineLoad). Kept for two days.

    A claim, for the owner's eyes only: nothing is decided by it.
    """

    pk = models.CompositePrimaryKey("node_id", "minute_at")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="samples", db_index=False)
    minute_at = models.DateTimeField()
    """The minute's begin."""
    cpu_percent = models.FloatField(null=True)
    memory_percent = models.FloatField(null=True)
    gpu_percent = models.FloatField(null=True)
    cpu_celsius = models.FloatField(null=True)
    gpu_celsius = models.FloatField(null=True)

    class Meta:
        indexes: ClassVar = [BrinIndex(fields=["minute_at"], name="node_sample_minute")]

    def __str__(self) -> str:
        return f"{self.node_id} at {self.minute_at:%Y-%m-%d %H:%M}"
