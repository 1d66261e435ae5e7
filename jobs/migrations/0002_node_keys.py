"""Leases know the key that took them; exchanges know the worker that sent them. What is known of exchanges is of the moment: it starts empty."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0001_initial"),
        ("nodes", "0003_node_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="replica",
            name="node_key",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="nodes.nodekey"
            ),
        ),
        migrations.RunSQL(
            "UPDATE jobs_replica r SET node_key_id = n.key_id FROM nodes_node n WHERE n.id = r.node_id",
            migrations.RunSQL.noop,
        ),
        migrations.DeleteModel(name="NodeExchange"),
        migrations.CreateModel(
            name="NodeExchange",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name="+", serialize=False, to="nodes.node"
                    ),
                ),
                ("request_id", models.UUIDField()),
                ("session_id", models.UUIDField()),
                ("session_began_at", models.BigIntegerField()),
                ("superseded", models.JSONField(default=dict)),
            ],
        ),
    ]
