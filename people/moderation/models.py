"""The trail: who did what, when, on what and why."""

from __future__ import annotations

import uuid
from typing import ClassVar, Final

from django.conf import settings
from django.db import models

REASON_CHARACTERS_MAX: Final = 2000


class ActKind(models.TextChoices):
    """What can be done to something by a moderator. Appointing and dismissing them is the operator's."""

    APPLICATION_APPROVED = "application_approved", "application approved"
    APPLICATION_DECLINED = "application_declined", "application declined"
    RESEARCHER_APPROVED = "researcher_approved", "researcher approved"
    CREDITS_GRANTED = "credits_granted", "credits granted"
    ENTRY_REVERSED = "entry_reversed", "entry reversed"
    PERSON_INVITED = "person_invited", "person invited"
    INVITATION_WITHDRAWN = "invitation_withdrawn", "invitation withdrawn"
    ACCOUNT_CLOSED = "account_closed", "account closed"
    ACCOUNT_REOPENED = "account_reopened", "account reopened"
    ACCOUNT_ERASED = "account_erased", "account erased"
    TOKEN_REVOKED = "token_revoked", "API token revoked"
    TEAM_RENAMED = "team_renamed", "team renamed"
    TEAM_REMOVED = "team_removed", "team removed"
    MODERATOR_APPOINTED = "moderator_appointed", "moderator appointed"
    MODERATOR_DISMISSED = "moderator_dismissed", "moderator dismissed"
    NODE_QUARANTINED = "node_quarantined", "node quarantined"
    NODE_RELEASED = "node_released", "quarantine lifted"
    NODE_REVOKED = "node_revoked", "node revoked"
    IMAGE_APPROVED = "image_approved", "image approved"
    IMAGE_WITHDRAWN = "image_withdrawn", "image withdrawn"
    IMAGE_DECLINED = "image_declined", "image declined"
    BREAKER_OPENED = "breaker_opened", "image given out again"
    DISPUTE_RULED = "dispute_ruled", "dispute ruled on"


class Act(models.Model):
    """One act, written in the transaction that does it. The table only grows: its triggers refuse the rest to everybody.

    What it is about is named as it was called then, and by its key, not by a reference: it may be gone. People have no name here, so that
    they can be forgotten: pages show the name that belongs to the key.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    """Of a grant, the id of the form that was sent: sent twice, it is one grant."""
    at = models.DateTimeField(auto_now_add=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    """None: the operator, by a management command."""
    kind = models.CharField(max_length=32, choices=ActKind.choices)
    about_table = models.CharField(max_length=64)
    """app.model, as Django's labels are."""
    about_key = models.CharField(max_length=64)
    about_name = models.CharField(max_length=300)
    reason = models.TextField(max_length=REASON_CHARACTERS_MAX)
    detail = models.JSONField(default=dict)
    """What else was decided, by name: strings."""

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["-at", "-id"], name="people_act_newest"),
            models.Index(fields=["about_table", "about_key", "-at"], name="people_act_about"),
            models.Index(fields=["by", "kind", "-at"], name="people_act_by"),
        ]
        constraints: ClassVar = [models.CheckConstraint(condition=~models.Q(reason=""), name="people_act_has_reason")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.about_name}"
