import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0002_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="NodeKey",
            fields=[
                ("key_id", models.CharField(max_length=71, primary_key=True, serialize=False)),
                ("public_key", models.BinaryField(max_length=32, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("retired_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.AddField(
            model_name="node",
            name="clone_seen_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="node",
            name="clone_told_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="node",
            index=models.Index(condition=models.Q(("clone_seen_at__isnull", False)), fields=["clone_seen_at"], name="node_clone_seen"),
        ),
        migrations.AddField(
            model_name="nodekey",
            name="node",
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="keys", to="nodes.node"),
        ),
        migrations.AddField(
            model_name="nodekey",
            name="successor",
            field=models.OneToOneField(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="predecessor", to="nodes.nodekey"
            ),
        ),
        migrations.AddConstraint(
            model_name="nodekey",
            constraint=models.UniqueConstraint(condition=models.Q(("retired_at", None)), fields=("node",), name="node_key_one_current"),
        ),
        migrations.AddConstraint(
            model_name="nodekey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("retired_at", None), ("successor", None)),
                    models.Q(("retired_at__isnull", False), ("successor__isnull", False)),
                    _connector="OR",
                ),
                name="node_key_retired_has_successor",
            ),
        ),
        migrations.RunSQL(
            "INSERT INTO nodes_nodekey (key_id, node_id, public_key, created_at) SELECT key_id, id, public_key, created_at FROM nodes_node",
            migrations.RunSQL.noop,
        ),
    ]
