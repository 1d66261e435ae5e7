"""The outbox is a row for each write, not a mark on each event: a mark writes the event anew, and into each of its indexes.

A trigger makes the row, once a statement, over all events that it wrote: no writer can forget it.
"""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

FORWARD = """
CREATE FUNCTION jobs_events_wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs_unpushedevents (events) SELECT array_agg(id ORDER BY id) FROM added HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER events_wait AFTER INSERT ON jobs_jobevent REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION jobs_events_wait();
INSERT INTO jobs_unpushedevents (events)
    SELECT array_agg(id ORDER BY id) FROM jobs_jobevent WHERE pushed_at IS NULL GROUP BY id / 1000 ORDER BY id / 1000;
"""
BACK = """
DROP TRIGGER events_wait ON jobs_jobevent;
DROP FUNCTION jobs_events_wait();
UPDATE jobs_jobevent SET pushed_at = created_at WHERE id <> ALL (ARRAY(SELECT unnest(events) FROM jobs_unpushedevents));
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0010_live_indexes")]

    operations = [
        migrations.CreateModel(
            name="UnpushedEvents",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("events", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
            ],
        ),
        migrations.RunSQL(FORWARD, reverse_sql=BACK),
        migrations.RemoveIndex("jobevent", "job_event_outbox"),
        migrations.RemoveField("jobevent", "pushed_at"),
        migrations.AlterField(
            "jobevent",
            "job",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="jobs.job",
            ),
        ),
        migrations.AlterField(
            "jobevent",
            "replica",
            models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="jobs.replica",
            ),
        ),
    ]
