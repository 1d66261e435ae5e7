"""The life cycle of empty jobs, from array submission to credits, against plain Celery tasks that do nothing, on the same Redis.

The coordinator's processes are those of `make up`, with commits that wait for the disk. Hosts are simulated, and run no containers
(benchmarks/simulated_hosts.py): signed exchanges and receipts over HTTP. Everything, the load included, shares the machine's cores.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg

from benchmarks.cpu import CpuMeter
from benchmarks.figures import Figure
from benchmarks.noop_app import QUEUE
from devstack.stack import CHECKOUT, SERVER_BIN
from nexaportal.embedded import die_with_parent
from tests.acceptance.running_stack import BASE_IMAGE, RunningStack
from workers.portal import PortalClient
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.messages.machine import EngineProfile, NodeProfile
from workers.protocol.version import SOFTWARE_VERSION

JOBS: Final = 5000
WARM_UP_JOBS: Final = 500
ARRAY: Final = 1000
HOSTS: Final = 8
SLOTS: Final = 64
BACKLOG: Final = 200_000
RATIO_MIN: Final = 0.5
BACKLOG_LOSS_MAX: Final = 0.2
_LIMIT_SECONDS: Final = 180.0
_PAYMENTS: Final = "SELECT entries FROM ledger_entrytotal WHERE kind = 'payment'"
"""Counted by the ledger itself: asking costs the database nothing that would be measured."""
_SERVER: Final = ("web", "control", "verify", "conclude")

OWNERS: Final = tuple(f"simulated{number}" for number in range(HOSTS))


def lifecycle_figures(running: RunningStack, *, backlog: int = BACKLOG) -> list[Figure]:
    """`running`: a stack with OWNERS as contributors and without hosts, which is used up by this. `backlog` 0 leaves that part out.

    Plain tasks run before and after: a machine that is shared changes its speed by the minute.
    """
    before = noop_rate(running, JOBS)
    with _hosts_running(running) as hosts:
        _cycle(running, hosts, WARM_UP_JOBS)
        meter = CpuMeter(_groups(running, hosts))
        seconds = _cycle(running, hosts, JOBS)
        used = meter.used()
    noops = (before + noop_rate(running, JOBS)) / 2
    rate = JOBS / seconds
    figures = [
        Figure("plain Celery tasks that do nothing, published and run, before and after", noops, "/s"),
        Figure(f"{JOBS:,} empty jobs: submitted, run, verified, paid", rate, "jobs/s"),
        Figure("jobs over plain tasks", rate / noops, "", at_least=RATIO_MIN),
        *(Figure(f"CPU of {name}", spent / JOBS * 1e3, "ms/job") for name, spent in used.items()),
        Figure("CPU of the coordinator (without the simulated hosts)", (sum(used.values()) - used["hosts"]) / JOBS * 1e3, "ms/job"),
    ]
    if backlog:
        for start in range(0, backlog, ARRAY):
            _array_submit(running, min(ARRAY, backlog - start))
        with _hosts_running(running) as hosts:
            _cycle(running, hosts, WARM_UP_JOBS)
            seconds = _cycle(running, hosts, JOBS)
        figures += [
            Figure(f"the same with {backlog:,} jobs queued before", JOBS / seconds, "jobs/s"),
            Figure("loss by the backlog", 1 - JOBS / seconds / rate, "", limit=BACKLOG_LOSS_MAX),
        ]
    return figures


def noop_rate(running: RunningStack, count: int) -> float:
    """Tasks a second, from before the first is published until the last has been run, by two worker processes."""
    url = running.services.redis.celery_url(database=1)
    environment = {**os.environ, "NEXA_BENCH_BROKER_URL": url}
    argv = [str(SERVER_BIN / "celery"), "-A", "benchmarks.noop_app", "worker", "-Q", QUEUE, "--concurrency=2", "--pool=prefork"]
    argv += ["--loglevel=ERROR", "--without-mingle", "--without-gossip", "--without-heartbeat"]
    with _process(argv, environment):
        _noops_run(environment, WARM_UP_JOBS, before=0)
        seconds = _noops_run(environment, count, before=WARM_UP_JOBS)
    return count / seconds


def _noops_run(environment: dict[str, str], count: int, *, before: int) -> float:
    """Seconds until the workers have run `count` tasks besides those `before`."""
    script = (
        "import sys, time\n"
        "from benchmarks.noop_app import app, noop\n"
        "began, wanted = time.monotonic(), int(sys.argv[1]) + int(sys.argv[2])\n"
        "for _ in range(int(sys.argv[1])): noop.apply_async()\n"
        "ran = 0\n"
        "while ran < wanted and time.monotonic() - began < 120:\n"
        "    stats = app.control.inspect(timeout=2, limit=1).stats() or {}\n"
        "    ran = sum(one['total'].get('noop', 0) for one in stats.values())\n"
        "    time.sleep(0.1)\n"
        "print(time.monotonic() - began, ran)\n"
    )
    argv = [sys.executable, "-c", script, str(count), str(before)]
    done = subprocess.run(argv, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    seconds, ran = done.stdout.split()
    if int(ran) != count + before:
        raise RuntimeError(f"expected {count + before} plain tasks to have run; found {ran}")
    return float(seconds)


def _cycle(running: RunningStack, hosts: subprocess.Popen[bytes], count: int) -> float:
    """Seconds from before the first array is sent until `count` more payments are in the ledger."""
    with psycopg.connect(running.services.postgres_dsn, autocommit=True) as database:
        before = _number(database, _PAYMENTS)
        began = time.monotonic()
        for start in range(0, count, ARRAY):
            _array_submit(running, min(ARRAY, count - start))
        while (paid := _number(database, _PAYMENTS) - before) < count:
            if hosts.poll() is not None or time.monotonic() - began > _LIMIT_SECONDS:
                tails = "\n".join(running.process(name).log_tail() for name in _SERVER)
                raise RuntimeError(f"expected {count} payments within {_LIMIT_SECONDS:g} s; found {paid}\n{tails}")
            time.sleep(0.1)
        return time.monotonic() - began


def _number(database: psycopg.Connection[Any], query: LiteralString) -> int:
    row = database.execute(query).fetchone()
    return int(row[0]) if row else 0


def _array_submit(running: RunningStack, count: int) -> None:
    """As many jobs that do nothing, in one request."""
    template = {
        "schema_version": "1.0",
        "type": "benchmark.empty",
        "docker_image": BASE_IMAGE,
        "command": ["true"],
        "estimated_flops": 3.6e9,
        "limits": {"memory_mb": 64, "disk_mb": 16, "output_mb": 1},
    }
    name = uuid.uuid4().hex[:12]
    running.researcher.jobs_submit(template, [{"job_id": f"empty-{name}-{number}"} for number in range(count)])


@contextmanager
def _hosts_running(running: RunningStack) -> Iterator[subprocess.Popen[bytes]]:
    """HOSTS simulated hosts, each of an owner of its own, in one process."""
    keys = [_node_register(running, owner) for owner in OWNERS]
    path = running.folder / "simulated-hosts.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"origin": running.stack.origin, "slots": SLOTS, "keys": keys}, file)
    with _process([sys.executable, "-m", "benchmarks.simulated_hosts", str(path)], dict(os.environ)) as process:
        yield process


def _node_register(running: RunningStack, owner: str) -> str:
    """A new node of this owner; its private key in base64."""
    key = PrivateKey.generate()
    client = PortalClient(running.stack.origin, key)
    engine = EngineProfile(name="simulated", version="1", cgroup_version="2", rootless=False)
    client.register(
        RegistrationRequest(
            protocol_version=PROTOCOL_VERSION,
            join_token=join_token_decode(running.contributors[owner].join_token_mint()).secret,
            name=f"{owner}-{uuid.uuid4().hex[:8]}",
            public_key=key.public.to_base64(),
            profile=NodeProfile(
                os="simulated",
                architecture="x86_64",
                cpu_model="simulated",
                cores=1024,
                memory_bytes=2**42,
                disk_free_bytes=2**50,
                gpus=(),
                engine=engine,
                benchmark_gflops=10,
                software_version=SOFTWARE_VERSION,
            ),
        )
    )
    client.close()
    return base64.b64encode(key.raw).decode()


def _groups(running: RunningStack, hosts: subprocess.Popen[bytes]) -> dict[str, list[int]]:
    services = {"PostgreSQL": running.services.postgres_pid, "Redis": running.services.redis_pid}
    return {
        **{name: [running.process(name).pid] for name in _SERVER},
        **{name: [pid] for name, pid in services.items() if pid is not None},
        "hosts": [hosts.pid],
    }


@contextmanager
def _process(argv: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    process = subprocess.Popen(argv, env=environment, cwd=CHECKOUT, preexec_fn=die_with_parent(15))  # noqa: PLW1509  as everywhere here
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
