"""Makes the rows and times the pages, inside a process of the portal; prints JSON. benchmarks/pages.py starts it.

A million jobs of one owner, submitted one every ten seconds: most are completed, few failed, hardly any disputed and those the oldest; a
few types, one of them rare and old; two replicas each of the newest. Beside them, jobs of others.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

import django
from django.core.management import call_command
from django.db import connection

django.setup()

from django.test import Client  # noqa: E402 -- models want settings first

from benchmarks.figures import median, percentile  # noqa: E402
from jobs.models import Job  # noqa: E402
from jobs.services.submission import job_submit  # noqa: E402
from people.models import User  # noqa: E402
from tests.factories.jobs import descriptor_parse, funded_researcher_make  # noqa: E402

JOBS: Final = 1_000_000
OTHERS: Final = 50_000
WITH_REPLICAS: Final = 20_000
TIMES: Final = 20
CHANGED: Final = {
    "id": "gen_random_uuid()",
    "label": "'sweep-' || lpad(n::text, 7, '0') || CASE WHEN n % 250000 = 1 THEN '-chignolin' ELSE '' END",
    "title": "'Ensemble ' || n % 997 || ' of the ' || (ARRAY['summer', 'winter', 'autumn'])[n % 3 + 1] || ' sweep'",
    "job_type": "CASE WHEN n > %(jobs)s - 40 THEN 'spin-glass'"
    " ELSE (ARRAY['protein-folding', 'weather-ensemble', 'quantum-circuits'])[n % 3 + 1] END",
    "tier": "CASE WHEN n % 100000 = 99999 THEN 'gpu-tier2' ELSE 'cpu' END",
    "state": "CASE WHEN n <= 3000 THEN 'queued' WHEN n <= 6000 THEN 'running' WHEN n > %(jobs)s - 5 THEN 'disputed'"
    " WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END",
    "was_taken": "n > 3000",
    "copies": "2",
    "quorum": "2",
    "submitted_at": "now() - n * interval '10 seconds'",
    "concluded_at": "CASE WHEN n > 6000 THEN now() - n * interval '10 seconds' + interval '90 seconds' END",
    "verdict_summary": """CASE WHEN n > 6000 THEN '{"agreeing": 2, "reported": 2, "quorum": 2, "worst": null}'::jsonb END""",
}
PAGES: Final = {
    "newest": "/jobs/",
    "a page in the middle": "/jobs/?before={middle}",
    "completed": "/jobs/?state=completed",
    "disputed, 5 and the oldest": "/jobs/?state=disputed",
    "cancelled, none": "/jobs/?state=cancelled",
    "failed, of one type, on one tier": "/jobs/?state=failed&type=quantum-circuits&tier=cpu",
    "of a rare type": "/jobs/?type=spin-glass",
    "on a rare tier": "/jobs/?tier=gpu-tier2",
    "completed, since 30 days ago": "/jobs/?since={since}&state=completed",
    "search, in every title": "/jobs/?q=sweep",
    "search, in 4 labels": "/jobs/?q=chignolin",
    "search, one label": "/jobs/?q=sweep-0654321",
    "search, in no label": "/jobs/?q=nowhere",
    "search, in every title, disputed": "/jobs/?q=sweep&state=disputed",
    "search, in one in 1,000": "/jobs/?q=ensemble+513",
    "archive, none": "/jobs/?archived=yes",
    "rows that are followed": "/jobs/rows/?{followed}",
}


def main() -> None:
    call_command("migrate", verbosity=0)
    owner, other = funded_researcher_make("ada"), funded_researcher_make("lise")
    for user, count in ((owner, JOBS), (other, OTHERS)):
        _jobs_make(user, count)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    middle = Job.objects.filter(owner=owner, label__startswith="sweep-0500000").values_list("pk", flat=True)[0]
    newest = Job.objects.filter(owner=owner).order_by("-submitted_at").values_list("pk", flat=True)[:50]
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86400))
    values = {"middle": middle, "since": since, "followed": "&".join(f"row={pk}:0" for pk in newest)}
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
    """`count` jobs like one that was submitted, without indexes meanwhile: they would take most of the time."""
    like, _ = job_submit(owner=owner, descriptor=descriptor_parse(_descriptor()))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'jobs_job' AND indexdef NOT LIKE 'CREATE UNIQUE%%'", []
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        columns = [str(field.column) for field in Job._meta.concrete_fields if not field.generated]
        values = ", ".join(CHANGED.get(column, f't."{column}"') for column in columns)
        cursor.execute(
            f"INSERT INTO jobs_job ({', '.join(columns)}) SELECT {values} FROM jobs_job t, generate_series(1, %(jobs)s) n WHERE t.id = %(like)s",  # noqa: S608  our own names
            {"jobs": count, "like": like.pk},
        )
        for _, definition in indexes:
            cursor.execute(definition)
        _replicas_make(cursor, like)


def _replicas_make(cursor: object, like: Job) -> None: ...


def _descriptor() -> dict[str, object]:
    return {}


if __name__ == "__main__":
    main()
