"""The outbox is a row for each write, not a mark on each event: a mark writes the event anew, and into each of its indexes.

A trigger makes the row, once a statement, over all events that it wrote: no writer can forget it.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION jobs_events_wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs_unpushedevents (events) SELECT array_agg(id ORDER BY id) FROM added HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER events_wait AFTER INSERT ON jobs_jobevent REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION jobs_events_wait();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0003_queue_classes")]
    operations = [migrations.RunSQL(FORWARD)]
