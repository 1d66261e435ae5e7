"""Tables of notifications."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q


class NotificationKind(models.TextChoices):
    """What a notification is about. People choose ways for each."""

    JOB_COMPLETED = "job.completed", "jobs that completed"
    JOB_FAILED = "job.failed", "jobs that failed"
    JOB_DISPUTED = "job.disputed", "jobs whose replicas do not agree"
    NODE_TROUBLE = "node.trouble", "nodes that are silent, quarantined or copied"
    APPLICATION = "application", "what became of your application"
    CREDITS_RECEIVED = "credits.received", "credits that somebody gave you"
    WEBHOOK = "webhook", "your webhook, when it is switched off"
    MODERATION = "moderation", "what waits for a moderator"


class Notification(models.Model):
    """One thing that somebody is told. `key` is what it is about: the same for the same owner is written once."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications", db_index=False)
    kind = models.CharField(max_length=32, choices=NotificationKind.choices)
    key = models.CharField(max_length=120)
    subject = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    path = models.CharField(max_length=200)
    """Where it leads within the portal."""
    data = models.JSONField(default=dict)
    """For webhooks: ids and states, for machines."""
    in_portal = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["owner", "key"], name="notification_unique_per_owner")]
        indexes: ClassVar = [
            models.Index(fields=["owner", "-id"]),
            models.Index(fields=["owner"], condition=Q(read_at=None, in_portal=True), name="notification_unread"),
            BrinIndex(fields=["created_at"], pages_per_range=16, name="notification_created"),
        ]

    def __str__(self) -> str:
        return self.subject


class NotificationSetting(models.Model):
    """By which ways somebody is told of one kind. Without a row: by all."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notification_settings")
    kind = models.CharField(max_length=32, choices=NotificationKind.choices)
    portal = models.BooleanField(default=True)
    mail = models.BooleanField(default=True)
    webhook = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["owner", "kind"], name="notification_setting_unique")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.owner_id}"


class Webhook(models.Model):
    """Where somebody's notifications are posted. The secret is derived from `salt` and this portal's own key: it is in no row."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhook")
    url = models.CharField(max_length=500)
    salt = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(auto_now_add=True)
    failures = models.PositiveIntegerField(default=0)
    """Attempts in a row that failed."""
    disabled_at = models.DateTimeField(null=True, blank=True)
    """Too many of them failed; its owner switches it on again."""

    def __str__(self) -> str:
        return f"webhook of {self.owner_id}"


class WebhookDelivery(models.Model):
    """One notification on its way to a webhook, and what came of the last attempt. Holds neither secret nor address nor answer."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="+")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    """When it is tried next; None: it was delivered, or given up."""
    delivered_at = models.DateTimeField(null=True, blank=True)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    """HTTP status of the last answer; None: there was none."""
    error = models.CharField(max_length=64, blank=True)
    """Code of the last failure."""

    class Meta:
        indexes: ClassVar = [models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="webhook_delivery_waiting")]

    def __str__(self) -> str:
        return f"delivery {self.pk}"


class MailDelivery(models.Model):
    """One notification on its way by mail. The address is not in it: it is looked up when the mail goes."""

    notification = models.OneToOneField(Notification, on_delete=models.CASCADE, related_name="mail")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=32, choices=NotificationKind.choices)
    """The notification's owner and kind again, for the index: what is of one kind goes together."""
    refusals = models.PositiveSmallIntegerField(default=0)
    """How often the mail server did not take it."""
    next_at = models.DateTimeField(null=True, blank=True)
    """When it is tried next; None: it was sent, or given up."""
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "mail deliveries"
        indexes: ClassVar = [
            models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="mail_delivery_waiting"),
            models.Index(fields=["owner", "kind", "-sent_at"], condition=Q(sent_at__isnull=False), name="mail_delivery_sent"),
        ]

    def __str__(self) -> str:
        return f"mail {self.pk}"
