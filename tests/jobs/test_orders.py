"""Work orders: what one tells a host, what it must never tell, and that it is the coordinator's."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from jobs.blobs import blob_write
from jobs.models import Job, JobInput, Replica
from jobs.orders import order_build, order_sign
from ledger.coordinator_key import coordinator_public_key
from tests.factories.jobs import IMAGE_ID, funded_researcher_make, image_approve, job_make
from workers.orders import order_open
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_open
from workers.protocol.errors import EnvelopeTypeWrongError, KeyWrongError, SignatureInvalidError
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import Limits, Order

pytestmark = pytest.mark.django_db

ORIGIN = "https://portal.example"
NODE_KEY_ID = digest_of(b"the node's key")
MB = 10**6
LEASE_ID = uuid.UUID(int=7)
MEMBERS = {
    "order_version",
    "replica_id",
    "lease_id",
    "node_key_id",
    "origin",
    "issued_at",
    "deadline_at",
    "tier",
    "job_type",
    "credit_rate_micro",
    "image",
    "command",
    "environment",
    "inputs",
    "outputs",
    "limits",
}


def order_of(job: Job, replica: Replica | None = None, **changed: Any) -> Order:
    """The order for a replica of `job`, by default its first."""
    values: dict[str, Any] = {
        "replica": replica or job.replicas.order_by("created_at")[0],
        "job": job,
        "inputs": list(job.inputs.select_related("blob").order_by("path")),
        "lease_id": LEASE_ID,
        "node_key_id": NODE_KEY_ID,
        "now": timezone.now(),
    }
    with override_settings(NEXA_ORIGIN=ORIGIN):
        return order_build(**{**values, **changed})


def words_of(order: Order) -> str:
    """Everything that a host reads."""
    return canonical_json(order.model_dump(mode="json")).decode()


def test_an_order_says_what_to_run_and_for_whom() -> None:
    job = job_make(
        command=["python3", "/opt/sum.py"],
        arguments=["--fast"],
        environment={"OMP_NUM_THREADS": "1"},
        outputs=[{"path": "sum.json", "media_type": "application/json"}, {"path": "notes.txt", "required": False}],
    )
    replica = job.replicas.order_by("created_at")[0]
    order = order_of(job, replica)
    assert (order.replica_id, order.lease_id, order.node_key_id, order.origin) == (replica.pk, LEASE_ID, NODE_KEY_ID, ORIGIN)
    assert (order.tier, order.job_type) == (Tier.CPU, "test")
    assert (order.image.name, order.image.pull, order.image.image_id) == (job.image["name"], None, IMAGE_ID)
    assert order.command == ("python3", "/opt/sum.py", "--fast")
    assert order.environment == {"OMP_NUM_THREADS": "1"}
    assert [(output.path, output.required) for output in order.outputs] == [("sum.json", True), ("notes.txt", False)]


def test_without_a_command_the_image_decides() -> None:
    assert order_of(job_make()).command == ()


@pytest.mark.parametrize("copies", [2, 5])
def test_an_order_tells_neither_the_job_nor_that_others_run_it(copies: int) -> None:
    owner = funded_researcher_make("a-telling-name")
    job = job_make(
        owner,
        job_id="a-telling-label",
        title="A telling title",
        credit_rate=7.125,
        verification={"copies": copies, "quorum": 2, "method": "exact"},
    )
    replicas = list(job.replicas.order_by("created_at"))
    assert len(replicas) == copies
    order = order_of(job, replicas[0])
    told = words_of(order)
    assert set(json.loads(told)) == MEMBERS
    assert order.credit_rate_micro == 7_125_000  # a contributor may ask for a least rate, and the host checks it
    for secret in (job.pk, owner.username, job.label, "A telling title", job.descriptor_digest, *(one.pk for one in replicas[1:])):
        assert str(secret) not in told, secret
    for word in ("copies", "quorum", "verification", "method", "priority", "seed", "owner"):
        assert word not in told, word


def test_orders_of_two_replicas_differ_in_what_is_the_hosts_own_and_in_nothing_else() -> None:
    job, now = job_make(verification={"copies": 2, "quorum": 2, "method": "exact"}), timezone.now()
    first, second = (
        order_of(job, replica, lease_id=uuid.uuid4(), node_key_id=digest_of(str(number).encode()), now=now)
        for number, replica in enumerate(job.replicas.all())
    )
    different = {name for name in MEMBERS if getattr(first, name) != getattr(second, name)}
    assert different == {"replica_id", "lease_id", "node_key_id"}


def test_the_deadline_is_the_wall_limit_and_the_grace_from_now_however_long_the_job_waited() -> None:
    job = job_make(limits={"wall_seconds": 50})
    Job.objects.filter(pk=job.pk).update(submitted_at=timezone.now() - timedelta(days=300))
    job.refresh_from_db()
    now = timezone.now() + timedelta(days=20)
    with override_settings(NEXA_DEADLINE_GRACE_SECONDS=30):
        order = order_of(job, now=now)
    assert (order.issued_at, order.deadline_at) == (now, now + timedelta(seconds=80))


def test_inputs_come_from_this_portal_by_digest_in_the_order_given() -> None:
    job = job_make()
    for path, data in (("b.txt", b"second"), ("a/first.txt", b"first")):
        JobInput.objects.create(job=job, path=path, blob=blob_write(io.BytesIO(data)))
    order = order_of(job)
    assert [(one.path, one.digest, one.size_bytes) for one in order.inputs] == [
        ("a/first.txt", digest_of(b"first"), 5),
        ("b.txt", digest_of(b"second"), 6),
    ]
    assert {one.url.removesuffix(one.digest) for one in order.inputs} == {f"{ORIGIN}/api/v1/blobs/"}


def test_where_an_input_was_fetched_from_is_not_told() -> None:
    job = job_make()
    document = {**job.descriptor, "input_uri": "https://data.example/secret-share/", "input_files": ["x"]}
    job.descriptor = document
    JobInput.objects.create(job=job, path="x", blob=blob_write(io.BytesIO(b"x")))
    assert "data.example" not in words_of(order_of(job))


def test_limits_left_out_are_filled_in_and_those_given_are_kept() -> None:
    assert order_of(job_make()).limits == Limits(
        wall_seconds=3600, memory_bytes=2048 * MB, cpus=1, pids=512, disk_bytes=4096 * MB, output_bytes=1024 * MB
    )
    given = {"wall_seconds": 9, "memory_mb": 64, "cpus": 0.5, "pids": 8, "disk_mb": 32, "output_mb": 16}
    assert order_of(job_make(limits=given)).limits == Limits(
        wall_seconds=9, memory_bytes=64 * MB, cpus=0.5, pids=8, disk_bytes=32 * MB, output_bytes=16 * MB
    )


def test_an_image_of_a_registry_is_named_by_its_digest() -> None:
    pull = "registry.example/pinned@sha256:" + "5" * 64
    image_approve("registry.example/pinned:2", pull=pull, image_id="")
    order = order_of(job_make(docker_image="registry.example/pinned:2"))
    assert (order.image.name, order.image.pull, order.image.image_id) == ("registry.example/pinned:2", pull, None)


def test_a_signed_order_is_the_coordinators_to_the_byte() -> None:
    order = order_of(job_make())
    envelope, digest = order_sign(order)
    assert order_sign(order) == (envelope, digest)
    assert canonical_json(json_parse(envelope, limit_bytes=2**20)) == envelope
    payload = envelope_open(envelope, payload_type=PAYLOAD_TYPE_ORDER, key=coordinator_public_key())
    assert (digest_of(payload), payload) == (digest, words_of(order).encode())
    opened = order_open(envelope, coordinator=coordinator_public_key())  # as a host reads it
    assert (opened.order, opened.digest) == (order, digest)


def test_a_signed_order_passes_for_nothing_else() -> None:
    envelope, _ = order_sign(order_of(job_make()))
    key = coordinator_public_key()
    with pytest.raises(KeyWrongError):
        order_open(envelope, coordinator=PrivateKey.generate().public)
    with pytest.raises(EnvelopeTypeWrongError):
        envelope_open(envelope, payload_type=PAYLOAD_TYPE_STATEMENT, key=key)
    other, _ = order_sign(order_of(job_make(limits={"wall_seconds": 9})))
    swapped = {**json.loads(envelope), "payload": json.loads(other)["payload"]}
    with pytest.raises(SignatureInvalidError):
        order_open(swapped, coordinator=key)
