"""The trail of moderators' acts, which only grows: whoever writes, by whichever way, the table refuses UPDATE, DELETE and TRUNCATE."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FORWARD = """
CREATE FUNCTION people_act_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused; another act can undo what this one did', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER people_act_append_only BEFORE UPDATE OR DELETE ON people_act FOR EACH ROW EXECUTE FUNCTION people_act_refuse_change();
CREATE TRIGGER people_act_no_truncate BEFORE TRUNCATE ON people_act FOR EACH STATEMENT EXECUTE FUNCTION people_act_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("people", "0004_notifications"),
    ]

    operations = [
        migrations.CreateModel(
            name="Act",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("at", models.DateTimeField(auto_now_add=True)),
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
        migrations.RunSQL(FORWARD, reverse_sql="DROP FUNCTION people_act_refuse_change() CASCADE;"),
    ]
