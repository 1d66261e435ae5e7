"""The host's half of a job's life over HTTP, in one go."""

from __future__ import annotations

import pytest

from jobs.models import Receipt
from jobs.states import JobState, ReplicaState
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import ARCHIVE, SimulatedHost, body_of

pytestmark = pytest.mark.django_db


def test_order_input_upload_and_receipt_make_a_reported_replica() -> None:
    job = queued_job(inputs={"a/in.txt": b"hello"})
    host = SimulatedHost()

    order = host.order()
    assert order.node_key_id == host.node.key_id
    assert order.limits.cpus == 1
    [given] = order.inputs
    read = host.send("GET", given.url.removeprefix("http://testserver"))
    assert (read.status_code, body_of(read)) == (200, b"hello")

    reported = host.exchange(leases=[{"lease_id": str(order.lease_id), "stage": "running", "elapsed_seconds": 1, "progress": 0.5}])
    assert [one["lease_id"] for one in reported.json()["renewed"]] == [str(order.lease_id)]
    replica = job.replicas.get()
    assert replica.state == ReplicaState.RUNNING
    assert replica.progress is not None
    assert replica.progress["progress"] == 0.5

    answer = host.report(order)
    assert (answer.status_code, answer.json()["status"]) == (200, "recorded")
    replica.refresh_from_db()
    job.refresh_from_db()
    assert (replica.state, job.state) == (ReplicaState.REPORTED, JobState.VERIFYING)
    receipt = Receipt.objects.get()
    assert receipt.archive is not None
    assert receipt.archive.size_bytes == len(ARCHIVE)
