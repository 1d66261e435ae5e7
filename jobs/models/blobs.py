"""Blobs: bytes by their digest."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q


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
