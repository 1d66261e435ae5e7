"""Matching against a real queue: what fits, in which order, and why not."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.matching.claims import OWNER_ATTEMPTS_MAX, claims_lock, replicas_claim
from jobs.matching.queue_looks import like_of, look_parameters, suited_find
from jobs.models import Job, JobKind, Replica
from jobs.services.leases import leases_claim
from jobs.services.replicas import replicas_queue
from jobs.states import JobState, ReplicaState
from nodes.models import Node
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.matching.long_queue import queue_lengthen
from tests.services import COORDINATOR_KEY_RAW
from workers.orders import order_open
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.exchange import FreeResources, Wishes
from workers.protocol.messages.machine import Gpu, Tier
from workers.protocol.messages.order import Order
from workers.protocol.messages.receipt import FailureCode
from workers.protocol.room import Room
from workers.protocol.wishes import pattern_matches, wish_unmet

GIB = 2**30
ANYTHING = Wishes()
IMAGE_ID = "sha256:" + "1" * 64


def free_make(**fields: Any) -> FreeResources:
    return FreeResources(**{"slots": 1, "cpus": 8, "memory_bytes": 32 * GIB, "disk_bytes": 100 * GIB, **fields})


def gpu(gib: int) -> Gpu:
    return Gpu(index=0, uuid="GPU", name="GPU", memory_bytes=gib * GIB)


def claim(
    node: Node,
    *,
    wanted: tuple[Tier, ...] = (Tier.CPU,),
    request_id: uuid.UUID | None = None,
    wishes: Wishes = ANYTHING,
    **free: Any,
) -> list[Replica]:
    request_id = request_id or uuid.uuid4()
    return leases_claim(node=node, request_id=request_id, wanted=wanted, free=free_make(**free), wishes=wishes, now=timezone.now())


@pytest.mark.django_db
class TestFit:
    def test_a_claim_writes_lease_order_and_states(self) -> None:
        job = queued_job()
        node, _ = node_make(user_make())
        [taken] = claim(node)
        replica = Replica.objects.get(pk=taken.pk)
        job.refresh_from_db()
        assert (replica.state, job.state) == (ReplicaState.LEASED, JobState.RUNNING)
        assert (replica.node, replica.node_owner) == (node, node.owner)
        assert replica.deadline_at is not None
        assert replica.leased_at is not None
        assert replica.deadline_at - replica.leased_at == timedelta(seconds=100 + 600)

    @pytest.mark.parametrize("lacking", ["cpus", "memory_bytes", "disk_bytes", "slots"])
    def test_what_is_not_free_is_not_given(self, lacking: str) -> None:
        replica = queued_job().replicas.get()
        node, _ = node_make(user_make())
        enough: dict[str, Any] = {"cpus": replica.cpus, "memory_bytes": replica.memory_bytes, "disk_bytes": replica.disk_bytes, "slots": 1}
        assert claim(node, **{**enough, lacking: enough[lacking] - 1}) == []
        assert len(claim(node, **enough)) == 1

    @pytest.mark.parametrize(
        ("memories", "fits"), [((), False), ((24,), False), ((24, 8), False), ((16, 16), True), ((8, 24, 17), True)], ids=str
    )
    def test_each_gpu_has_the_memory_asked_for(self, memories: tuple[int, ...], fits: bool) -> None:
        queued_job(tier="gpu-tier1", descriptor={"tier": 1, "requirements": {"gpu_count": 2, "vram_gb": 16}})
        node, _ = node_make(user_make(), tier=Tier.GPU_TIER1)
        taken = claim(node, wanted=(Tier.GPU_TIER1,), gpus=tuple(gpu(size) for size in memories))
        assert len(taken) == fits

    def test_several_slots_take_what_fits_together_in_one_go(self) -> None:
        for cores in (3, 4, 2, 1):
            queued_job(descriptor={"limits": {"cpus": cores, "memory_mb": 1024, "disk_mb": 1024, "output_mb": 100}})
        node, _ = node_make(user_make())
        assert [replica.cpus for replica in claim(node, slots=4, cpus=6)] == [3, 2, 1]

    def test_gpus_are_packed_smallest_first(self) -> None:
        for size in (8, 20):
            queued_job(tier="gpu-tier1", descriptor={"tier": 1, "requirements": {"gpu_count": 1, "vram_gb": size}})
        node, _ = node_make(user_make(), tier=Tier.GPU_TIER1)
        assert len(claim(node, wanted=(Tier.GPU_TIER1,), slots=2, gpus=(gpu(24), gpu(10)))) == 2

    def test_own_tier_before_those_below_and_never_above(self) -> None:
        below = queued_job(priority=10)
        own = queued_job(tier="gpu-tier1", descriptor={"tier": 1})
        queued_job(tier="gpu-tier2", descriptor={"tier": 2})
        node, _ = node_make(user_make(), tier=Tier.GPU_TIER1)
        taken = claim(node, wanted=tuple(Tier), slots=4, gpus=(gpu(24), gpu(24)))
        assert [replica.job_id for replica in taken] == [own.pk, below.pk]

    def test_priority_before_age(self) -> None:
        jobs = [queued_job(), queued_job(), queued_job(priority=5)]
        node, _ = node_make(user_make())
        assert [replica.job_id for replica in claim(node, slots=3)] == [jobs[2].pk, jobs[0].pk, jobs[1].pk]

    def test_two_slots_never_take_two_copies_of_one_job(self) -> None:
        job = queued_job(copies=2)
        owner = user_make()
        assert len(claim(node_make(owner)[0], slots=2)) == 1
        assert claim(node_make(owner)[0], slots=2) == []
        assert [replica.job_id for replica in claim(node_make(user_make())[0])] == [job.pk]

    def test_a_node_is_not_given_a_job_that_failed_on_it(self) -> None:
        job = queued_job()
        node, _ = node_make(user_make())
        [taken] = claim(node)
        Replica.objects.filter(pk=taken.pk).update(state=ReplicaState.FAILED)
        replicas_queue(job=job, count=1)
        assert claim(node) == []
        assert len(claim(node_make(node.owner)[0])) == 1

    def test_a_node_that_was_only_stopped_gets_the_job_again_and_not_for_ever(self) -> None:
        job = queued_job()
        node, _ = node_make(user_make())
        for _ in range(OWNER_ATTEMPTS_MAX):
            [taken] = claim(node)
            Replica.objects.filter(pk=taken.pk).update(state=ReplicaState.FAILED, failure_code=FailureCode.HOST_STOPPED)
            replicas_queue(job=job, count=1)
        assert claim(node) == []

    def test_the_same_request_gets_the_same_leases_and_no_more(self) -> None:
        queued_job()
        queued_job()
        node, _ = node_make(user_make())
        request_id = uuid.uuid4()
        first = claim(node, request_id=request_id)
        assert [replica.lease_id for replica in claim(node, request_id=request_id, slots=5)] == [first[0].lease_id]
        assert [bytes(replica.order_envelope or b"") for replica in claim(node, request_id=request_id)] == [first[0].order_envelope]
        assert claim(node_make(user_make())[0], request_id=request_id)[0].lease_id != first[0].lease_id

    def test_a_kind_that_is_closed_is_not_given_out_until_it_opens(self) -> None:
        queued_job()
        other = queued_job(job_type="chemistry.md")
        now = timezone.now()
        JobKind.objects.filter(job_type="test").update(closed_until=now + timedelta(minutes=1))
        JobKind.objects.filter(job_type="chemistry.md").update(closed_until=now - timedelta(minutes=1))
        assert [replica.job_id for replica in claim(node_make(user_make())[0], slots=2)] == [other.pk]

    def test_statements_do_not_grow_with_the_orders(self, django_assert_num_queries: Any) -> None:
        """Begin, look, lock, jobs, node, taken before, superseded, inputs, replicas, jobs, events, end."""
        for count in (1, 20):
            for _ in range(count):
                queued_job(inputs={"a": b"a"})
            node, _ = node_make(user_make())
            with django_assert_num_queries(12):
                assert len(claim(node, slots=count, cpus=100, memory_bytes=100 * GIB)) == count

    def test_statements_of_an_idle_look_are_few(self, django_assert_num_queries: Any) -> None:
        node, _ = node_make(user_make())
        with django_assert_num_queries(4):  # the request's leases, begin, the claim, end
            assert claim(node) == []


@pytest.mark.django_db
class TestWishes:
    @pytest.mark.parametrize(
        ("wishes", "taken"),
        [
            (ANYTHING, [0, 1, 2]),
            (Wishes(images=("example/*",)), [0, 2]),
            (Wishes(images=("*:2", "no/such")), [1]),
            (Wishes(job_types=("chemistry.*",)), [1, 2]),
            (Wishes(credit_rate_min=1.000001), [2]),
            (Wishes(credit_rate_min=1), [0, 1, 2]),
            (Wishes(images=("example/*",), job_types=("chemistry.*",), credit_rate_min=2), [2]),
            (Wishes(images=()), []),
            (Wishes(job_types=("chemistry_*",)), []),
        ],
        ids=str,
    )
    def test_nothing_is_offered_that_the_host_would_refuse(self, wishes: Wishes, taken: list[int]) -> None:
        jobs = [
            queued_job(),
            queued_job(image={"name": "registry.example.org/md:2", "image_id": IMAGE_ID}, job_type="chemistry.md"),
            queued_job(job_type="chemistry.qm", credit_rate_micro=2_000_000),
        ]
        found = claim(node_make(user_make())[0], wishes=wishes, slots=3)
        assert [replica.job_id for replica in found] == [jobs[number].pk for number in taken]
        for replica in found:
            order = order_opened(replica)
            assert wish_unmet(wishes, image=order.image.name, job_type=order.job_type, credit_rate_micro=order.credit_rate_micro) is None

    def test_priority_and_age_count_across_kinds(self) -> None:
        jobs = [
            queued_job(job_type="chemistry.md"),
            queued_job(),
            queued_job(job_type="chemistry.qm", priority=5),
            queued_job(priority=5),
            queued_job(job_type="physics.md", priority=9),
        ]
        found = claim(node_make(user_make())[0], wishes=Wishes(job_types=("chemistry.*", "test")), slots=4)
        assert [replica.job_id for replica in found] == [jobs[number].pk for number in (2, 3, 0, 1)]

    def test_wishes_change_nothing_about_what_fits_or_whose_vote_it_is(self) -> None:
        wishes = Wishes(job_types=("te*",))
        queued_job(copies=2)
        owner = user_make()
        assert claim(node_make(owner)[0], wishes=wishes, cpus=0.5) == []
        assert len(claim(node_make(owner)[0], wishes=wishes, slots=2)) == 1
        assert claim(node_make(owner)[0], wishes=wishes) == []
        assert len(claim(node_make(user_make())[0], wishes=wishes)) == 1

    def test_substitutes_are_chosen_by_the_same_wishes(self) -> None:
        job = queued_job(job_type="chemistry.md")
        [taken] = claim(node_make(user_make())[0])
        Replica.objects.filter(pk=taken.pk).update(state=ReplicaState.FAILED)
        replicas_queue(job=job, count=1)
        assert claim(node_make(user_make())[0], wishes=Wishes(job_types=("physics.*",))) == []
        assert len(claim(node_make(user_make())[0], wishes=Wishes(job_types=("chemistry.*",)))) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the database is only asked, never written
@given(st.from_regex(r"[A-Za-z0-9._:/@+*-]{1,6}", fullmatch=True), st.text("aA0._:/-", max_size=6))
def test_a_pattern_means_the_same_to_the_database_and_to_the_host(own_database: str, pattern: str, text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::varchar LIKE ANY(%s::text[])", [text, [like_of(pattern)]])
        assert cursor.fetchone() == (pattern_matches(pattern, text),)


class TestRaces:
    def test_ten_exchanges_of_one_owner_get_one_copy(self, own_database: str) -> None:
        job = queued_job(copies=5)
        owner = user_make()
        taken = _at_once([node_make(owner)[0] for _ in range(10)])
        assert len(taken) == 1
        assert job.replicas.filter(state=ReplicaState.LEASED).count() == 1

    def test_ten_exchanges_of_one_request_get_one_lease(self, own_database: str) -> None:
        for _ in range(10):
            queued_job()
        node, _ = node_make(user_make())
        request_id = uuid.uuid4()
        taken = _at_once([node] * 10, request_id=request_id)
        assert len({replica.lease_id for replica in taken}) == 1
        assert Replica.objects.filter(state=ReplicaState.LEASED).count() == 1

    @pytest.mark.parametrize("wishes", [ANYTHING, Wishes(images=("example/*",))], ids=["anything", "wishes"])
    def test_ten_owners_share_ten_jobs_without_a_collision(self, own_database: str, wishes: Wishes) -> None:
        for _ in range(10):
            queued_job()
        nodes = [node_make(user_make())[0] for _ in range(10)]
        taken: list[Replica] = []
        for _ in range(10):  # a locked row is skipped, not waited for: who got none looks again
            without = [node for node in nodes if node.pk not in {replica.node_id for replica in taken}]
            taken += _at_once(without, wishes=wishes) if without else []
        assert len({replica.pk for replica in taken}) == len({replica.job_id for replica in taken}) == 10

    def test_a_locked_job_is_skipped_and_nothing_waits(self, own_database: str) -> None:
        job = queued_job()
        node, _ = node_make(user_make())
        with transaction.atomic():
            type(job).objects.select_for_update().get(pk=job.pk)
            [taken] = _in_threads([lambda: claim(node)])
            assert taken == []
        assert len(claim(node)) == 1

    def test_many_locked_jobs_hide_no_other(self, own_database: str) -> None:
        locked = queued_job()
        queue_lengthen(locked, 300)
        free = queued_job()
        node, _ = node_make(user_make())
        with transaction.atomic():
            assert len(Job.objects.select_for_update(no_key=True).exclude(pk=free.pk)) == 301
            [taken] = _in_threads([lambda: claim(node)])
            assert [replica.job_id for replica in taken] == [free.pk]

    def test_two_exchanges_at_once_fill_their_slots_from_one_queue(self, own_database: str) -> None:
        queue_lengthen(queued_job(), 99)
        nodes = [node_make(user_make())[0] for _ in range(2)]
        taken: list[Replica] = []
        for _ in range(5):  # what the other has locked is not waited for
            taken += [one for found in _in_threads([lambda node=node: claim(node, slots=50, cpus=100) for node in nodes]) for one in found]
        assert len(taken) == len({replica.pk for replica in taken}) == 100
        assert {replica.node_id for replica in taken} == {node.pk for node in nodes}

    def test_a_claim_sees_what_the_holder_of_the_job_did_meanwhile(self, own_database: str) -> None:
        """A late receipt makes its owner's vote while a claim of the same owner looks at the substitute."""
        job = queued_job()
        node, _ = node_make(user_make())
        [late] = claim(node)
        Replica.objects.filter(pk=late.pk).update(state=ReplicaState.EXPIRED)
        replicas_queue(job=job, count=1)
        found = suited_find(
            parameters=look_parameters(node=node, room=Room(free_make()), wishes=ANYTHING), tier=Tier.CPU, wanted=1, spare=1
        )
        Replica.objects.filter(pk=late.pk).update(state=ReplicaState.REPORTED)
        assert len(found) == 1
        with transaction.atomic():
            assert claims_lock(found=found, node=node, count=1) == []

    def test_a_host_with_wishes_passes_over_what_others_have_locked(self, own_database: str) -> None:
        jobs = [queued_job() for _ in range(3)]
        first, second = node_make(user_make())[0], node_make(user_make())[0]
        wishes = Wishes(job_types=("test",))
        with transaction.atomic():
            assert len(replicas_claim(node=first, tiers=[Tier.CPU], free=free_make(slots=2), wishes=wishes)) == 2
            [taken] = _in_threads([lambda: claim(second, wishes=wishes, slots=3)])
            assert [replica.job_id for replica in taken] == [jobs[2].pk]

    def test_a_locked_replica_hides_its_job(self, own_database: str) -> None:
        queued_job(copies=2)
        first, second = node_make(user_make())[0], node_make(user_make())[0]
        with transaction.atomic():
            assert len(replicas_claim(node=first, tiers=[Tier.CPU], free=free_make(), wishes=ANYTHING)) == 1
            [taken] = _in_threads([lambda: claim(second)])
            assert taken == []
        assert len(claim(second)) == 1


def order_opened(replica: Replica) -> Order:
    """What the host will read."""
    return order_open(bytes(replica.order_envelope or b""), coordinator=PrivateKey.from_raw(COORDINATOR_KEY_RAW).public).order


def _at_once(nodes: list[Node], request_id: uuid.UUID | None = None, wishes: Wishes = ANYTHING) -> list[Replica]:
    gate = threading.Barrier(len(nodes))

    def work(node: Node) -> list[Replica]:
        gate.wait(10)
        return claim(node, request_id=request_id, wishes=wishes)

    return [replica for taken in _in_threads([lambda node=node: work(node) for node in nodes]) for replica in taken]


def _in_threads(functions: list[Any]) -> list[Any]:
    def run(function: Any) -> Any:
        try:
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))
