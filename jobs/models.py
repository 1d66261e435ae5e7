"""Tables of jobs. Constraints here are invariants of ARCHITECTURE; writes go through the services."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import Concat

from jobs.descriptor import Visibility
from jobs.states import REPLICA_ENDED, REPLICA_EXCLUSIVE, JobState, ReplicaState
from jobs.timed_ids import timed_id_make
from nodes.models import Node, NodeKey


def _choices(states: type[JobState | ReplicaState]) -> list[tuple[str, str]]:
    return [(state.value, state.value) for state in states]


_CONCLUSIONS = ["job.cancelled", "job.completed", "job.failed"]
_NEXT_OF_JOB = Q(state="queued", queue_key__isnull=False)
_VEILED = Q(policy="spot") | Q(copies__gt=1)
_OPEN = Q(state__in=["queued", "running", "verifying"])
_SPLITTING = "-_.,:;+/@()"
"""Characters that separate words of labels and titles, beside spaces."""


class Blob(models.Model):
    """Bytes by SHA-256, complete and checked. Who may read them is decided by what refers to them."""

    digest = models.CharField(primary_key=True, max_length=71)
    size_bytes = models.BigIntegerField()
    data = models.BinaryField(null=True, blank=True)
    """The bytes themselves where they are few; None: they are in the blob store."""
    created_at = models.DateTimeField(auto_now_add=True)
    unwanted_since = models.DateTimeField(null=True, blank=True)
    """When the collection first found that nothing wants the bytes any more (jobs/blobs/collection.py)."""
    removed_at = models.DateTimeField(null=True, blank=True)
    """When the bytes were removed; the row stays where a receipt or an input names it."""

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(removed_at=None) | Q(unwanted_since__isnull=False, data=None), name="blob_removed_has_no_bytes"
            ),
        ]

    def __str__(self) -> str:
        return self.digest


class SpotKey(models.Model):
    """A secret that chooses which `spot` jobs run twice. Its digest is in the public log before, the secret itself afterwards."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    secret = models.BinaryField(max_length=32)
    made_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True, blank=True)
    """Its digest was found under a signed checkpoint; it chooses nothing before."""
    ends_at = models.DateTimeField()
    """It chooses for jobs that are claimed before this."""
    revealed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.pk)


class Job(models.Model):
    """One unit of a researcher's work. `descriptor` is as submitted and pinned; `descriptor_digest` decides idempotency of `label`."""

    id = models.UUIDField(primary_key=True, default=timed_id_make, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    label = models.CharField(max_length=128)
    title = models.CharField(max_length=200, blank=True)
    """As the descriptor has it."""
    job_type = models.CharField(max_length=64)
    descriptor = models.JSONField()
    descriptor_digest = models.CharField(max_length=71)
    image = models.JSONField()
    """workers.protocol.messages.order.ImageReference, pinned at submission."""
    tier = models.CharField(max_length=16)
    state = models.CharField(max_length=16, choices=_choices(JobState), default=JobState.QUEUED)
    was_taken = models.BooleanField(default=False)
    """Some host has taken a replica of it at some time."""
    shown_state = models.GeneratedField(
        expression=Case(
            When(_OPEN & _VEILED & Q(was_taken=True), then=Value("running")),
            When(_OPEN & _VEILED, then=Value("queued")),
            default=F("state"),
        ),
        output_field=models.CharField(max_length=16),
        db_persist=True,
    )
    """`disclosure.job_state_shown` of the row, for lists: what they are filtered by must tell no more than what they show."""
    is_archived = models.BooleanField(default=False)
    """Out of its owner's list of jobs, and nothing else."""
    is_kept = models.BooleanField(default=False)
    """Its owner keeps its inputs and accepted results beyond the time that the portal keeps them for."""
    visibility = models.CharField(max_length=16, choices=[(each.value, each.value) for each in Visibility], default=Visibility.PRIVATE)
    """Who else may see its shared page. At first as the descriptor says."""
    link_secret = models.CharField(max_length=43, blank=True)
    """Of an unlisted job, what its link holds; a new one each time it becomes unlisted."""
    words = models.GeneratedField(
        expression=SearchVector(
            Func(
                Concat("label", Value(" "), "title"),
                Value(_SPLITTING),
                Value(" " * len(_SPLITTING)),
                function="translate",
                output_field=models.TextField(),
            ),
            config="simple",
        ),
        output_field=SearchVectorField(),
        db_persist=True,
    )
    """Of label and title, for searches (jobs/listing.py)."""
    priority = models.SmallIntegerField(default=0)
    copies = models.PositiveSmallIntegerField()
    quorum = models.PositiveSmallIntegerField()
    """Of a `spot` job both are 1, and 2 once it is chosen: hidden from everyone until it is concluded."""
    policy = models.CharField(max_length=16, default="fixed")
    """jobs.descriptor.RedundancyPolicy."""
    spot_share = models.FloatField(null=True, blank=True)
    spot_key = models.ForeignKey(SpotKey, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    """The key that has chosen, or passed over, this `spot` job when it was first claimed; None before."""
    spot_chosen = models.BooleanField(null=True, blank=True)
    replicas_max = models.PositiveSmallIntegerField()
    estimated_flops = models.FloatField()
    credit_rate_micro = models.BigIntegerField()
    """Credits for 1 TFLOP/s-hour, in millionths."""
    reserved_micro = models.BigIntegerField(default=0)
    submitted_at = models.DateTimeField(auto_now_add=True)
    queue_deadline_at = models.DateTimeField()
    dispute_deadline_at = models.DateTimeField(null=True, blank=True)
    """When a disputed job gets the default ruling; set when the dispute begins."""
    concluded_at = models.DateTimeField(null=True, blank=True)
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    verdict_summary = models.JSONField(null=True, blank=True)
    """{agreeing, reported, quorum, worst, and ruled where a moderator decided}; shown once concluded."""
    canonical_replica = models.ForeignKey("Replica", null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "label"], name="job_label_unique_per_owner"),
            models.UniqueConstraint(fields=["link_secret"], condition=~Q(link_secret=""), name="job_link_secret_unique"),  # nosec B106
        ]
        indexes: ClassVar = [
            models.Index(fields=["owner", "is_archived", "-submitted_at", "-id"], name="job_listed"),
            models.Index(
                fields=["owner", "is_archived", "shown_state", "job_type", "tier", "-submitted_at", "-id"], name="job_listed_by_group"
            ),
            GinIndex(fields=["words"], name="job_words"),
            models.Index(fields=["queue_deadline_at"], condition=Q(state="queued"), name="job_queued_deadline"),
            models.Index(fields=["dispute_deadline_at"], condition=Q(state="disputed"), name="job_dispute_deadline"),
            models.Index(fields=["spot_key"], condition=Q(spot_key__isnull=False), name="job_of_spot_key"),
        ]

    def __str__(self) -> str:
        return self.label


class JobInput(models.Model):
    """One input file of a job."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="inputs")
    path = models.CharField(max_length=255)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["job", "path"], name="job_input_path_unique")]

    def __str__(self) -> str:
        return self.path


class JobKind(models.Model):
    """What contributors choose jobs by, each combination once: a claim with wishes looks at kinds, and then only into those wished for."""

    image_name = models.CharField(max_length=255)
    job_type = models.CharField(max_length=64)
    credit_rate_micro = models.BigIntegerField()
    closed_until = models.DateTimeField(null=True, blank=True)
    """The circuit breaker of its image is open till then: nothing of this kind is given out."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["image_name", "job_type", "credit_rate_micro"], name="job_kind_unique")]

    def __str__(self) -> str:
        return f"{self.job_type} in {self.image_name} for {self.credit_rate_micro}"


class ImageBreaker(models.Model):
    """The circuit breaker of an image that has been closed at least once since it last succeeded (jobs/services/breakers.py)."""

    image_name = models.CharField(max_length=255, unique=True)
    closed_at = models.DateTimeField()
    closed_until = models.DateTimeField()
    """As in every JobKind of the image."""
    times = models.PositiveSmallIntegerField()
    """How often in a row it was closed; each time for twice as long."""
    code = models.CharField(max_length=64)
    """The failure that closed it, as jobs.faults knows it."""

    def __str__(self) -> str:
        return self.image_name


class Replica(models.Model):
    """One attempt at a job by one node. What it needs is copied from the job, so that a claim need not read jobs.

    A replica is written some five times, and each time into every index that it is in: an index has to be worth that.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="replicas")
    state = models.CharField(max_length=16, choices=_choices(ReplicaState), default=ReplicaState.QUEUED)
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


class VerificationBatch(models.Model):
    """The replicas that one chord checks; its body reads them here again rather than believe the header's results."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job_ids = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return str(self.id)


class Evidence(models.Model):
    """The outcome of one check of one replica, or of one pair (`other`). Written by verify workers, read by settlement and by people."""

    replica = models.ForeignKey(Replica, on_delete=models.CASCADE, related_name="evidence", db_index=False)
    other = models.ForeignKey(Replica, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    check_name = models.CharField(max_length=32)
    """signature, archive, log, outputs or comparison."""
    passed = models.BooleanField(null=True)
    """None: the check could not be made (our fault); it is made again."""
    code = models.CharField(max_length=64, blank=True)
    detail = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["replica", "check_name", "other"], name="evidence_unique", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return f"{self.check_name} {self.passed} {self.replica_id}"


class Ruling(models.Model):
    """How a dispute was ended. `by` None: nobody ruled in time, and the default ruling was given."""

    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="ruling")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    canonical = models.ForeignKey(Replica, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    """The result that was upheld; None: none, and the job failed."""
    reason = models.TextField()
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"ruling on {self.job_id}"


class ImageApproval(models.Model):
    """An image that approved researchers may run, by the name that descriptors use; pinned to a repository digest or an image id."""

    name = models.CharField(max_length=255, unique=True)
    pull = models.CharField(max_length=400, blank=True)
    image_id = models.CharField(max_length=71, blank=True)
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    approved_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Calibration(models.Model):
    """Measured over estimated FLOPs for one image and job type, from agreeing replicas: geometric mean as sum of logarithms and count."""

    image_key = models.CharField(max_length=400)
    job_type = models.CharField(max_length=64)
    log_ratio_sum = models.FloatField(default=0)
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["image_key", "job_type"], name="calibration_unique")]

    def __str__(self) -> str:
        return f"{self.image_key} {self.job_type}"


class JobEvent(models.Model):
    """What happened to a job: written in the transaction that made it happen, never changed, kept as the job's timeline.

    `public` events may be shown to the owner at once; others (they tell about a replica's result) only after the job is concluded.
    """

    # No constraints: whoever writes events holds the job's lock, jobs are not removed, and looking them up for each event costs as much as
    # writing it.
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events", db_index=False, db_constraint=False)
    replica = models.ForeignKey(
        Replica, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    kind = models.CharField(max_length=32)
    payload = models.JSONField(default=dict)
    public = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["job", "id"]),
            # What happened lately: one entry a job, and one for each range of blocks. Rows lie as they were written, so that is enough.
            models.Index(fields=["kind", "created_at"], condition=Q(kind__in=_CONCLUSIONS), name="job_event_conclusions"),
            BrinIndex(fields=["created_at"], pages_per_range=16, name="job_event_created"),
        ]

    def __str__(self) -> str:
        return self.kind


class UnpushedEvents(models.Model):
    """The outbox: events that one statement wrote, and that are not pushed yet. Its trigger writes the row, the push removes it."""

    events = ArrayField(models.BigIntegerField())
    """Ids, ascending."""

    def __str__(self) -> str:
        return str(self.events)


class CoordinatorClock(models.Model):
    """One row: when the portal was last known to serve exchanges. The time of an outage is credited to every lease."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    alive_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="coordinator_clock_single_row")]

    def __str__(self) -> str:
        return str(self.alive_at)


class ImageRequest(models.Model):
    """A researcher asks for an image. A decision stays as it was made; for the same image another may be written after it."""

    name = models.CharField(max_length=255)
    """As an approval would have it: with a tag, or without one."""
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    purpose = models.TextField(max_length=2000)
    asked_at = models.DateTimeField(auto_now_add=True)
    is_approved = models.BooleanField(null=True)
    """None: nobody has decided yet."""
    reason = models.TextField(max_length=2000, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["asked_by", "name"], condition=Q(is_approved=None), name="image_request_one_open"),
            models.CheckConstraint(
                condition=Q(is_approved=None, decided_at=None) | Q(is_approved__isnull=False, decided_at__isnull=False),
                name="image_request_decided",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["asked_at"], condition=Q(is_approved=None), name="image_request_open")]

    def __str__(self) -> str:
        return self.name
