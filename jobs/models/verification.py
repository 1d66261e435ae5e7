"""What is found about results, and what a moderator rules."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models

from jobs.models.jobs import Job
from jobs.models.replicas import Replica


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
    """How a dispute was ended, or a spot check that found no host. `by` None: the default ruling was given."""

    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="ruling")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    canonical = models.ForeignKey(Replica, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    """The result that was upheld; None: none, and the job failed."""
    reason = models.TextField()
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"ruling on {self.job_id}"
