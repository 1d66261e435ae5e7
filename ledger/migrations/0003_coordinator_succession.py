from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ledger", "0002_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="CoordinatorSuccession",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key_id", models.CharField(max_length=71, unique=True)),
                ("public_key", models.BinaryField(max_length=32)),
                ("successor_key_id", models.CharField(max_length=71, unique=True)),
                ("envelope", models.BinaryField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.RunSQL(
            "CREATE TRIGGER ledger_coordinatorsuccession_append_only BEFORE UPDATE OR DELETE ON ledger_coordinatorsuccession"
            " FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();"
            "CREATE TRIGGER ledger_coordinatorsuccession_no_truncate BEFORE TRUNCATE ON ledger_coordinatorsuccession"
            " FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();",
            migrations.RunSQL.noop,
        ),
    ]
