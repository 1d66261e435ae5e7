"""A container through the whole fabric, against `docker run` of the same; the way of an order; the memory of a worker.

On a real portal with its workers and one real host, which has two slots. Bare runs and fabric runs alternate, so that whatever else the
machine does, it does to both.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import redis

from benchmarks.engine import LIMITS, bare_run, spec_make
from benchmarks.figures import Figure, median, percentile
from benchmarks.journey import Journey, journey_read
from benchmarks.memory import Memory, memory_of, memory_peak
from jobs.nudges import WAKE_CHANNEL
from tests.acceptance.running_stack import BASE_IMAGE, RunningStack
from tests.acceptance.traces import wait_for

PAIRS: Final = 15
ORDERS: Final = 40
WARM_UP: Final = 3
MEMORY_BYTES_MAX: Final = 150e6
BUSY: Final = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; head -c 3000000 /dev/urandom > $NEXA_OUTPUTS/data"
_LIMIT_SECONDS: Final = 60.0


class Fabric:
    """What is measured on one running stack whose only host is `host`."""

    def __init__(self, running: RunningStack, host: str, image_id: str) -> None:
        self._running = running
        self._host = host
        self._image_id = image_id
        self._database: psycopg.Connection[Any] = psycopg.connect(running.services.postgres_dsn, autocommit=True)
        self._redis = redis.Redis.from_url(running.services.redis_url)

    def close(self) -> None:
        """Connections only."""
        self._database.close()
        self._redis.close()

    def warm_up(self) -> None:
        """First times of everything: imports, connections, plans."""
        for _ in range(WARM_UP):
            self._journey("true")

    def overhead(self) -> tuple[list[Figure], list[Figure]]:
        """A container of two seconds: what the fabric adds, and where its time goes."""
        bare, journeys = [], []
        for _ in range(PAIRS):
            spec = spec_make(self._running.folder / "bare", self._image_id, "sleep", "2")
            bare.append(bare_run(spec, docker_host=self._running.hosts[self._host].environment["DOCKER_HOST"]))
            journeys.append(self._journey("sleep", "2"))
        whole = _spans(journeys, "sent", "concluded")
        host = _spans(journeys, "accepted", "received")
        added = [one - other for one, other in zip(whole, bare, strict=True)]
        figures = [
            Figure("`docker run` of `sleep 2`, p50", median(bare), "s"),
            Figure("`docker run` of `sleep 2`, p95", percentile(bare, 0.95), "s"),
            Figure("through the fabric, p50", median(whole), "s", note="from sending the submission to the job paid"),
            Figure("through the fabric, p95", percentile(whole, 0.95), "s"),
            Figure("added, p50", median(added), "s", limit=0.5, note="each over the bare run before it"),
            Figure("added, p95", percentile(added, 0.95), "s", limit=0.5),
            Figure("on the host, p50", median(host), "s", note="from the order in the journal to the receipt recorded"),
            Figure("on the host, p95", percentile(host, 0.95), "s"),
        ]
        stages = [Figure(name, median([journey.stages()[name] for journey in journeys]) * 1e3, "ms") for name in journeys[0].stages()]
        return figures, stages

    def orders(self) -> list[Figure]:
        """From a submission to the order in the journal of a host that waits for one."""
        journeys = [self._journey("true") for _ in range(ORDERS)]
        sent, row = _spans(journeys, "sent", "accepted"), _spans(journeys, "submitted", "accepted")
        return [
            Figure("submit to order, p50", median(sent) * 1e3, "ms", limit=50, note="from sending the submission to the host's journal"),
            Figure("submit to order, p95", percentile(sent, 0.95) * 1e3, "ms"),
            Figure("queued to order, p50", median(row) * 1e3, "ms", note="from writing the job's row, before the commit"),
            Figure("queued to order, p95", percentile(row, 0.95) * 1e3, "ms"),
            Figure("submission answered, p50", median(_spans(journeys, "sent", "answered")) * 1e3, "ms", note="to the client"),
        ]

    def memory(self) -> list[Figure]:
        """Of the host's worker with all that it started: waiting, and with both slots taken by runs with much output."""
        pid = self._running.process(self._host).pid
        self._host_waits()
        idle = memory_of(pid)
        with memory_peak(pid) as peak:
            jobs = [self._submit("sh", "-c", BUSY) for _ in range(2)]
            for job_id in jobs:
                self._completed(job_id)
        return [*_memory_figures("idle worker", idle), *_memory_figures("busy worker", peak[0])]

    def job_completed(self) -> str:
        """The id of a job that the host has just run."""
        self._host_waits()
        job_id = self._submit("true")
        self._completed(job_id)
        return job_id

    # --- one job ------------------------------------------------------------------------------------------------------

    def _journey(self, *command: str) -> Journey:
        self._host_waits()
        sent_at = datetime.now(UTC)
        job_id = self._submit(*command)
        answered_at = datetime.now(UTC)
        self._completed(job_id)
        self._host_waits()  # so that the journal knows the end
        return journey_read(
            job_id,
            sent_at=sent_at,
            answered_at=answered_at,
            database=self._database,
            journal=self._running.hosts[self._host].home / "journal.sqlite",
        )

    def _submit(self, *command: str) -> str:
        descriptor = {
            "schema_version": "1.0",
            "job_id": f"bench-{uuid.uuid4().hex[:12]}",
            "type": "benchmark",
            "docker_image": BASE_IMAGE,
            "estimated_flops": 3.6e12,
            "command": command,
            "limits": {
                "wall_seconds": LIMITS.wall_seconds,
                "memory_mb": LIMITS.memory_bytes // 10**6,
                "cpus": LIMITS.cpus,
                "pids": LIMITS.pids,
                "disk_mb": LIMITS.disk_bytes // 10**6,
                "output_mb": LIMITS.output_bytes // 10**6,
            },
            "verification": {"copies": 1, "quorum": 1},
        }
        return str(self._running.researcher.job_submit(descriptor)["id"])

    def _completed(self, job_id: str) -> None:
        """Asked of the database: asking the portal would be work for what is measured."""

        def state() -> str:
            row = self._database.execute("SELECT state FROM jobs_job WHERE id = %s", [job_id]).fetchone()
            return str(row[0]) if row else "unknown"

        wait_for(lambda: state() == "completed", limit_seconds=_LIMIT_SECONDS, what=lambda: self._running.evidence(job_id))

    def _host_waits(self) -> None:
        """Returns when the host owes nothing and its exchange waits for work."""
        open_leases = "SELECT count(*) FROM jobs_replica WHERE state IN ('queued', 'leased', 'running')"

        def is_waiting() -> bool:
            row = self._database.execute(open_leases).fetchone()
            return row is not None and row[0] == 0 and self._redis.pubsub_numsub(WAKE_CHANNEL)[0][1] == 1

        wait_for(is_waiting, limit_seconds=_LIMIT_SECONDS, what=lambda: f"{self._host} waiting for work")
        time.sleep(0.1)  # past the look that follows the subscription: what comes now comes by the wake


def _spans(journeys: Sequence[Journey], begin: str, end: str) -> list[float]:
    return [journey.seconds(begin, end) for journey in journeys]


def _memory_figures(name: str, memory: Memory) -> list[Figure]:
    processes = f"{memory.processes} process" + ("es" if memory.processes > 1 else "")
    return [
        Figure(f"{name}, resident", memory.rss / 1e6, "MB", limit=MEMORY_BYTES_MAX / 1e6, note=processes),
        Figure(f"{name}, proportional", memory.pss / 1e6, "MB", note="what is shared with others divided among them"),
    ]
