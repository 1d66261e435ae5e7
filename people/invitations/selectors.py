"""Reads of invitations."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils import timezone

from people.invitations.models import Invitation
from people.secret_digests import secret_sha256

SESSION_KEY = "invitation"
"""Where a browser's session keeps the secret of the link that was opened in it, until somebody has signed up."""


def invitation_live(*, secret: str) -> Invitation | None:
    """The invitation with this secret; None where it was used, replaced or withdrawn, has expired, or was never made here."""
    live = Invitation.objects.filter(used_at=None, expires_at__gt=timezone.now())
    return live.filter(secret_sha256=secret_sha256(secret)).first()


def invitation_of(request: HttpRequest | None) -> Invitation | None:
    """The live invitation whose link was opened in this browser."""
    secret = request.session.get(SESSION_KEY) if request is not None and hasattr(request, "session") else None
    return None if secret is None else invitation_live(secret=secret)
