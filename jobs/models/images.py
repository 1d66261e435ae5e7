"""Images: which are approved, asked for, or closed; and what a type's runs took."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q


class ImageApproval(models.Model):
    """An image that approved researchers may run, by the name that descriptors use; pinned to a repository digest or an image id."""

    name = models.CharField(max_length=255, unique=True)
    pull = models.CharField(max_length=400, blank=True)
    image_id = models.CharField(max_length=71, blank=True)
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    approved_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


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
