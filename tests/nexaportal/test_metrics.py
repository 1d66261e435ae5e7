"""What Prometheus is told: numbers that are true, nothing for strangers, and every name that rules and dashboard ask for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from jobs.models import Replica
from ledger.models import PendingItem
from nexaportal.metrics import GAUGES
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "infra/prometheus/rules.yml"
DASHBOARD: Final = ROOT / "infra/grafana/nexapod.json"

pytestmark = pytest.mark.django_db


def samples() -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values) to value, of what the process exports now."""
    response = Client().get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


def test_what_waits_and_what_reported_is_counted() -> None:
    job_make()
    Replica.objects.filter(job=job_make()).update(created_at=timezone.now() - timedelta(seconds=90))
    replica_report(job_make(verification={"method": "exact", "copies": 2, "quorum": 2}))
    found = samples()
    assert found["nexapod_jobs_waiting", ("cpu",)] == 3
    assert 60 < found["nexapod_jobs_waiting_oldest_seconds", ("cpu",)] < 120, "the database's clock, of when this test began"
    assert found["nexapod_verification_waiting", ()] == 1
    assert found["nexapod_ledger_pending", ()] == PendingItem.objects.count() > 0
    assert found["nexapod_up", ("database",)] == found["nexapod_up", ("redis",)] == 1


def test_tasks_that_nobody_took_are_counted_by_queue() -> None:
    with Redis.from_url(settings.NEXA_REDIS_URL) as redis:
        redis.delete("verify")
        redis.rpush("verify", "one", "two")
        found = samples()
        redis.delete("verify")
    assert found["nexapod_tasks_waiting", ("verify",)] == 2


def test_without_redis_it_says_so_and_goes_on_to_tell_the_rest() -> None:
    with override_settings(NEXA_REDIS_URL="redis://127.0.0.1:1"):
        found = samples()
    assert found["nexapod_up", ("redis",)] == 0
    assert found["nexapod_up", ("database",)] == 1
    assert ("nexapod_tasks_waiting", ("verify",)) not in found


def test_requests_are_counted_by_route_and_never_by_path() -> None:
    job_make()
    Client().get("/healthz")
    Client().get("/no/such/place")
    found = samples()
    routes = {route for name, labels in found if name == "nexapod_http_request_seconds_count" for _, route, _ in [labels]}
    assert {"healthz", "none"} <= routes
    assert not any("such" in route for route in routes)


def test_who_comes_through_the_proxy_finds_nothing() -> None:
    response = Client().get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    assert (response.status_code, response.content) == (404, b"")
    assert re.search(r"location = /metrics \{\s+return 404;", (ROOT / "infra/proxy/nginx.conf").read_text())


def test_no_query_reads_what_is_concluded() -> None:
    """Each of them by an index of what is unfinished: with sequential scans made dear, none is left on a table that grows."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for name, _, _, query in GAUGES:
            cursor.execute(f"EXPLAIN {query}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            growing = set(re.findall(r"Seq Scan on (\w+)", plan)) - {
                "ledger_pendingitem",
                "jobs_unpushedevents",
                "jobs_coordinatorclock",
                "nodes_node",
            }
            assert not growing, f"{name}:\n{plan}"


def test_every_metric_of_rules_and_dashboard_is_one_that_the_process_exports() -> None:
    replica_report(job_make(verification={"method": "exact", "copies": 2, "quorum": 2}))
    Client().get("/healthz")
    exported = set(re.findall(r"^# TYPE (\w+) ", Client().get("/metrics").content.decode(), re.MULTILINE))
    exported |= {f"{name}_{part}" for name in exported for part in ("count", "sum", "bucket")}
    asked = set(re.findall(r"\bnexapod_\w+", RULES.read_text()))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked |= {name for panel in panels for target in panel["targets"] for name in re.findall(r"\bnexapod_\w+", target["expr"])}
    assert asked <= exported
    told = {name for name in exported if not name.endswith(("_count", "_sum", "_bucket", "_created"))} - {"nexapod_http_request_seconds"}
    assert {name for name in told if name.startswith("nexapod_")} <= asked, "what nobody looks at is not worth its query"


def test_processes_that_share_a_folder_add_their_counts_up(tmp_path: Path) -> None:
    script = (
        "import django; django.setup()\n"
        "from nexaportal.metrics import HTTP_SECONDS\n"
        "HTTP_SECONDS.labels('exchange', 'POST', '2xx').observe(1)\n"
    )
    environment = {**os.environ, "NEXA_METRICS_FOLDER": str(tmp_path / "metrics")}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)
    asking = (
        "import django; django.setup()\n"
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "import nexaportal.metrics\n"
        "registry = CollectorRegistry()\n"
        "nexaportal.metrics.MultiProcessCollector(registry)\n"
        "print(generate_latest(registry).decode())\n"
    )
    told = subprocess.run([sys.executable, "-c", asking], env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert 'nexapod_http_request_seconds_count{method="POST",route="exchange",status="2xx"} 2.0' in told
