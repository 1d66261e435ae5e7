"""What comes in by the thousand: processor time of this process for jobs of an array and for receipts of a batch; PostgreSQL's is apart.

`python -m benchmarks.intake`: with a PostgreSQL and a Redis of its own, in the process itself, through the whole Django stack. `--profile`
prints where the time goes.
"""

from __future__ import annotations

import argparse
import base64
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.figures import Figure, figures_print, median
from nexaportal.embedded import EmbeddedServices

ARRAYS: Final = 5
ARRAY_JOBS: Final = 1000
BATCHES: Final = 10
BATCH_RECEIPTS: Final = 100

Measured = Callable[[Callable[[], Any]], float]
"""Calls a function and returns the processor seconds that this process used meanwhile."""


def intake_figures(measured: Measured) -> list[Figure]:
    """Django is set up, and its database empty. Arrays of small jobs, and the receipts of some of them with their blobs along."""
    from tests.factories.jobs import credits_grant, funded_researcher_make
    from tests.factories.people import token_header
    from tests.jobs.gateway.simulated_host import SimulatedHost

    owner = funded_researcher_make()
    credits_grant(owner, 10**12)
    client_headers = token_header(owner)
    arrays = [_array(number) for number in range(ARRAYS + 1)]
    _submit(arrays.pop(), client_headers)  # warm
    submission = [measured(lambda body=body: _submit(body, client_headers)) for body in arrays]  # type: ignore[misc]  # bound at once
    host = SimulatedHost()
    batches = [_batch(host) for _ in range(BATCHES + 1)]
    _report(host, batches.pop())
    receipts = [measured(lambda batch=batch: _report(host, batch)) for batch in batches]  # type: ignore[misc]  # as above
    jobs, reports = median(submission) / ARRAY_JOBS * 1e3, median(receipts) / BATCH_RECEIPTS * 1e3
    return [
        Figure(f"a job, in arrays of {ARRAY_JOBS:,}", jobs, "cpu-ms", 0.5),
        Figure(f"a receipt with log and archive, in batches of {BATCH_RECEIPTS}", reports, "cpu-ms", 0.8, "Ed25519 included"),
    ]


def _array(number: int) -> bytes:
    from tests.factories.jobs import descriptor_make

    template = descriptor_make(command=["run", "--index"])
    del template["job_id"]
    items = [{"job_id": f"array-{number}-{index:04}", "arguments": [str(index)]} for index in range(ARRAY_JOBS)]
    return json.dumps({"template": template, "items": items}).encode()


def _submit(body: bytes, headers: dict[str, str]) -> None:
    from django.test import Client

    answer = Client().post("/api/v1/jobs/array", body, content_type="application/json", headers=headers)
    if answer.status_code != 201:
        raise RuntimeError(f"expected a new array; found {answer.status_code} {answer.content[:500]!r}")


def _batch(host: Any) -> Any:
    """A signed request with the receipts of as many new leases: as a host makes it, and not measured."""
    from tests.factories.nodes import signed_headers
    from tests.factories.receipts import archive_make, log_make
    from tests.jobs.gateway.simulated_host import order_open, receipt_make
    from workers.protocol.canonical import canonical_json
    from workers.protocol.digests import digest_of

    leases = host.exchange(slots=BATCH_RECEIPTS, cpus=1000.0, memory_bytes=2**50, disk_bytes=2**50).json()["orders"]
    receipts = []
    for order in map(order_open, leases):
        archive, info = archive_make({"result.json": str(order.lease_id).encode()})
        log, reference = log_make(digest_of(canonical_json(order.model_dump(mode="json"))))
        envelope = receipt_make(
            order,
            host.key,
            result_digest=info.result_digest,
            archive={"digest": info.digest, "size_bytes": info.size_bytes},
            log=reference.model_dump(mode="json"),
        )
        receipts.append({"envelope": envelope, "log": base64.b64encode(log).decode(), "archive": base64.b64encode(archive).decode()})
    if len(receipts) != BATCH_RECEIPTS:
        raise RuntimeError(f"expected {BATCH_RECEIPTS} orders; found {len(receipts)}")
    body = json.dumps({"protocol_version": 1, "receipts": receipts}).encode()
    return body, signed_headers(host.key, "POST", "/api/v1/receipts", body)


def _report(host: Any, batch: Any) -> None:
    body, headers = batch
    answer = host.client.post("/api/v1/receipts", data=body, content_type="application/json", headers=headers)
    if answer.status_code != 200 or any(each["problem"] for each in answer.json()["results"]):
        raise RuntimeError(f"expected every receipt to be recorded; found {answer.status_code} {answer.content[:500]!r}")


@contextmanager
def django_ready(services: EmbeddedServices, folder: Path) -> Iterator[None]:
    """Django set up as the tests have it, with its tables made."""
    key_file = folder / "coordinator.key"
    key_file.write_bytes(base64.b64encode(bytes(range(32))))
    key_file.chmod(0o600)
    os.environ.update(
        {
            "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
            "NEXA_ROLE": "server",
            "NEXA_SECRET_KEY": "a benchmark's",
            "NEXA_ORIGIN": "http://testserver",
            "NEXA_DATABASE_URL": services.postgres_dsn,
            "NEXA_REDIS_URL": services.redis_url,
            "NEXA_BROKER_URL": services.redis.celery_url(),
            "NEXA_COORDINATOR_KEY_FILE": str(key_file),
            "NEXA_BLOB_ROOT": str(folder / "blobs"),
            "NEXA_STATIC_ROOT": str(folder),
        }
    )
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    try:
        yield
    finally:
        connections.close_all()


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a figure is above what it may be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print where the time goes; the figures are larger then")
    options = parser.parse_args(argv)
    profile = cProfile.Profile(time.process_time) if options.profile else None

    def measured(function: Callable[[], Any]) -> float:
        began = time.process_time()
        if profile:
            profile.runcall(function)
        else:
            function()
        return time.process_time() - began

    services = EmbeddedServices.in_temporary_root(durable=True)
    services.start()
    try:
        with tempfile.TemporaryDirectory(prefix="nexapod-intake-") as folder, django_ready(services, Path(folder)):
            figures = intake_figures(measured)
    finally:
        services.stop()
    figures_print("Intake", figures, console=Console(width=None if sys.stdout.isatty() else 140))
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
