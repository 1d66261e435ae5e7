"""Who may sign up by a link alone, and people whose accounts were erased: a row stays, with its number, and nothing that is personal."""

import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("people", "0003_team_leads"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="user",
            options={"verbose_name": "person", "verbose_name_plural": "people"},
        ),
        migrations.AddField(
            model_name="user",
            name="erased_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AlterField(
            model_name="act",
            name="kind",
            field=models.CharField(
                choices=[
                    ("application_approved", "application approved"),
                    ("application_declined", "application declined"),
                    ("researcher_approved", "researcher approved"),
                    ("credits_granted", "credits granted"),
                    ("entry_reversed", "entry reversed"),
                    ("person_invited", "person invited"),
                    ("invitation_withdrawn", "invitation withdrawn"),
                    ("account_closed", "account closed"),
                    ("account_reopened", "account reopened"),
                    ("account_erased", "account erased"),
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
        migrations.CreateModel(
            name="Invitation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("email", models.EmailField(max_length=254)),
                ("secret_sha256", models.BinaryField(max_length=32, unique=True)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "account",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="invitation",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "invited_by",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="people_invitation_expiry")],
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.text.Lower("email"),
                        condition=models.Q(("used_at", None)),
                        name="people_invitation_one_unused",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("account", None), ("used_at", None)),
                            models.Q(("account__isnull", False), ("used_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="people_invitation_used_by_somebody",
                    ),
                ],
            },
        ),
    ]
