"""A long queue, written by the database itself: copies of a job and its replicas."""

from __future__ import annotations

from django.db import connection

from jobs.models import Job, Replica


def queue_lengthen(job: Job, count: int) -> None:
    """`count` more jobs like this one, with replicas in the same states by the same nodes, all older; then statistics, as by autovacuum."""
    with connection.cursor() as cursor:
        for model, own in (
            (Job, {"id": "md5('job' || n || t.id::text)::uuid", "label": "t.label || '-' || n"}),
            (
                Replica,
                {
                    "id": "md5('replica' || n || t.id::text)::uuid",
                    "job_id": "md5('job' || n || t.job_id::text)::uuid",
                    "lease_id": "CASE WHEN t.lease_id IS NOT NULL THEN md5('lease' || n || t.id::text)::uuid END",
                    "created_at": "t.created_at - make_interval(secs => n)",
                },
            ),
        ):
            columns = [str(field.column) for field in model._meta.concrete_fields if not field.generated]
            table = model._meta.db_table
            values = ", ".join(own.get(column, f't."{column}"') for column in columns)
            where = "id" if model is Job else "job_id"
            # Queued ones last: what bars hosts from them is there when they come.
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} t, generate_series(1, %s) n"  # noqa: S608  names of our own tables
                f" WHERE t.{where} = %s ORDER BY t.state = 'queued'",
                [count, job.pk],
            )
        cursor.execute("ANALYZE jobs_job, jobs_replica, jobs_jobkind")
