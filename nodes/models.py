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

    def __str__(self) -> str:
        return f"join token of {self.owner_id}"


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
