"""Tables of people."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models

from people.notifications.models import (  # noqa: F401  Django looks for tables in this module
    Notification,
    NotificationSetting,
    Webhook,
    WebhookDelivery,
)


class User(AbstractUser):
    """A person. `researcher_approved_at` is what lets them submit jobs; anybody signed in may contribute nodes."""

    researcher_approved_at = models.DateTimeField(null=True, blank=True)

    @property
    def is_researcher(self) -> bool:
        return self.researcher_approved_at is not None


class Scope(models.TextChoices):
    """What an API token may do."""

    JOBS_READ = "jobs:read", "see own jobs, results and evidence"
    JOBS_WRITE = "jobs:write", "submit and cancel jobs, upload inputs"
    NODES_READ = "nodes:read", "see own nodes"
    NODES_WRITE = "nodes:write", "mint join tokens, manage own nodes"
    LEDGER_READ = "ledger:read", "see own account and statement"


class ApiToken(models.Model):
    """A bearer token of a user. Only its SHA-256 is stored; the secret is shown once, when minted."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=64)
    secret_sha256 = models.BinaryField(max_length=32, unique=True)
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope.choices))
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API token"
        indexes: ClassVar = [models.Index(fields=["owner", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.name} of {self.owner_id}"
