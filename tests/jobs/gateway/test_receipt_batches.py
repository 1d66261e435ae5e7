"""Receipts by the batch, with the bytes that they name: each has a result of its own, and few statements are made for all."""

from __future__ import annotations

import base64
import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import Blob, ImageBreaker, Job, JobEvent, Receipt, Replica, Upload
from jobs.services.closing import job_fail
from jobs.services.leases import leases_reap
from jobs.services.receipts import TakenReceipt, receipts_accept
from jobs.states import JobState, ReplicaState
from people.models import User
from tests.factories.people import researcher_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import ARCHIVE, LOG, SimulatedHost, order_open, receipt_make, submitted_make
from tests.jobs.test_leases import silence
from workers.protocol.digests import digest_of
from workers.protocol.messages.delivery import RECEIPT_BLOB_BYTES_MAX, RECEIPTS_MAX, SubmittedReceipt
from workers.protocol.messages.order import Order

BLOBS = {"log": LOG, "archive": ARCHIVE}


def orders_of(host: SimulatedHost, count: int, owner: User | None = None) -> list[Order]:
    """Orders of as many new jobs, in the order in which they are given out."""
    owner = owner or researcher_make()
    for _ in range(count):
        queued_job(owner)
    return [
        order_open(envelope) for envelope in host.exchange(slots=count, cpus=1000.0, memory_bytes=2**50, disk_bytes=2**50).json()["orders"]
    ]


def whole(host: SimulatedHost, order: Order, **changed: Any) -> dict[str, Any]:
    """A receipt with all that it names."""
    return submitted_make(host.receipt(order, **changed), **BLOBS)


def results(answer: Any) -> list[str]:
    """The status or the code of each result."""
    assert answer.status_code == 200, answer.content
    return [(each["answer"] or {}).get("status") or each["problem"]["code"] for each in answer.json()["results"]]


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost()


@pytest.mark.django_db
class TestBatch:
    def test_each_receipt_of_a_batch_is_recorded_and_its_job_verifies(self, host: SimulatedHost) -> None:
        orders = orders_of(host, 5)
        answer = host.submit_all([whole(host, order) for order in orders])
        assert results(answer) == ["recorded"] * 5
        assert [each["answer"]["replica_id"] for each in answer.json()["results"]] == [str(order.replica_id) for order in orders]
        assert set(Replica.objects.values_list("state", "job__state")) == {(ReplicaState.REPORTED, JobState.VERIFYING)}
        receipt = Receipt.objects.first()
        assert receipt is not None
        assert receipt.log is not None
        assert receipt.archive is not None
        assert (bytes(receipt.log.data or b""), bytes(receipt.archive.data or b"")) == (LOG, ARCHIVE)
        assert not Upload.objects.exists()
        assert JobEvent.objects.filter(kind="replica.reported").count() == JobEvent.objects.filter(kind="job.verifying").count() == 5

    @pytest.mark.parametrize("state", ["leased", "expired"])
    def test_bytes_of_a_receipt_that_is_refused_are_not_kept(self, host: SimulatedHost, state: str) -> None:
        (order,) = orders_of(host, 1)
        if state == "expired":
            leases_reap(now=silence(Replica.objects.get(pk=order.replica_id)))
        before = Blob.objects.count()
        for engine in ("one", "another"):
            assert results(host.submit_all([submitted_make(host.receipt(order, engine=engine), log=LOG)])) == ["receipt_blob_missing"]
        assert Blob.objects.count() == before
        # Of two in one batch, the second is the first that is whole.
        assert results(host.submit_all([submitted_make(host.receipt(order, engine="one"), log=LOG), whole(host, order)])) == [
            "receipt_blob_missing",
            "recorded",
        ]
        receipt = Receipt.objects.get()
        assert receipt.log is not None
        assert receipt.archive is not None

    def test_what_is_wrong_with_one_holds_no_other_up(self, host: SimulatedHost) -> None:
        orders = orders_of(host, 10)
        stranger = SimulatedHost()
        good = [whole(host, order) for order in orders]
        expired = Replica.objects.get(pk=orders[7].replica_id)
        Replica.objects.exclude(pk=expired.pk).update(lease_expires_at=timezone.now() + timedelta(days=1))
        leases_reap(now=silence(expired))
        closed = Job.objects.get(replicas=orders[8].replica_id)
        job_fail(job=closed, code="test", message="over")
        batch = [
            good[0],
            {**good[1], "envelope": {}},
            submitted_make(receipt_make(orders[2], stranger.key), **BLOBS),
            whole(host, orders[3], order_digest=digest_of(b"other")),
            submitted_make(host.receipt(orders[4]), log=LOG),
            submitted_make(host.receipt(orders[5], failure=("host_disk", "full")), log=LOG),
            whole(host, orders[6], lease_id="00000000-0000-4000-8000-000000000000"),
            good[7],
            good[8],
            good[9],
            good[0],
            whole(host, orders[9], engine="another"),
        ]
        assert results(host.submit_all(batch)) == [
            "recorded",
            "envelope_malformed",
            "key_wrong",
            "receipt_mismatch",
            "receipt_blob_missing",
            "recorded",
            "lease_unknown",
            "recorded",
            "late",
            "recorded",
            "recorded",
            "receipt_conflict",
        ]
        states = dict(Replica.objects.values_list("pk", "state"))
        assert [states[order.replica_id] for order in orders] == [
            *(ReplicaState.REPORTED, ReplicaState.LEASED, ReplicaState.LEASED, ReplicaState.LEASED, ReplicaState.LEASED),
            *(ReplicaState.FAILED, ReplicaState.LEASED, ReplicaState.REPORTED, ReplicaState.CANCELLED, ReplicaState.REPORTED),
        ]
        # The same again: each answer as before, and what was refused is refused again.
        first = host.submit_all(batch).json()["results"]
        assert results(host.submit_all(batch)) == [(each["answer"] or {}).get("status") or each["problem"]["code"] for each in first]
        assert Receipt.objects.count() == 5

    def test_two_leases_of_one_job_in_a_batch_leave_the_owner_one_vote(self, host: SimulatedHost) -> None:
        job = queued_job()
        first = host.order()
        leases_reap(now=silence(job.replicas.get()))
        second = host.order()
        assert results(host.submit_all([whole(host, first), whole(host, second)])) == ["recorded", "late"]
        assert sorted(job.replicas.values_list("state", flat=True)) == [ReplicaState.CANCELLED, ReplicaState.REPORTED]

    def test_breakers_are_considered_when_no_account_is_waited_for_any_more(self, host: SimulatedHost, settings: Any) -> None:
        """Else two batches of failures, of which one holds a breaker and one the escrow, would wait for each other."""
        settings.NEXA_BREAKER_FAILURES, settings.NEXA_BREAKER_OWNERS = 2, 1
        orders = orders_of(host, 3)
        submitted = [
            SubmittedReceipt.model_validate(submitted_make(host.receipt(order, failure=(code, "why")), log=LOG))
            for order, code in zip(orders, ("image_unavailable", "image_unavailable", "exit_nonzero"), strict=True)
        ]
        with CaptureQueriesContext(connection) as queries:
            receipts_accept(node=host.node, submitted=submitted, now=timezone.now())
        found = [query["sql"] for query in queries]
        accounts = [place for place, sql in enumerate(found) if "ledger_" in sql]
        breakers = [place for place, sql in enumerate(found) if "jobs_imagebreaker" in sql]
        assert ImageBreaker.objects.count() == 1
        assert accounts
        assert max(accounts) < min(breakers)

    def test_statements_do_not_grow_with_the_batch(self, host: SimulatedHost) -> None:
        counts = []
        for size in (1, 8):
            orders = orders_of(host, size)
            submitted = [SubmittedReceipt.model_validate(whole(host, order)) for order in orders]
            with CaptureQueriesContext(connection) as queries:
                assert all(
                    isinstance(each, TakenReceipt) for each in receipts_accept(node=host.node, submitted=submitted, now=timezone.now())
                )
            counts.append(len(queries))
        assert counts[0] == counts[1] <= 14, counts

    @pytest.mark.parametrize(("count", "code"), [(0, "message_invalid"), (RECEIPTS_MAX + 1, "message_invalid")])
    def test_a_batch_has_one_receipt_to_the_most(self, host: SimulatedHost, count: int, code: str) -> None:
        answer = host.submit_all([{"envelope": {}}] * count)
        assert (answer.status_code, answer.json()["code"]) == (400, code)

    def test_company_that_waits_is_checked_again(self) -> None:
        queued_job(copies=2)
        hosts = SimulatedHost(), SimulatedHost()
        orders = [each.order() for each in hosts]
        hosts[0].submit_all([whole(hosts[0], orders[0])])
        Replica.objects.filter(state=ReplicaState.REPORTED).update(verify_claimed_until=timezone.now())
        hosts[1].submit_all([whole(hosts[1], orders[1])])
        assert not Replica.objects.exclude(verify_claimed_until=None).exists()


@pytest.mark.django_db
class TestBlobsAlong:
    @pytest.mark.parametrize(
        ("blobs", "says"),
        [
            ({"log": base64.b64encode(b"other").decode()}, "expected 10 bytes with the digest"),
            ({"log": base64.b64encode(LOG + b"\n").decode()}, "expected 10 bytes"),
            ({"log": "not base64"}, "base64"),
            ({"log": base64.b64encode(LOG).decode().rstrip("=")}, "base64"),
            ({"archive": base64.b64encode(LOG).decode()}, "expected 21 bytes"),
            ({"log": base64.b64encode(bytes(RECEIPT_BLOB_BYTES_MAX + 1)).decode()}, "more than 65536 bytes"),
            ({"log": "A" * (2 * RECEIPT_BLOB_BYTES_MAX)}, "more than 65536 bytes"),
        ],
        ids=["other bytes", "a byte more", "no base64", "no padding", "the log as the archive", "a byte too large", "far too large"],
    )
    def test_bytes_that_the_receipt_does_not_name_are_refused_and_kept_nowhere(
        self, host: SimulatedHost, blobs: dict[str, str], says: str
    ) -> None:
        (order,) = orders_of(host, 1)
        [result] = host.submit_all([{"envelope": host.receipt(order), **blobs}]).json()["results"]
        assert (result["problem"]["code"], result["problem"]["status"], result["problem"]["member"]) == ("receipt_blob_wrong", 422, *blobs)
        assert says in result["problem"]["detail"]
        assert not Blob.objects.exists()
        assert not Receipt.objects.exists()

    def test_an_archive_of_a_receipt_that_names_none_is_refused(self, host: SimulatedHost) -> None:
        (order,) = orders_of(host, 1)
        failed = host.receipt(order, failure=("host_disk", "full"))
        assert host.submit(failed, **BLOBS).json()["code"] == "receipt_blob_wrong"

    @pytest.mark.parametrize("size_bytes", [0, 1, RECEIPT_BLOB_BYTES_MAX])
    def test_as_many_bytes_as_may_come_along_are_taken(self, host: SimulatedHost, size_bytes: int) -> None:
        (order,) = orders_of(host, 1)
        data = bytes(size_bytes)
        envelope = host.receipt(order, archive={"digest": digest_of(data), "size_bytes": size_bytes})
        assert host.submit(envelope, log=LOG, archive=data).json()["status"] == "recorded"
        assert Blob.objects.get(pk=digest_of(data)).size_bytes == size_bytes

    def test_of_receipts_that_are_refused_nothing_is_kept(self, host: SimulatedHost) -> None:
        orders = orders_of(host, 2)
        assert results(host.submit_all([whole(host, orders[0], node_key_id=digest_of(b"other"))])) == ["receipt_mismatch"]
        assert not Blob.objects.exists()
        assert results(host.submit_all([whole(host, orders[0])])) == ["recorded"]
        other = host.receipt(orders[0], archive={"digest": digest_of(b"other"), "size_bytes": 5})
        assert host.submit(other, log=LOG, archive=b"other").json()["code"] == "receipt_conflict"
        assert not Blob.objects.filter(pk=digest_of(b"other")).exists()

    def test_one_blob_may_come_along_and_the_other_be_uploaded(self, host: SimulatedHost) -> None:
        (order,) = orders_of(host, 1)
        host.upload(order.lease_id, ARCHIVE)
        assert host.submit(host.receipt(order), log=LOG).json()["status"] == "recorded"

    def test_bytes_that_another_lease_brought_are_missing_all_the_same(self) -> None:
        """Whether the portal has them is not told, neither by taking a receipt without them nor by another answer with them."""
        queued_job(copies=2)
        hosts = SimulatedHost(), SimulatedHost()
        orders = [each.order() for each in hosts]
        assert hosts[0].submit(hosts[0].receipt(orders[0]), **BLOBS).json()["status"] == "recorded"
        assert hosts[1].submit(hosts[1].receipt(orders[1])).json()["code"] == "receipt_blob_missing"
        with CaptureQueriesContext(connection) as known:
            again = hosts[1].submit(hosts[1].receipt(orders[1]), **BLOBS).json()
        queued_job(copies=1)
        (order,) = [order_open(each) for each in hosts[1].exchange().json()["orders"]]
        new = {"log": b"a new log", "archive": b"a new archive"}
        stated = {"digest": digest_of(new["archive"]), "size_bytes": len(new["archive"])}
        log = {"digest": digest_of(new["log"]), "size_bytes": len(new["log"]), "head": digest_of(b"head"), "lines": 1}
        with CaptureQueriesContext(connection) as unknown:
            first = hosts[1].submit(hosts[1].receipt(order, archive=stated, log=log), **new).json()
        assert again["status"] == first["status"] == "recorded"
        # The same statements in the same order, but for what the second copy's arrival means for the first one's check.
        assert [sql["sql"].split()[0] for sql in known] == [sql["sql"].split()[0] for sql in unknown]

    def test_with_the_store_it_is_the_same(self, host: SimulatedHost, settings: Any) -> None:
        settings.NEXA_BLOB_INLINE_BYTES = 0
        orders = orders_of(host, 2)
        assert results(host.submit_all([whole(host, order) for order in orders])) == ["recorded"] * 2
        assert set(Blob.objects.values_list("data", flat=True)) == {None}


@pytest.mark.parametrize("same_order", [True, False])
def test_batches_that_meet_take_each_receipt_once(own_database: str, same_order: bool) -> None:
    host = SimulatedHost()
    batch = [whole(host, order) for order in orders_of(host, 6)]
    orderings = [batch] * 5 if same_order else list(itertools.islice(itertools.permutations(batch), 0, 700, 140))

    def submit(receipts: list[Any]) -> dict[str, Any]:
        try:
            return {each["answer"]["replica_id"]: each["answer"] for each in host.submit_all(receipts).json()["results"]}
        finally:
            connections.close_all()

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(submit, orderings))
    assert answers == [answers[0]] * 5
    assert {each["status"] for each in answers[0].values()} == {"recorded"}
    assert Receipt.objects.count() == JobEvent.objects.filter(kind="replica.reported").count() == 6


def test_a_fault_of_ours_with_one_receipt_lets_the_others_in(own_database: str) -> None:
    """The database refuses one row, by a trigger of this test's: the batch is rolled back and taken in one by one."""
    host = SimulatedHost()
    orders = orders_of(host, 3)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.predicate->>'engine' = 'cursed' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$"
        )
        cursor.execute("CREATE TRIGGER refuse BEFORE INSERT ON jobs_receipt FOR EACH ROW EXECUTE FUNCTION refuse()")
    batch = [whole(host, orders[0]), whole(host, orders[1], engine="cursed"), whole(host, orders[2])]
    assert results(host.submit_all(batch)) == ["recorded", "receipt_not_taken", "recorded"]
    assert Receipt.objects.count() == 2
    states = dict(Replica.objects.values_list("pk", "state"))
    assert [states[order.replica_id] for order in orders] == [ReplicaState.REPORTED, ReplicaState.LEASED, ReplicaState.REPORTED]
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER refuse ON jobs_receipt")
    assert results(host.submit_all(batch)) == ["recorded"] * 3
