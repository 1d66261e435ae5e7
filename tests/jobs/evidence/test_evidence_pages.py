"""Evidence for the owner after the conclusion: files, usage and log; hidden before, and from everybody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.evidence.files import EvidenceName
from jobs.models import Evidence, Job, Replica
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import coordinator_public_key
from ledger.epochs import epoch_begin
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make, user_make
from tests.factories.receipts import replica_report
from tests.jobs.gateway.simulated_host import body_of
from tests.jobs.test_views import HOSTILE, TWO, completed_job, page_of, signed_in
from workers.protocol.compute_log import LogWriter
from workers.protocol.digests import digest_of
from workers.protocol.merkle import inclusion_verify, leaf_hash
from workers.protocol.signed_note import note_open
from workers.protocol.strict_base64 import base64_decode

pytestmark = pytest.mark.django_db
NAMES = [name.value for name in EvidenceName]


def address(replica: Replica, name: str) -> str:
    return f"/jobs/{replica.job_id}/replicas/{replica.pk}/{name}"


def content(client: Client, replica: Replica, name: str) -> bytes:
    response: Any = client.get(address(replica, name))
    assert response.status_code == 200, name
    return bytes(body_of(response))


def test_evidence_is_given_byte_for_byte_as_a_download() -> None:
    job = completed_job()
    checkpoint_publish()
    replica = job.replicas.select_related("receipt").first()
    assert replica is not None
    client = signed_in(job.owner)
    assert content(client, replica, "order.json") == bytes(replica.order_envelope or b"")
    assert content(client, replica, "receipt.json") == bytes(replica.receipt.envelope)
    assert digest_of(content(client, replica, "log.jsonl")) == replica.receipt.log_id
    for name in NAMES:
        response = client.get(address(replica, name))
        assert response.headers["Content-Disposition"] == f'attachment; filename="{replica.pk}.{name}"'
        assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        body_of(response)


def test_the_proof_holds_for_receipt_and_payment() -> None:
    job = completed_job()
    checkpoint_publish()
    replica = job.replicas.first()
    assert replica is not None
    document = json.loads(content(signed_in(job.owner), replica, "proof.json"))
    assert {leaf["kind"] for leaf in document["leaves"]} == {"receipt", "payment"}
    _, size, root = document["checkpoint"].splitlines()[:3]
    for leaf in document["leaves"]:
        assert leaf_hash(base64_decode(leaf["leaf"])) == base64_decode(leaf["leaf_hash"])
        inclusion_verify(
            index=leaf["index"],
            size=int(size),
            hash_of_leaf=base64_decode(leaf["leaf_hash"]),
            proof=[base64_decode(node) for node in leaf["proof"]],
            root=base64_decode(root),
        )


def test_the_proof_names_the_log_of_its_checkpoint_while_an_epoch_begins() -> None:
    job = completed_job()
    checkpoint_publish()
    replica = job.replicas.first()
    assert replica is not None
    epoch_begin(reason="a restore")
    for _ in range(2):
        document = json.loads(content(signed_in(job.owner), replica, "proof.json"))
        note_open(document["checkpoint"].encode(), name=document["origin"], key=coordinator_public_key())
        assert document["checkpoint"].splitlines()[0] == document["origin"]
        checkpoint_publish()


def test_nothing_is_to_be_had_before_the_conclusion() -> None:
    job = job_make(verification=TWO)
    replica = replica_report(job)
    client = signed_in(job.owner)
    assert [client.get(address(replica, name)).status_code for name in NAMES] == [404] * 4
    assert client.get(f"/jobs/{job.pk}/runs/").status_code == 404
    text = page_of(job)
    assert "whoever read the output of one while another still runs could copy it" in text
    assert "log.jsonl" not in text


def test_what_was_never_judged_is_never_given() -> None:
    job = job_make(verification=TWO)
    replica = replica_report(job)
    job.refresh_from_db()
    job_cancel(job=job)
    client = signed_in(job.owner)
    assert [client.get(address(replica, name)).status_code for name in NAMES] == [200, 404, 404, 404]
    assert client.get(f"/jobs/{job.pk}/runs/").status_code == 404
    assert "what was never judged is never shown" in page_of(Job.objects.get(pk=job.pk))


def test_evidence_is_the_owners_alone() -> None:
    job = completed_job(visibility="public")
    other = completed_job()
    replica = job.replicas.first()
    assert replica is not None
    assert replica.node_owner is not None
    for stranger in (user_make(), moderator_make(), other.owner, replica.node_owner):
        client = signed_in(stranger)
        assert [client.get(address(replica, name)).status_code for name in NAMES] == [404] * 4
        assert client.get(f"/jobs/{job.pk}/runs/").status_code == 404
        assert client.get(f"/jobs/{job.pk}/fragment/").status_code == 404
    assert Client().get(address(replica, "order.json")).status_code == 302
    crossed = f"/jobs/{other.pk}/replicas/{replica.pk}/order.json"
    assert signed_in(other.owner).get(crossed).status_code == 404
    assert signed_in(job.owner).get(address(replica, "secret.json")).status_code == 404


def test_usage_and_the_end_of_the_log_are_shown_side_by_side() -> None:
    def run(writer: LogWriter) -> None:
        for step in range(50):
            writer.output("stdout", f"step {step}\n".encode())
            writer.sample({"cpu_percent": 150.0, "memory_bytes": 2 * 10**9, "gpus": [{"name": "GPU", "utilisation": 0.5}]})
        writer.output("stderr", HOSTILE.encode() + b"\n")

    job = job_make(verification=TWO)
    for _ in range(2):
        replica_report(job, log_writes=run)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    client = signed_in(job.owner)
    whole, part = (client.get(f"/jobs/{job.pk}/runs/", headers=headers).content.decode() for headers in ({}, {"HX-Request": "true"}))
    assert "<html" in whole
    assert "<html" not in part
    assert part.count('class="run"') == 2
    assert part.count("<svg") == 6
    assert "1.5 cores" in part
    assert "2 GB" in part
    assert "50 %" in part
    assert "step 49" in part
    assert "&lt;script&gt;alert(1)" in part
    assert "<script>alert" not in part
    assert "<img" not in part


def test_hostile_evidence_is_shown_as_text() -> None:
    job = job_make(verification={**TWO, "method": "numeric"}, tolerance=0.1)
    for energy in (b"-2.0", b"-2.1"):
        replica_report(job, {"summary.json": b'{"energy":' + energy + b"}"})
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    evidence = Evidence.objects.get(replica__job=job, check_name="comparison")
    worst = {"file": HOSTILE, "place": HOSTILE, "one": HOSTILE, "other": HOSTILE, "difference": 0.1, "allowed": 0.21}
    files = [{"file": HOSTILE, "format": HOSTILE, "compared": 1, "exceeding": 0, "worst": worst}]
    Evidence.objects.filter(pk=evidence.pk).update(detail={**evidence.detail, "worst": worst, "files": files, "sentence": HOSTILE})
    text = page_of(Job.objects.get(pk=job.pk))
    assert "A and B" in text
    assert "47.6 %" in text
    assert "<script>alert" not in text
    assert "<img" not in text


def test_a_hostile_machine_is_shown_as_text() -> None:
    job = completed_job()
    replica = job.replicas.select_related("node").first()
    assert replica is not None
    assert replica.node is not None
    replica.node.profile = {**replica.node.profile, "cpu_model": HOSTILE, "gpus": [{"name": HOSTILE}, {"name": HOSTILE}]}
    replica.node.save(update_fields=["profile"])
    text = page_of(job)
    assert "2 x &lt;script&gt;" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("copies", [2, 4])
def test_the_pages_take_the_same_statements_however_many_replicas(
    copies: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    job = job_make(verification={"method": "exact", "copies": copies, "quorum": copies})
    for _ in range(copies):
        replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    client = signed_in(job.owner)
    with django_assert_max_num_queries(11):
        client.get(f"/jobs/{job.pk}/")
    with django_assert_max_num_queries(6):
        client.get(f"/jobs/{job.pk}/runs/", headers={"HX-Request": "true"})
