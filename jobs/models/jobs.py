"""Jobs, their inputs, and the kinds that they are of."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import Concat

from jobs.descriptor import Visibility
from jobs.models.blobs import Blob
from jobs.states import JobState
from jobs.timed_ids import timed_id_make

_VEILED = Q(policy="spot") | Q(copies__gt=1)
_OPEN = Q(state__in=["queued", "running", "verifying"])
_SPLITTING = "-_.,:;+/@()"
"""Characters that separate words of labels and titles, beside spaces."""


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
    state = models.CharField(max_length=16, choices=[(state.value, state.value) for state in JobState], default=JobState.QUEUED)
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
    """{agreeing, reported, quorum, worst, and ruled where a ruling decided}; shown once concluded."""
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
