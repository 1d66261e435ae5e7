"""Who may make an account here."""

from __future__ import annotations

from enum import StrEnum


class SignUp(StrEnum):
    """NEXA_SIGN_UP. Accounts that are there are not touched by it, nor is `manage.py operator_invite`."""

    OPEN = "open"
    """Whoever has an e-mail address."""
    INVITATION = "invitation"
    """Whom a moderator or the operator has invited."""
    CLOSED = "closed"
    """Nobody."""
