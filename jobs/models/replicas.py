"""Replicas, and what hosts say about them: exchanges, uploads, receipts."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from jobs.models.blobs import Blob
from jobs.models.jobs import Job, JobKind
from jobs.states import REPLICA_ENDED, REPLICA_EXCLUSIVE, ReplicaState
from nodes.models import Node, NodeKey

_NEXT_OF_JOB = Q(state="queued", queue_key__isnull=False)


class Replica(models.Model):
    """One attempt at a job by one node. What it needs is copied from the job, so that a claim need not read jobs.

    A replica is written some five times, and each time into every index that it is in: an index has to be worth that.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="replicas")
    state = models.CharField(max_length=16, choices=[(state.value, state.value) for state in ReplicaState], default=ReplicaState.QUEUED)
    created_at = models.DateTimeField(auto_now_add=True)

    tier = models.CharField(max_length=16)
    priority = models.SmallIntegerField(default=0)
    cpus = models.FloatField()
    memory_bytes = models.BigIntegerField()
    disk_bytes = models.BigIntegerField()
    gpus = models.PositiveSmallIntegerField(default=0)
    gpu_memory_bytes = models.BigIntegerField(default=0)
    kind = models.ForeignKey(JobKind, on_delete=models.PROTECT, related_name="+", db_index=False)
    # Triggers write the three below (migration 0003), on the one queued replica of each job that is next. On others they mean nothing.
    queue_key = models.UUIDField(null=True, blank=True)
    """Digest of all that says who may have it: replicas of one tier with the same key suit the same hosts. None: not next of its job."""
    barred = ArrayField(models.BigIntegerField(), default=list, blank=True)
    """The owners that may not have it, ascending: a replica of the job is theirs already, or too many ended with them."""
    failed_nodes = ArrayField(models.UUIDField(), default=list, blank=True)
    """The nodes on which the job failed, ascending; being stopped is no failure."""

    node = models.ForeignKey(Node, null=True, blank=True, on_delete=models.PROTECT, related_name="replicas", db_index=False)
    node_key = models.ForeignKey(NodeKey, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    """The key that took the lease: the order names it, and the receipt verifies under it, also after a rotation."""
    node_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    lease_id = models.UUIDField(null=True, blank=True, unique=True)
    lease_request_id = models.UUIDField(null=True, blank=True)
    """`request_id` of the exchange that took the lease: the same request gets the same order again."""
    leased_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    order_envelope = models.BinaryField(null=True, blank=True)
    order_digest = models.CharField(max_length=71, blank=True)
    """Digest of the order envelope's payload."""
    cancel_reason = models.CharField(max_length=200, blank=True)
    """Set when the host is to be told to stop; repeated in its exchanges while the lease lives."""
    progress = models.JSONField(null=True, blank=True)
    """The newest LeaseReport of the host."""

    verify_claimed_until = models.DateTimeField(null=True, blank=True)
    verdict = models.CharField(max_length=16, blank=True)
    """agree, disagree, invalid or undecided; empty before verification."""
    paid_micro = models.BigIntegerField(default=0)
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    concluded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["job", "node_owner"],
                condition=Q(state__in=sorted(REPLICA_EXCLUSIVE)),
                name="replica_one_live_or_vote_per_owner",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "cancelled"]) | Q(node__isnull=False, node_owner__isnull=False, lease_id__isnull=False),
                name="replica_taken_has_node",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tier", "-priority", "created_at", "id"], condition=_NEXT_OF_JOB, name="replica_queue"),
            models.Index(fields=["tier", "queue_key", "-priority", "created_at", "id"], condition=_NEXT_OF_JOB, name="replica_queue_class"),
            models.Index(fields=["lease_expires_at"], condition=Q(state__in=["leased", "running"]), name="replica_lease_expiry"),
            models.Index(fields=["verify_claimed_until"], condition=Q(state="reported"), name="replica_to_verify"),
            models.Index(fields=["node", "state"]),
            models.Index(
                fields=["node", "-leased_at", "-id"], condition=Q(state__in=sorted(REPLICA_ENDED)), name="replica_history_of_node"
            ),
            models.Index(fields=["kind", "concluded_at"], condition=Q(state__in=["failed", "accepted"]), name="replica_outcome_of_kind"),
            models.Index(fields=["lease_request_id"], condition=Q(state__in=["leased", "running"]), name="replica_lease_request"),
        ]

    def __str__(self) -> str:
        return f"replica {self.id} of {self.job_id}"


class Receipt(models.Model):
    """A host's signed statement about one replica, kept byte for byte. `late`: it came after the job was concluded, and earns nothing."""

    replica = models.OneToOneField(Replica, on_delete=models.PROTECT, related_name="receipt")
    envelope = models.BinaryField()
    digest = models.CharField(max_length=71, unique=True)
    """Digest of the envelope's payload."""
    predicate = models.JSONField()
    """workers.protocol.messages.receipt.ReceiptPredicate, as checked at the gateway."""
    archive = models.ForeignKey(Blob, null=True, on_delete=models.PROTECT, related_name="+")
    log = models.ForeignKey(Blob, null=True, on_delete=models.PROTECT, related_name="+")
    result_digest = models.CharField(max_length=71, blank=True)
    received_at = models.DateTimeField(auto_now_add=True)
    late = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.digest


class NodeExchange(models.Model):
    """The newest exchange of a node that has arrived, and the worker that sent it (jobs/sessions.py).

    Only it may claim: nobody reads the answer of an older one any more.
    """

    node = models.OneToOneField(Node, primary_key=True, on_delete=models.CASCADE, related_name="+")
    request_id = models.UUIDField()
    session_id = models.UUIDField()
    session_began_at = models.BigIntegerField()
    """When the session's first request was signed, by the host's clock: seconds since 1970."""
    superseded = models.JSONField(default=dict)
    """{session id: when the first request of the session that took its place was signed}; the newest few, oldest first."""

    def __str__(self) -> str:
        return str(self.request_id)


class Upload(models.Model):
    """A resumable upload (tus) by a host for a lease, or by a user. Committed: the bytes had the digest and are a Blob, which it wants."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    replica = models.ForeignKey(Replica, null=True, blank=True, on_delete=models.CASCADE, related_name="uploads")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="uploads")
    digest = models.CharField(max_length=71)
    size_bytes = models.BigIntegerField()
    offset_bytes = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    committed_at = models.DateTimeField(null=True, blank=True)
    """When the last byte came, or when the whole was last announced again."""

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(replica__isnull=False) ^ Q(user__isnull=False), name="upload_has_one_uploader"),
            models.UniqueConstraint(fields=["replica", "digest"], condition=Q(replica__isnull=False), name="upload_unique_per_replica"),
            models.UniqueConstraint(fields=["user", "digest"], condition=Q(user__isnull=False), name="upload_unique_per_user"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["digest"], condition=Q(committed_at__isnull=False), name="upload_of_blob"),
            models.Index(fields=["committed_at"], condition=Q(committed_at__isnull=False), name="upload_committed"),
            models.Index(fields=["created_at"], condition=Q(committed_at=None), name="upload_unfinished"),
        ]

    def __str__(self) -> str:
        return f"{self.digest} {self.offset_bytes}/{self.size_bytes}"


class CoordinatorClock(models.Model):
    """One row: when the portal was last known to serve exchanges. The time of an outage is credited to every lease."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    alive_at = models.DateTimeField()
    heard_since = models.DateTimeField(null=True, blank=True)
    """When it served again after its last outage."""

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="coordinator_clock_single_row")]

    def __str__(self) -> str:
        return str(self.alive_at)
