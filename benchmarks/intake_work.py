"""The work of benchmarks/intake.py, in a process in which Django is set up on an empty database."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any, Final

from django.test import Client

from benchmarks.figures import Figure, median
from tests.factories.jobs import credits_grant, descriptor_make, funded_researcher_make
from tests.factories.nodes import signed_headers
from tests.factories.people import token_header
from tests.factories.receipts import archive_make, log_make
from tests.jobs.gateway.simulated_host import SimulatedHost, order_open, receipt_make
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey

ARRAYS: Final = 5
ARRAY_JOBS: Final = 1000
BATCHES: Final = 10
BATCH_RECEIPTS: Final = 100

Measured = Callable[[Callable[[], Any]], float]
"""Calls a function and returns the processor seconds that this process used meanwhile."""


def intake_figures(measured: Measured) -> list[Figure]:
    """Arrays of small jobs, and the receipts of some of them with their blobs along."""

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
        Figure("an Ed25519 signature checked, meanwhile", _verify_seconds() * 1e3, "cpu-ms"),
    ]


def _array(number: int) -> bytes:

    template = descriptor_make(command=["run", "--index"])
    del template["job_id"]
    items = [{"job_id": f"array-{number}-{index:04}", "arguments": [str(index)]} for index in range(ARRAY_JOBS)]
    return json.dumps({"template": template, "items": items}).encode()


def _submit(body: bytes, headers: dict[str, str]) -> None:

    answer = Client().post("/api/v1/jobs/array", body, content_type="application/json", headers=headers)
    if answer.status_code != 201:
        raise RuntimeError(f"expected a new array; found {answer.status_code} {answer.content[:500]!r}")


def _batch(host: SimulatedHost) -> Any:
    """A signed request with the receipts of as many new leases: as a host makes it, and not measured."""

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


def _report(host: SimulatedHost, batch: Any) -> None:
    body, headers = batch
    answer = host.client.post("/api/v1/receipts", data=body, content_type="application/json", headers=headers)
    if answer.status_code != 200 or any(each["problem"] for each in answer.json()["results"]):
        raise RuntimeError(f"expected every receipt to be recorded; found {answer.status_code} {answer.content[:500]!r}")


def _verify_seconds() -> float:
    """Of one signature, now: how fast the machine is at the moment."""
    key, message = PrivateKey.generate(), bytes(2000)
    signature = key.sign(message)
    began = time.process_time()
    for _ in range(1000):
        key.public.verify(signature, message)
    return (time.process_time() - began) / 1000
