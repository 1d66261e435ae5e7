"""What happened to a job, for those who follow it."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from jobs.models.jobs import Job
from jobs.models.replicas import Replica

_CONCLUSIONS = ["job.cancelled", "job.completed", "job.failed"]


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
