"""Tables of people."""

from __future__ import annotations

from typing import ClassVar, Final

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower

from people.invitations.models import Invitation  # noqa: F401  Django looks for tables in this module
from people.moderation.models import Act  # noqa: F401  Django looks for tables in this module
from people.notifications.models import (  # noqa: F401  Django looks for tables in this module
    MailDelivery,
    Notification,
    NotificationSetting,
    Webhook,
    WebhookDelivery,
)

DISPLAY_NAME_MAX: Final = 48
ABOUT_MAX: Final = 280
TEAM_NAME_MAX: Final = 48
FORMER_NAME: Final = "former member"
"""What people are called who were erased, with their number. Nobody else is called so."""


class User(AbstractUser):
    """A person. `researcher_approved_at` is what lets them submit jobs; anybody signed in may contribute nodes.

    Strangers see nothing of a person whose `is_public` is false; of others `public_name`, `about` and the team. The username is for
    signing in: a pseudonym hides it.
    """

    researcher_approved_at = models.DateTimeField(null=True, blank=True)
    display_name = models.CharField(max_length=DISPLAY_NAME_MAX, blank=True, default="")
    about = models.CharField(max_length=ABOUT_MAX, blank=True, default="")
    is_public = models.BooleanField(default=False)
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)
    """When all that is personal was removed, for good (people/erasure): what is left is a number that jobs and nodes belong to."""

    class Meta(AbstractUser.Meta):
        verbose_name = "person"
        verbose_name_plural = "people"
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("display_name"), condition=~models.Q(display_name=""), name="people_user_display_name"),
        ]

    @property
    def is_researcher(self) -> bool:
        return self.researcher_approved_at is not None

    @property
    def public_name(self) -> str:
        """The display name, or the username of who gave none. To be shown to strangers only where `is_public`."""
        return self.display_name or self.username


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
        indexes: ClassVar = [
            models.Index(fields=["owner", "-created_at"]),
            models.Index(fields=["expires_at"], condition=models.Q(expires_at__isnull=False), name="api_token_expiry"),
            models.Index(fields=["revoked_at"], condition=models.Q(revoked_at__isnull=False), name="api_token_revoked"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.owner_id}"


class ApplicationState(models.TextChoices):
    """What became of a wish to submit jobs."""

    OPEN = "open", "waits for a moderator"
    APPROVED = "approved", "approved"
    DECLINED = "declined", "declined"


class ResearcherApplication(models.Model):
    """Somebody asks to be a researcher. One open at a time; a decision stays as it was made, and another may be written after it."""

    applicant = models.ForeignKey(User, on_delete=models.CASCADE, related_name="applications")
    full_name = models.CharField(max_length=120)
    affiliation = models.CharField(max_length=160)
    purpose = models.TextField(max_length=4000)
    link = models.URLField(max_length=300, blank=True, default="")
    state = models.CharField(max_length=16, choices=ApplicationState.choices, default=ApplicationState.OPEN)
    reason = models.TextField(max_length=2000, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["applicant"], condition=models.Q(state="open"), name="people_application_one_open"),
            models.CheckConstraint(
                condition=models.Q(state="open", decided_at=None) | (~models.Q(state="open") & models.Q(decided_at__isnull=False)),
                name="people_application_decided",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.full_name}, {self.affiliation}"


class Team(models.Model):
    """People whose work is counted together on the wall. Its name is public; who is in it is each member's choice.

    `invitation_id` is in the link by which people join, signed; None: no link works. An empty team is removed.
    """

    name = models.CharField(max_length=TEAM_NAME_MAX)
    invitation_id = models.UUIDField(null=True, blank=True, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(Lower("name"), name="people_team_name")]

    def __str__(self) -> str:
        return self.name


class TeamMember(models.Model):
    """A person in a team: in one at most. The lead invites, renames and removes; when the lead goes, who joined first leads.

    A team without members is removed. Triggers do both, as people also go by being deleted.
    """

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="membership")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="members")
    is_lead = models.BooleanField(default=False)
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["team"], condition=models.Q(is_lead=True), name="people_team_one_lead"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.team_id}"
