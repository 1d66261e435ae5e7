"""Notifications go by mail as they go by webhook, and moderators have a kind of their own. Of the kinds no column changes."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Q

KINDS = [
    ("job.completed", "jobs that completed"),
    ("job.failed", "jobs that failed"),
    ("job.disputed", "jobs whose replicas do not agree"),
    ("node.trouble", "nodes that are silent, quarantined or copied"),
    ("application", "what became of your application"),
    ("credits.received", "credits that somebody gave you"),
    ("webhook", "your webhook, when it is switched off"),
    ("moderation", "what waits for a moderator"),
]


class Migration(migrations.Migration):
    dependencies = [("people", "0005_credits_received")]
    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '5s'", migrations.RunSQL.noop),
        migrations.AlterField("notification", "kind", models.CharField(choices=KINDS, max_length=32)),
        migrations.AlterField("notificationsetting", "kind", models.CharField(choices=KINDS, max_length=32)),
        migrations.CreateModel(
            name="MailDelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=KINDS, max_length=32)),
                ("refusals", models.PositiveSmallIntegerField(default=0)),
                ("next_at", models.DateTimeField(blank=True, null=True)),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                (
                    "notification",
                    models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name="mail", to="people.notification"),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "mail deliveries",
                "indexes": [
                    models.Index(condition=Q(next_at__isnull=False), fields=["next_at"], name="mail_delivery_waiting"),
                    models.Index(condition=Q(sent_at__isnull=False), fields=["owner", "kind", "-sent_at"], name="mail_delivery_sent"),
                ],
            },
        ),
    ]
