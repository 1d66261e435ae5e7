"""People are told of credits that others gave them: a kind of notification. No column changes, only what Django takes for a choice."""

from django.db import migrations, models

KINDS = [
    ("job.completed", "jobs that completed"),
    ("job.failed", "jobs that failed"),
    ("job.disputed", "jobs whose replicas do not agree"),
    ("node.trouble", "nodes that are silent, quarantined or copied"),
    ("application", "what became of your application"),
    ("credits.received", "credits that somebody gave you"),
    ("webhook", "your webhook, when it is switched off"),
]


class Migration(migrations.Migration):
    dependencies = [("people", "0004_invitations_and_erasure")]
    operations = [
        migrations.AlterField("notification", "kind", models.CharField(choices=KINDS, max_length=32)),
        migrations.AlterField("notificationsetting", "kind", models.CharField(choices=KINDS, max_length=32)),
    ]
