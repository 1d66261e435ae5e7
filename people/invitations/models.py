"""The table of invitations."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower


class Invitation(models.Model):
    """Lets the owner of an e-mail address sign up, once. Of the secret in its link only the SHA-256 is stored.

    An address has one that is unused: another for it takes its place. Forgotten NEXA_ENDED_DAYS after it was used or expired.
    """

    email = models.EmailField(max_length=254)
    secret_sha256 = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    """None: the operator, by a management command."""
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    account = models.OneToOneField(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="invitation")
    """Who signed up by it."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("email"), condition=models.Q(used_at=None), name="people_invitation_one_unused"),
            models.CheckConstraint(
                condition=models.Q(used_at=None, account=None) | models.Q(used_at__isnull=False, account__isnull=False),
                name="people_invitation_used_by_somebody",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="people_invitation_expiry")]

    def __str__(self) -> str:
        return self.email
