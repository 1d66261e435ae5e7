"""Makes the rows and times the pages, inside a process of the portal; prints JSON. benchmarks/pages.py starts it.

A million jobs of one owner, submitted one every ten seconds: most are completed, few failed, hardly any disputed and those the oldest; a
few types, one of them rare and old; two replicas each of the newest. Beside them, jobs of another owner.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

import django
from django.core.management import call_command
from django.db import connection

django.setup()

from django.test import Client  # noqa: E402 -- models want settings first

from benchmarks.figures import median, percentile  # noqa: E402
from jobs.models import Job, Replica  # noqa: E402
from people.models import User  # noqa: E402
from tests.factories.jobs import funded_researcher_make, job_make  # noqa: E402

JOBS: Final = 1_000_000
OTHERS: Final = 50_000
WITH_REPLICAS: Final = 20_000
TIMES: Final = 20
_OF_JOBS: Final = {
    "id": "md5(t.id::text || n)::uuid",
    "label": "'sweep-' || lpad(n::text, 7, '0') || CASE WHEN n % 250000 = 1 THEN '-chignolin' ELSE '' END",
    "title": "'Ensemble ' || n % 997 || ' of the ' || (ARRAY['summer', 'winter', 'autumn'])[n % 3 + 1] || ' sweep'",
    "job_type": "CASE WHEN n > 999960 THEN 'spin-glass' ELSE (ARRAY['folding', 'weather', 'circuits'])[n % 3 + 1] END",
    "tier": "CASE WHEN n % 100000 = 99999 THEN 'gpu-tier2' ELSE 'cpu' END",
    "state": "CASE WHEN n <= 3000 THEN 'queued' WHEN n <= 6000 THEN 'running' WHEN n > 999995 THEN 'disputed'"
    " WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END",
    "was_taken": "n > 3000",
    "copies": "2",
    "quorum": "2",
    "submitted_at": "now() - n * interval '10 seconds'",
    "concluded_at": "CASE WHEN n > 6000 AND n <= 999995 THEN now() - n * interval '10 seconds' + interval '90 seconds' END",
    "verdict_summary": """CASE WHEN n > 6000 THEN '{"agreeing": 2, "reported": 2, "quorum": 2, "worst": null}'::jsonb END""",
}
_OF_REPLICAS: Final = {
    "id": "gen_random_uuid()",
    "job_id": "md5(t.job_id::text || n)::uuid",
    "state": "'cancelled'",
    "leased_at": "now()",
}
PAGES: Final = {
    "newest": "/jobs/",
    "in the middle": "/jobs/?before={middle}",
    "completed": "/jobs/?state=completed",
    "disputed: 5, the oldest": "/jobs/?state=disputed",
    "cancelled: none": "/jobs/?state=cancelled",
    "failed, of a type, on a tier": "/jobs/?state=failed&type=circuits&tier=cpu",
    "of a rare type": "/jobs/?type=spin-glass",
    "on a rare tier": "/jobs/?tier=gpu-tier2",
    "completed, since 30 days ago": "/jobs/?since={since}&state=completed",
    "search, in every title": "/jobs/?q=sweep",
    "search, in 4 labels": "/jobs/?q=chignolin",
    "search, one label": "/jobs/?q=sweep-0654321",
    "search, in no label": "/jobs/?q=nowhere",
    "search, in every title of the 5 disputed": "/jobs/?q=sweep&state=disputed",
    "search, one title in 1,000": "/jobs/?q=ensemble+513",
    "archive, empty": "/jobs/?archived=yes",
    "50 rows that are followed": "/jobs/rows/?{followed}",
}


def main() -> None:
    call_command("migrate", verbosity=0)
    owner = funded_researcher_make("ada")
    _jobs_make(owner, JOBS)
    _jobs_make(funded_researcher_make("lise"), OTHERS)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE jobs_job, jobs_replica")
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    newest = list(Job.objects.filter(owner=owner).order_by("-submitted_at").values_list("pk", flat=True)[1:51])
    values = {
        "middle": Job.objects.filter(owner=owner, label="sweep-0500000").values_list("pk", flat=True)[0],
        "since": time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86400)),
        "followed": "&".join(f"row={pk}:0" for pk in newest),
    }
    json.dump({name: _timed(client, path.format(**values)) for name, path in PAGES.items()}, sys.stdout)


def _timed(client: Client, path: str) -> dict[str, float]:
    seconds, rows = [], 0
    for turn in range(TIMES + 1):
        began = time.perf_counter()
        response = client.get(path)
        if turn:  # the first one compiles templates
            seconds.append(time.perf_counter() - began)
        if response.status_code != 200:
            raise RuntimeError(f"expected a page at {path}; found {response.status_code}")
        rows = response.content.count(b'<tr id="job-')
    return {"p50_ms": median(seconds) * 1e3, "p95_ms": percentile(seconds, 0.95) * 1e3, "rows": rows, "times": TIMES}


def _jobs_make(owner: User, count: int) -> None:
    """`count` jobs like one that was submitted. Indexes are made afterwards: one row at a time they would take most of the time."""
    like = job_make(owner)
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'jobs_job' AND indexdef !~ '^CREATE UNIQUE'")
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        _copies_insert(cursor, Job, _OF_JOBS, of=like, count=count)
        for _, definition in indexes:
            cursor.execute(definition)
        _copies_insert(cursor, Replica, _OF_REPLICAS, of=like.replicas.all()[0], count=min(count, WITH_REPLICAS))


def _copies_insert(cursor: Any, model: type[Job | Replica], changed: dict[str, str], *, of: Job | Replica, count: int) -> None:
    columns = [str(field.column) for field in model._meta.concrete_fields if not field.generated]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(changed.get(column, f't."{column}"') for column in columns)
    cursor.execute(
        f'INSERT INTO "{model._meta.db_table}" ({names}) SELECT {values}'.replace("%", "%%")  # noqa: S608  our own names
        + f' FROM "{model._meta.db_table}" t, generate_series(1, %s) n WHERE t.id = %s',
        [count, of.pk],
    )


if __name__ == "__main__":
    main()
