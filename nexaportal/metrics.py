"""`GET /metrics` for Prometheus: what PostgreSQL and Redis say at that moment, and what the web processes counted.

Inside only: a request that came through the proxy finds nothing here. What is true of the portal as a whole is read from the database when
it is asked for (by indexes that hold what is unfinished, never by counting history), so it does not matter which process answers. HTTP is
counted by each process; where NEXA_METRICS_FOLDER names a folder, their counts are added up.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from redis import Redis
from redis.exceptions import RedisError

if settings.NEXA_METRICS_FOLDER:  # before the import: the library looks once
    Path(settings.NEXA_METRICS_FOLDER).mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = settings.NEXA_METRICS_FOLDER

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

_COUNTED: Final = CollectorRegistry()
HTTP_SECONDS: Final = Histogram(
    "nexapod_http_request_seconds",
    "Time from a request to the begin of its answer. Of exchanges, waiting for work is a part.",
    ["route", "method", "status"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30),
    registry=_COUNTED,
)
_QUEUES: Final = ("control", "verify", "conclude")
_REDIS_SECONDS: Final = 2

GAUGES: Final[tuple[tuple[str, str, tuple[str, ...], str], ...]] = (
    (
        "nexapod_jobs_waiting",
        "Jobs of which a replica waits for a host.",
        ("tier",),
        "SELECT tier, count(*) FROM jobs_replica WHERE state = 'queued' AND queue_key IS NOT NULL GROUP BY tier",
    ),
    (
        "nexapod_jobs_waiting_oldest_seconds",
        "How long the oldest of these replicas has been waiting.",
        ("tier",),
        "SELECT tier, extract(epoch FROM now() - min(created_at)) FROM jobs_replica"
        " WHERE state = 'queued' AND queue_key IS NOT NULL GROUP BY tier",
    ),
    (
        "nexapod_leases",
        "Replicas that a host holds.",
        ("state",),
        "SELECT state, count(*) FROM jobs_replica WHERE state IN ('leased', 'running') GROUP BY state",
    ),
    (
        "nexapod_leases_silent",
        "Leases that ran out and were not ended yet: control is late.",
        (),
        "SELECT count(*) FROM jobs_replica WHERE state IN ('leased', 'running') AND lease_expires_at < now() - interval '30 s'",
    ),
    (
        "nexapod_nodes_seen",
        "Nodes that exchanged within two minutes.",
        ("tier",),
        "SELECT tier, count(*) FROM nodes_node WHERE last_seen_at > now() - interval '2 min' GROUP BY tier",
    ),
    (
        "nexapod_nodes_serving",
        "Nodes that exchanged within two minutes, by each tier whose jobs they take: larger ones take those of smaller ones too.",
        ("tier",),
        "SELECT served.tier, count(*) FROM nodes_node, jsonb_array_elements_text(queues) AS served (tier)"
        " WHERE last_seen_at > now() - interval '2 min' GROUP BY served.tier",
    ),
    (
        "nexapod_jobs_disputed",
        "Jobs that wait for a moderator's ruling.",
        (),
        "SELECT count(*) FROM jobs_job WHERE state = 'disputed'",
    ),
    (
        "nexapod_verification_waiting",
        "Replicas that reported and are not concluded.",
        (),
        "SELECT count(*) FROM jobs_replica WHERE state = 'reported'",
    ),
    (
        "nexapod_verification_unclaimed_oldest_seconds",
        "How long the oldest reported replica whose check nobody has begun, or ended in time, waits.",
        (),
        # By the newest of a job's: when it comes, those before it, checked long ago, are looked at with it once more.
        "SELECT coalesce(extract(epoch FROM now() - min(newest)), 0) FROM (SELECT max(r.received_at) AS newest FROM jobs_replica p"
        " JOIN jobs_receipt r ON r.replica_id = p.id WHERE p.state = 'reported'"
        " AND (p.verify_claimed_until IS NULL OR p.verify_claimed_until < now()) GROUP BY p.job_id) waiting",
    ),
    (
        "nexapod_ledger_pending",
        "Items that are written and not in the log yet.",
        (),
        "SELECT count(*) FROM ledger_pendingitem",
    ),
    (
        "nexapod_ledger_pending_oldest_seconds",
        "How long the oldest of them has been waiting for a checkpoint.",
        (),
        "SELECT coalesce(extract(epoch FROM now() - min(i.created_at)), 0)"
        " FROM ledger_pendingitem p JOIN ledger_logitem i ON i.id = p.item_id",
    ),
    (
        "nexapod_ledger_leaves",
        "Leaves under the newest checkpoint.",
        (),
        "SELECT coalesce((SELECT size FROM ledger_checkpoint ORDER BY id DESC LIMIT 1), 0)",
    ),
    (
        "nexapod_outbox_waiting",
        "Events that nobody was told of yet.",
        (),
        "SELECT coalesce(sum(cardinality(events)), 0) FROM jobs_unpushedevents",
    ),
    (
        "nexapod_mails_waiting_oldest_seconds",
        "How long the oldest notification waits to be mailed, but for those that the mail server refused by their address.",
        (),
        "SELECT coalesce(extract(epoch FROM now() - min(n.created_at)), 0) FROM people_maildelivery m"
        " JOIN people_notification n ON n.id = m.notification_id WHERE m.next_at IS NOT NULL AND m.refusals = 0",
    ),
    (
        "nexapod_portal_silence_seconds",
        "Since a web process last said that it serves.",
        (),
        "SELECT coalesce(extract(epoch FROM now() - max(alive_at)), 0) FROM jobs_coordinatorclock",
    ),
)
"""Name, what it is, labels, and a query whose columns are the labels and then the value."""


class PortalCollector(Collector):
    """The portal's own state. A dependency that is away has `nexapod_up` 0, and its metrics are absent: they are not known."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("nexapod_up", "Whether what is true could be asked.", labels=["dependency"])
        for dependency, ask, failure in (("database", _database_ask, Exception), ("redis", _redis_ask, RedisError)):
            try:
                found = list(ask())
            except failure:
                log.exception("no metrics of %s", dependency)
                found = []
            up.add_metric([dependency], float(bool(found)))
            yield from found
        yield up


def _database_ask() -> Iterable[Metric]:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '5s'")
        try:
            for name, documentation, labels, query in GAUGES:
                family = GaugeMetricFamily(name, documentation, labels=labels)
                cursor.execute(query)
                for *values, value in cursor.fetchall():
                    family.add_metric([str(each) for each in values], float(value))
                yield family
        finally:
            cursor.execute("RESET statement_timeout")


def _redis_ask() -> Iterable[Metric]:
    """Lengths of Celery's queues: what was sent and is not taken. The broker may be another Redis than the portal's: both are asked."""
    family = GaugeMetricFamily("nexapod_tasks_waiting", "Tasks that no worker has taken.", labels=["queue"])
    with _redis(settings.NEXA_REDIS_URL) as redis:
        redis.ping()
    # Kombu has words of its own for a socket and for a database's number.
    with _redis(settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")) as broker:
        for queue in _QUEUES:
            family.add_metric([queue], float(broker.llen(queue)))
    return [family]


def _redis(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The exposition. 404 to whoever comes through the proxy, as if there were nothing."""
    if "X-Forwarded-For" in request.headers:
        return HttpResponse(status=HTTPStatus.NOT_FOUND)
    registry = CollectorRegistry()
    registry.register(PortalCollector())
    if settings.NEXA_METRICS_FOLDER:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    return HttpResponse(generate_latest(registry) + generate_latest(_COUNTED), content_type=CONTENT_TYPE_LATEST)
