"""Leases, receipts, verification, pay and bundles of a node that replaced its key in between."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Final

import pytest
from django.utils import timezone

from client.verification import bundle_verify
from jobs.models import Evidence, Job
from jobs.services.leases import leases_claim
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import coordinator_public_key
from ledger.models import Entry
from nodes.authentication import SignedBy
from nodes.models import Node, NodeKey
from nodes.rotation import node_key_rotate
from tests.factories.bundles import bundle_bytes
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import ORIGIN, node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_report
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost, receipt_make
from workers.protocol.key_rotation import KeyRotation, rotation_prove
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.exchange import FreeResources, Wishes
from workers.protocol.messages.joining import KeyRotationRequest
from workers.protocol.messages.machine import Tier

pytestmark = pytest.mark.django_db

FREE: Final = FreeResources(slots=1, cpus=8, memory_bytes=2**35, disk_bytes=2**35)


def rotate(node: Node, old: PrivateKey) -> PrivateKey:
    new = PrivateKey.generate()
    rotation = KeyRotation(origin=ORIGIN, node_id=node.pk, old_key_id=old.public.key_id)
    message = KeyRotationRequest(protocol_version=1, public_key=new.public.to_base64(), proof=rotation_prove(rotation, new_key=new))
    signer = SignedBy(node, NodeKey.objects.get(pk=old.public.key_id), 0)
    node_key_rotate(signer=signer, message=message)
    node.refresh_from_db()
    return new


def problem_check(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content


def test_an_exchange_of_the_old_key_that_still_waits_takes_nothing() -> None:
    host = SimulatedHost()
    waiting = Node.objects.get(pk=host.node.pk)  # as its exchange read it before the rotation
    rotate(host.node, host.key)
    job = queued_job()
    taken = leases_claim(node=waiting, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=timezone.now())
    assert (taken, job.replicas.get().state) == ([], "queued")


class TestReceipts:
    def test_a_lease_of_the_old_key_is_reported_under_the_new_one(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        order, old = host.order(), host.key
        host.key = rotate(host.node, old)
        receipt = receipt_make(order, old, failure=("exit_nonzero", "It broke."))
        host.upload(order.lease_id, b'{"seq":0}\n')
        assert host.submit(receipt).json()["status"] == "recorded"
        assert host.submit(receipt).status_code == 200
        replica = job.replicas.get(lease_id=order.lease_id)
        assert (replica.state, replica.node_key_id) == ("failed", old.public.key_id)

    def test_the_new_key_signs_no_receipt_of_the_old_ones_lease(self) -> None:
        queued_job()
        host = SimulatedHost()
        order = host.order()
        host.key = rotate(host.node, host.key)
        problem_check(host.submit(receipt_make(order, host.key, failure=("exit_nonzero", "x"))), 422, "receipt_mismatch")

    def test_the_old_key_hands_nothing_in(self) -> None:
        queued_job()
        host = SimulatedHost()
        order = host.order()
        rotate(host.node, host.key)
        problem_check(host.submit(receipt_make(order, host.key, failure=("exit_nonzero", "x"))), 403, "key_retired")
        problem_check(host.exchange(), 403, "key_retired")
        problem_check(host.send("POST", "/api/v1/nodes/self/leave"), 403, "key_retired")

    def test_a_lease_of_the_new_key_is_not_reported_by_the_old_one(self) -> None:
        queued_job()
        host = SimulatedHost()
        old = host.key
        host.key = rotate(host.node, old)
        order = host.order()
        receipt = receipt_make(order, old, failure=("exit_nonzero", "x"), node_key_id=host.key.public.key_id)
        problem_check(host.submit(receipt), 422, "receipt_mismatch")
        problem_check(host.submit(receipt_make(order, old, failure=("exit_nonzero", "x"))), 422, "receipt_mismatch")

    def test_a_stranger_signs_no_receipt(self) -> None:
        queued_job()
        host = SimulatedHost()
        order = host.order()
        problem_check(host.submit(receipt_make(order, PrivateKey.generate(), failure=("exit_nonzero", "x"))), 401, "key_wrong")


@pytest.mark.parametrize("when", ["reported", "checked", "settled"])
def test_a_result_is_verified_paid_and_bundled_under_the_key_that_took_it(tmp_path: Path, when: str) -> None:
    job = job_make(verification={"copies": 1, "quorum": 1})
    node, old = node_make(user_make())
    replica_report(job, node=node, key=old)
    if when == "reported":
        rotate(node, old)
    job_check(job_id=job.pk)
    if when == "checked":
        rotate(node, old)
    job_settle(job_id=job.pk)
    if when == "settled":
        rotate(node, old)
    assert Evidence.objects.get(check_name="signature").detail["key"] == old.public.key_id
    assert Job.objects.get(pk=job.pk).state == "completed"
    [payment] = Entry.objects.filter(kind="payment")
    assert payment.evidence["node_key"] == old.public.key_id
    checkpoint_publish()
    path = tmp_path / "b.zip"
    path.write_bytes(bundle_bytes(Job.objects.get(pk=job.pk)))
    [replica] = bundle_verify(path, coordinator_key_id=coordinator_public_key().key_id).replicas
    assert replica.node_key_id == old.public.key_id
    assert replica.paid_micro is not None
