"""People, their tokens, applications and teams; what they are told; and what moderators did."""

import uuid

import django.contrib.auth.models
import django.contrib.auth.validators
import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="User",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                (
                    "username",
                    models.CharField(
                        error_messages={"unique": "A user with that username already exists."},
                        help_text="Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.",
                        max_length=150,
                        unique=True,
                        validators=[django.contrib.auth.validators.UnicodeUsernameValidator()],
                        verbose_name="username",
                    ),
                ),
                ("first_name", models.CharField(blank=True, max_length=150, verbose_name="first name")),
                ("last_name", models.CharField(blank=True, max_length=150, verbose_name="last name")),
                ("email", models.EmailField(blank=True, max_length=254, verbose_name="email address")),
                (
                    "is_staff",
                    models.BooleanField(
                        default=False, help_text="Designates whether the user can log into this admin site.", verbose_name="staff status"
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Designates whether this user should be treated as active. Unselect this instead of deleting accounts.",
                        verbose_name="active",
                    ),
                ),
                ("date_joined", models.DateTimeField(default=django.utils.timezone.now, verbose_name="date joined")),
                ("researcher_approved_at", models.DateTimeField(blank=True, null=True)),
                ("display_name", models.CharField(blank=True, default="", max_length=48)),
                ("about", models.CharField(blank=True, default="", max_length=280)),
                ("is_public", models.BooleanField(default=False)),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of their groups.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "verbose_name": "user",
                "verbose_name_plural": "users",
                "abstract": False,
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.text.Lower("display_name"),
                        condition=models.Q(("display_name", ""), _negated=True),
                        name="people_user_display_name",
                    )
                ],
            },
            managers=[
                ("objects", django.contrib.auth.models.UserManager()),
            ],
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="api_tokens", to=settings.AUTH_USER_MODEL),
                ),
                ("name", models.CharField(max_length=64)),
                ("secret_sha256", models.BinaryField(max_length=32, unique=True)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("jobs:read", "see own jobs, results and evidence"),
                                ("jobs:write", "submit and cancel jobs, upload inputs"),
                                ("nodes:read", "see own nodes"),
                                ("nodes:write", "mint join tokens, manage own nodes"),
                                ("ledger:read", "see own account and statement"),
                            ],
                            max_length=32,
                        ),
                        size=None,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "API token",
                "indexes": [
                    models.Index(fields=["owner", "-created_at"], name="people_apit_owner_i_e7f697_idx"),
                    models.Index(condition=models.Q(("expires_at__isnull", False)), fields=["expires_at"], name="api_token_expiry"),
                    models.Index(condition=models.Q(("revoked_at__isnull", False)), fields=["revoked_at"], name="api_token_revoked"),
                ],
            },
        ),
        migrations.CreateModel(
            name="ResearcherApplication",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "applicant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="applications", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("full_name", models.CharField(max_length=120)),
                ("affiliation", models.CharField(max_length=160)),
                ("purpose", models.TextField(max_length=4000)),
                ("link", models.URLField(blank=True, default="", max_length=300)),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "waits for a moderator"), ("approved", "approved"), ("declined", "declined")],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("reason", models.TextField(blank=True, default="", max_length=2000)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                (
                    "decided_by",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "open")), fields=("applicant",), name="people_application_one_open"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("decided_at", None), ("state", "open")),
                            models.Q(models.Q(("state", "open"), _negated=True), ("decided_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="people_application_decided",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Team",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=48)),
                ("invitation_id", models.UUIDField(blank=True, null=True, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [models.UniqueConstraint(django.db.models.functions.text.Lower("name"), name="people_team_name")],
            },
        ),
        migrations.CreateModel(
            name="TeamMember",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="membership", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("team", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="members", to="people.team")),
                ("is_lead", models.BooleanField(default=False)),
                ("joined_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(condition=models.Q(("is_lead", True)), fields=("team",), name="people_team_one_lead")
                ],
            },
        ),
        migrations.CreateModel(
            name="Act",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("at", models.DateTimeField(auto_now_add=True)),
                (
                    "by",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("application_approved", "application approved"),
                            ("application_declined", "application declined"),
                            ("researcher_approved", "researcher approved"),
                            ("credits_granted", "credits granted"),
                            ("entry_reversed", "entry reversed"),
                            ("account_closed", "account closed"),
                            ("account_reopened", "account reopened"),
                            ("token_revoked", "API token revoked"),
                            ("team_renamed", "team renamed"),
                            ("team_removed", "team removed"),
                            ("moderator_appointed", "moderator appointed"),
                            ("moderator_dismissed", "moderator dismissed"),
                            ("node_quarantined", "node quarantined"),
                            ("node_released", "quarantine lifted"),
                            ("node_revoked", "node revoked"),
                            ("image_approved", "image approved"),
                            ("image_withdrawn", "image withdrawn"),
                            ("image_declined", "image declined"),
                            ("breaker_opened", "image given out again"),
                            ("dispute_ruled", "dispute ruled on"),
                        ],
                        max_length=32,
                    ),
                ),
                ("about_table", models.CharField(max_length=64)),
                ("about_key", models.CharField(max_length=64)),
                ("about_name", models.CharField(max_length=300)),
                ("reason", models.TextField(max_length=2000)),
                ("detail", models.JSONField(default=dict)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["-at", "-id"], name="people_act_newest"),
                    models.Index(fields=["about_table", "about_key", "-at"], name="people_act_about"),
                    models.Index(fields=["by", "kind", "-at"], name="people_act_by"),
                ],
                "constraints": [models.CheckConstraint(condition=models.Q(("reason", ""), _negated=True), name="people_act_has_reason")],
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notifications",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("job.completed", "jobs that completed"),
                            ("job.failed", "jobs that failed"),
                            ("job.disputed", "jobs whose replicas do not agree"),
                            ("node.trouble", "nodes that are silent, quarantined or copied"),
                            ("application", "what became of your application"),
                            ("webhook", "your webhook, when it is switched off"),
                        ],
                        max_length=32,
                    ),
                ),
                ("key", models.CharField(max_length=120)),
                ("subject", models.CharField(max_length=200)),
                ("text", models.TextField(blank=True)),
                ("path", models.CharField(max_length=200)),
                ("data", models.JSONField(default=dict)),
                ("in_portal", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("read_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["owner", "-id"], name="people_noti_owner_i_ef597e_idx"),
                    models.Index(condition=models.Q(("in_portal", True), ("read_at", None)), fields=["owner"], name="notification_unread"),
                    django.contrib.postgres.indexes.BrinIndex(fields=["created_at"], name="notification_created", pages_per_range=16),
                ],
                "constraints": [models.UniqueConstraint(fields=("owner", "key"), name="notification_unique_per_owner")],
            },
        ),
        migrations.CreateModel(
            name="NotificationSetting",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="notification_settings", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("job.completed", "jobs that completed"),
                            ("job.failed", "jobs that failed"),
                            ("job.disputed", "jobs whose replicas do not agree"),
                            ("node.trouble", "nodes that are silent, quarantined or copied"),
                            ("application", "what became of your application"),
                            ("webhook", "your webhook, when it is switched off"),
                        ],
                        max_length=32,
                    ),
                ),
                ("portal", models.BooleanField(default=True)),
                ("mail", models.BooleanField(default=True)),
                ("webhook", models.BooleanField(default=True)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("owner", "kind"), name="notification_setting_unique")],
            },
        ),
        migrations.CreateModel(
            name="Webhook",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name="webhook", to=settings.AUTH_USER_MODEL),
                ),
                ("url", models.CharField(max_length=500)),
                ("salt", models.BinaryField(max_length=32)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("webhook", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="people.webhook")),
                (
                    "notification",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="people.notification"),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_at", models.DateTimeField(blank=True, null=True)),
                ("delivered_at", models.DateTimeField(blank=True, null=True)),
                ("status", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("error", models.CharField(blank=True, max_length=64)),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("next_at__isnull", False)), fields=["next_at"], name="webhook_delivery_waiting")
                ],
            },
        ),
    ]
