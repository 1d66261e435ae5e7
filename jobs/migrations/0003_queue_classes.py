"""Queue classes: what says who may have a queued replica is one key on it, kept by triggers, so that a claim looks at classes and not at rows.

docs/adr/0024-queue-classes.md says why. The triggers:

- `jobs_replica_queue_enter`: a replica that is inserted as queued is next of its job, unless another one is queued.
- `jobs_replica_queue_follow`: when a replica's state changes in a way that matters to others of its job, the next one is found anew, and
  what bars hosts from it. Going on from one state that holds a vote or a lease to another doesn't matter, and costs nothing.

Whoever changes a replica's state holds its job's lock, hence two triggers never work on one job at once. Their plans may have been
made when the table was empty and all ways to read it cost nothing; hence no condition but the job's id (the others behind OFFSET 0), and
no reading of the whole table.
"""

from django.db import migrations

EXCLUSIVE = "('leased', 'running', 'reported', 'accepted', 'rejected')"
OWNER_ATTEMPTS_MAX = 3

FUNCTIONS = f"""
CREATE FUNCTION jobs_replica_queue_key(r jobs_replica, barred bigint[], failed_nodes uuid[]) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT encode(substr(sha256(
           int8send(r.kind_id) || float8send(r.cpus) || int8send(r.memory_bytes) || int8send(r.disk_bytes)
           || int4send(r.gpus::int) || int8send(r.gpu_memory_bytes)
           || convert_to(array_to_string(barred, ',') || ';' || array_to_string(failed_nodes, ','), 'UTF8')), 1, 16), 'hex')::uuid
$$;

CREATE FUNCTION jobs_replica_bars(job uuid, OUT barred bigint[], OUT failed_nodes uuid[]) LANGUAGE plpgsql STABLE AS $$
BEGIN
  barred := ARRAY(
    SELECT node_owner_id FROM (SELECT * FROM jobs_replica WHERE job_id = job OFFSET 0) r WHERE node_owner_id IS NOT NULL
    GROUP BY node_owner_id
    HAVING bool_or(state IN {EXCLUSIVE}) OR count(*) FILTER (WHERE state IN ('failed', 'expired')) >= {OWNER_ATTEMPTS_MAX}
    ORDER BY node_owner_id);
  failed_nodes := ARRAY(
    SELECT DISTINCT node_id FROM (SELECT * FROM jobs_replica WHERE job_id = job OFFSET 0) r
    WHERE state = 'failed' AND failure_code <> 'host_stopped' ORDER BY node_id);
END $$;

CREATE FUNCTION jobs_replica_queue_enter() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
DECLARE
  one_is_queued boolean;
BEGIN
  SELECT bool_or(state = 'queued') INTO one_is_queued FROM jobs_replica WHERE job_id = NEW.job_id;
  NEW.barred := '{{}}';
  NEW.failed_nodes := '{{}}';
  NEW.queue_key := NULL;
  IF NOT one_is_queued THEN
    SELECT b.barred, b.failed_nodes INTO NEW.barred, NEW.failed_nodes FROM jobs_replica_bars(NEW.job_id) b;
  END IF;
  IF NOT coalesce(one_is_queued, false) THEN
    NEW.queue_key := jobs_replica_queue_key(NEW, NEW.barred, NEW.failed_nodes);
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION jobs_replica_queue_next(job uuid) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  next uuid;
BEGIN
  SELECT id INTO next FROM (SELECT * FROM jobs_replica WHERE job_id = job OFFSET 0) r WHERE state = 'queued'
  ORDER BY created_at, id LIMIT 1;
  IF next IS NOT NULL THEN
    UPDATE jobs_replica r SET queue_key = jobs_replica_queue_key(r, b.barred, b.failed_nodes), barred = b.barred, failed_nodes = b.failed_nodes
    FROM jobs_replica_bars(job) b
    WHERE r.id = next AND (r.queue_key IS NULL OR (r.barred, r.failed_nodes) IS DISTINCT FROM (b.barred, b.failed_nodes));
  END IF;
END $$;

CREATE FUNCTION jobs_replica_queue_follow() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM jobs_replica_queue_next(NEW.job_id);
  RETURN NULL;
END $$;

CREATE TRIGGER jobs_replica_queue_enter BEFORE INSERT ON jobs_replica
  FOR EACH ROW WHEN (NEW.state = 'queued') EXECUTE FUNCTION jobs_replica_queue_enter();
CREATE TRIGGER jobs_replica_queue_follow AFTER UPDATE OF state ON jobs_replica
  FOR EACH ROW WHEN (OLD.state <> NEW.state AND NOT (OLD.state IN {EXCLUSIVE} AND NEW.state IN {EXCLUSIVE}))
  EXECUTE FUNCTION jobs_replica_queue_follow();
"""  # noqa: S608  constants of this file


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_receipts_and_events")]
    operations = [migrations.RunSQL(FUNCTIONS)]
