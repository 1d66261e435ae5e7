"""Receipts over HTTP: believed as far as they are proven, taken in once."""

from __future__ import annotations

import base64
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from jobs.models import Job, Receipt, Replica
from jobs.services.closing import job_fail
from jobs.services.leases import leases_reap
from jobs.states import JobState, ReplicaState
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import ARCHIVE, LOG, SimulatedHost, receipt_make
from tests.jobs.test_leases import silence
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.delivery import RECEIPT_ENVELOPE_BYTES_MAX, RECEIPTS_BYTES_MAX

OTHER_DIGEST = digest_of(b"other")
USAGE = {"wall_seconds": 1.0, "cpu_seconds": 1.0, "memory_peak_bytes": 1, "samples": 1}


def statement_of(envelope: dict[str, Any]) -> dict[str, Any]:
    """The statement in an envelope, as JSON."""
    statement: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return statement


def states(job: Job) -> tuple[str, list[str]]:
    job.refresh_from_db()
    return job.state, sorted(job.replicas.values_list("state", flat=True))


@pytest.mark.django_db
class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "status", "code"),
        [
            ({"order_digest": OTHER_DIGEST}, 422, "receipt_mismatch"),
            ({"replica_id": str(uuid.UUID(int=1))}, 422, "receipt_mismatch"),
            ({"node_key_id": OTHER_DIGEST}, 422, "receipt_mismatch"),
            ({"lease_id": str(uuid.UUID(int=1))}, 404, "lease_unknown"),
            ({"archive": {"digest": OTHER_DIGEST, "size_bytes": 1}}, 409, "receipt_blob_missing"),
            ({"archive": {"digest": digest_of(ARCHIVE), "size_bytes": 1}}, 409, "receipt_blob_missing"),
            ({"log": {"digest": OTHER_DIGEST, "size_bytes": 1, "head": OTHER_DIGEST, "lines": 1}}, 409, "receipt_blob_missing"),
            ({"finished_at": "2001-01-01T00:00:00Z"}, 400, "receipt_invalid"),
            ({"outcome": "perhaps"}, 400, "receipt_invalid"),
            ({"archive": None}, 400, "receipt_invalid"),
            ({"started_at": "not a time"}, 400, "receipt_invalid"),
            ({"usage": {**USAGE, "memory_peak_bytes": "9" * 400}}, 400, "receipt_invalid"),
            ({"usage": {**USAGE, "samples": str(2**53)}}, 400, "receipt_invalid"),
        ],
        ids=lambda one: str(one)[:80],
    )
    def test_a_receipt_that_says_something_else_has_its_own_code(self, changed: Any, status: int, code: str) -> None:
        job = queued_job()
        host = SimulatedHost()
        answer = host.report(host.order(), **changed)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not Receipt.objects.exists()
        assert states(job) == (JobState.RUNNING, [ReplicaState.LEASED])

    def test_another_nodes_receipt_is_not_taken_in_whoever_sends_it(self) -> None:
        queued_job(copies=2)
        host, other = SimulatedHost(), SimulatedHost()
        order = host.order()
        other_order = other.order()
        other.upload(other_order.lease_id, LOG)
        other.upload(other_order.lease_id, ARCHIVE)
        assert other.submit(host.receipt(order)).json()["code"] == "key_wrong"
        assert other.submit(other.receipt(order)).json()["code"] == "lease_unknown"
        # Bytes that another lease uploaded don't count.
        assert host.submit(host.receipt(order)).json()["code"] == "receipt_blob_missing"

    def test_envelopes_that_are_none_have_codes(self) -> None:
        queued_job()
        host = SimulatedHost()
        order = host.order()
        good = host.receipt(order)
        forged = receipt_make(order, PrivateKey.generate())
        assert host.submit({**good, "payload": "!"}).json()["code"] == "envelope_malformed"
        assert host.submit({}).json()["code"] == "envelope_malformed"
        assert host.submit({**good, "signatures": [{**good["signatures"][0], "sig": forged["signatures"][0]["sig"]}]}).json()["code"] == (
            "signature_invalid"
        )
        wrong_type = json.loads(envelope_sign(b"{}", PAYLOAD_TYPE_ORDER, host.key))
        assert host.submit(wrong_type).json()["code"] == "envelope_type_wrong"
        assert not Receipt.objects.exists()

    def test_bodies_are_read_carefully(self) -> None:
        host = SimulatedHost()
        for body, content_type, status, code in (
            (b"{", "application/json", 400, "json_malformed"),
            (b'{"protocol_version":1,"protocol_version":1}', "application/json", 400, "json_malformed"),
            (b'{"protocol_version":9}', "application/json", 400, "protocol_unsupported"),
            (b'{"protocol_version":1}', "application/json", 400, "message_invalid"),
            (b"{}", "text/plain", 415, "media_type_unsupported"),
            (b" " * (RECEIPTS_BYTES_MAX + 1), "application/json", 413, "body_too_large"),
        ):
            for path in ("/api/v1/receipts", "/api/v1/exchange"):
                answer = host.send("POST", path, body, **{"Content-Type": content_type})
                assert (answer.status_code, answer.json()["code"]) == (status, code), (path, body[:50])
        assert host.client.get("/api/v1/receipts").status_code == 405

    def test_an_envelope_may_be_as_large_as_a_leaf_can_hold_and_no_larger(self) -> None:
        host = SimulatedHost()
        empty = len(envelope_sign(b"", PAYLOAD_TYPE_STATEMENT, host.key))
        room = (RECEIPT_ENVELOPE_BYTES_MAX - empty) // 4 * 3
        at_limit, above = (json.loads(envelope_sign(bytes(room + more), PAYLOAD_TYPE_STATEMENT, host.key)) for more in (0, 3))
        assert host.submit(at_limit).json()["code"] == "statement_malformed"
        refused = host.submit(above).json()
        assert refused["code"] == "envelope_malformed"
        assert str(RECEIPT_ENVELOPE_BYTES_MAX) in refused["detail"]


@pytest.mark.django_db
class TestOnce:
    def test_the_same_again_gives_the_same_and_another_is_refused(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        order = host.order()
        first = host.report(order, finished_at="2100-01-01T00:00:00Z")
        assert host.submit(json.loads(bytes(Receipt.objects.get().envelope))).json() == first.json()
        other = host.report(order, finished_at="2100-01-01T00:00:01Z")
        assert (other.status_code, other.json()["code"]) == (409, "receipt_conflict")
        assert Receipt.objects.count() == 1
        assert job.events.filter(kind="replica.reported").count() == 1


def test_the_same_receipt_five_times_at_once_makes_one_row(own_database: str) -> None:
    job = queued_job()
    host = SimulatedHost()
    order = host.order()
    host.upload(order.lease_id, LOG)
    host.upload(order.lease_id, ARCHIVE)
    envelope = host.receipt(order)

    def submit(_: int) -> Any:
        try:
            return host.submit(envelope).json()
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(submit, range(5)))
    assert answers == [answers[0]] * 5
    assert answers[0]["status"] == "recorded"
    assert Receipt.objects.count() == 1
    assert job.events.filter(kind="replica.reported").count() == 1


@pytest.mark.django_db
class TestLate:
    def test_an_expired_lease_votes_while_the_job_is_open_and_its_substitute_is_withdrawn(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        order = host.order()
        leases_reap(now=silence(job.replicas.get()))
        assert states(job) == (JobState.QUEUED, [ReplicaState.EXPIRED, ReplicaState.QUEUED])
        assert host.report(order).json()["status"] == "recorded"
        assert states(job) == (JobState.VERIFYING, [ReplicaState.CANCELLED, ReplicaState.REPORTED])

    def test_an_owner_whose_later_lease_runs_keeps_one_vote(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        first = host.order()
        leases_reap(now=silence(job.replicas.get()))
        second = host.order()
        assert host.report(first).json()["status"] == "recorded"
        assert states(job) == (JobState.VERIFYING, [ReplicaState.CANCELLED, ReplicaState.REPORTED])
        refused = host.upload_create(second.lease_id, OTHER_DIGEST, 5)
        assert (refused.status_code, refused.json()["code"]) == (409, "lease_over")
        assert host.submit(host.receipt(second)).json()["status"] == "late"

    def test_an_expired_lease_after_the_owners_second_one_reported_is_late(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        first = host.order()
        leases_reap(now=silence(job.replicas.get()))
        assert host.report(host.order()).json()["status"] == "recorded"
        assert host.submit(host.receipt(first)).json()["status"] == "late"
        assert job.replicas.filter(state=ReplicaState.REPORTED).count() == 1

    def test_after_the_conclusion_it_is_kept_unpaid_and_needs_no_blobs(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        order = host.order()
        job.refresh_from_db()
        job_fail(job=job, code="test", message="over")
        answer = host.submit(host.receipt(order))
        assert (answer.status_code, answer.json()["status"]) == (200, "late")
        receipt = Receipt.objects.get()
        assert (receipt.late, receipt.archive, receipt.log) == (True, None, None)
        assert states(job) == (JobState.FAILED, [ReplicaState.CANCELLED])


@pytest.mark.django_db
class TestFailures:
    def test_a_hosts_fault_gives_the_job_to_another(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        assert host.report(host.order(), failure=("host_disk", "no space")).json()["status"] == "recorded"
        assert states(job) == (JobState.QUEUED, [ReplicaState.FAILED, ReplicaState.QUEUED])
        assert host.exchange().json()["no_work"]["code"] == "no_jobs_queued"
        assert SimulatedHost().order()

    def test_the_jobs_fault_ends_a_job_of_one_copy(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        host.report(host.order(), failure=("exit_nonzero", "exit code 3"))
        assert states(job) == (JobState.FAILED, [ReplicaState.FAILED])
        assert (job.failure_code, job.failure_message) == ("exit_nonzero", "exit code 3")

    @pytest.mark.parametrize("code", ["image_unavailable", "input_unavailable"])
    def test_what_one_host_cannot_fetch_needs_a_second_witness_even_of_one_copy(self, code: str) -> None:
        job = queued_job()
        first, second = SimulatedHost(), SimulatedHost()
        first.report(first.order(), failure=(code, "no answer"))
        assert states(job) == (JobState.QUEUED, [ReplicaState.FAILED, ReplicaState.QUEUED])
        second.report(second.order(), failure=(code, "no answer"))
        assert job_code(job) == (JobState.FAILED, code)

    def test_the_jobs_fault_needs_two_owners_where_copies_were_asked_for(self) -> None:
        job = queued_job(copies=2)
        first, second = SimulatedHost(), SimulatedHost()
        orders = first.order(), second.order()
        first.report(orders[0], failure=("limit_memory", "too much"))
        assert states(job) == (JobState.RUNNING, [ReplicaState.FAILED, ReplicaState.LEASED, ReplicaState.QUEUED])
        second.report(orders[1], failure=("limit_memory", "too much"))
        assert job_code(job) == (JobState.FAILED, "limit_memory")

    def test_a_failure_of_an_expired_lease_makes_no_second_substitute(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        order = host.order()
        leases_reap(now=silence(job.replicas.get()))
        host.report(order, failure=("host_stopped", "shut down"))
        assert states(job) == (JobState.QUEUED, [ReplicaState.FAILED, ReplicaState.QUEUED])

    def test_host_failures_use_up_attempts(self, settings: Any) -> None:
        settings.NEXA_ATTEMPTS_MAX = 2
        job = queued_job()
        for _ in range(2):
            host = SimulatedHost()
            host.report(host.order(), failure=("host_error", "broken"))
        assert job_code(job) == (JobState.FAILED, "attempts_exhausted")


def job_code(job: Job) -> tuple[str, str]:
    job.refresh_from_db()
    return job.state, job.failure_code


@pytest.mark.django_db
def test_a_job_of_two_copies_verifies_when_both_are_in() -> None:
    job = queued_job(copies=2)
    first, second = SimulatedHost(), SimulatedHost()
    orders = first.order(), second.order()
    first.report(orders[0])
    assert states(job) == (JobState.RUNNING, [ReplicaState.LEASED, ReplicaState.REPORTED])
    Replica.objects.filter(state=ReplicaState.REPORTED).update(verify_claimed_until=timezone.now())
    second.report(orders[1])
    assert states(job) == (JobState.VERIFYING, [ReplicaState.REPORTED, ReplicaState.REPORTED])
    assert not Replica.objects.exclude(verify_claimed_until=None).exists()
