"""Nothing about another replica can be learnt before the job is concluded: every answer is the same whether it has delivered or not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client, override_settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from jobs.models import Job
from jobs.services.leases import leases_reap
from jobs.services.outbox import outbox_push
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from jobs.states import JobState
from jobs.verdicts import AskForMore
from ledger.services import account_of
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.people import token_header, user_make
from tests.factories.receipts import FILES, replica_lease, replica_report
from tests.jobs.evidence.secrecy_views import ANSWERS_NOTHING, ASKED, Watch, secrets_of, snapshot, statements_of, upload_of
from tests.jobs.gateway.simulated_host import SimulatedHost

pytestmark = pytest.mark.django_db

OTHERWISE = {**FILES, "summary.json": b'{"energy":-9.0}'}
MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
World = Callable[[], None]


@pytest.fixture(autouse=True)
def _memory_layer() -> Iterator[None]:
    with override_settings(CHANNEL_LAYERS=MEMORY):
        yield


def watched(**overrides: Any) -> tuple[Watch, SimulatedHost]:
    """A job, who watches it, and the host of another replica."""
    job = job_make(**overrides)
    watch = Watch(job, SimulatedHost(), SimulatedHost(), user_make(), secrets=secrets_of(OTHERWISE))
    for user in (watch.stranger, watch.host.node.owner):
        account_of(user=user)  # made on first use: whoever asked first would see another one
    return watch, SimulatedHost()


def seen_in(watch: Watch, world: World) -> dict[str, str]:
    """What the watchers see in a world, which is gone afterwards."""
    with transaction.atomic():
        world()
        found = snapshot(watch)
        transaction.set_rollback(True)
    watch.job.refresh_from_db()
    return found


def same_in_all(watch: Watch, *worlds: World) -> None:
    first = seen_in(watch, worlds[0])
    assert any(text.startswith("200") for text in first.values())
    for number, world in enumerate(worlds[1:], start=1):
        found = seen_in(watch, world)
        assert found.keys() == first.keys()
        different = {question: (first[question], found[question]) for question in first if found[question] != first[question]}
        assert different == {}, f"world {number}: {sorted(different)}"


def settled(job: Job) -> Any:
    job_check(job_id=job.pk)
    decision = job_settle(job_id=job.pk)
    job.refresh_from_db()
    return decision


THREE = {"method": "exact", "copies": 3, "quorum": 3}


@pytest.mark.parametrize("stage", ["leased", "reported", "verified"])
def test_whether_another_replica_of_a_fixed_job_has_delivered(stage: str) -> None:
    watch, other = watched(verification=THREE)
    job = watch.job
    if stage == "leased":
        watch.lease_id = replica_lease(job, watch.host.node).lease_id
    else:
        watch.lease_id = replica_report(job, node=watch.host.node, key=watch.host.key).lease_id
    replica_lease(job, SimulatedHost().node)
    fourth = SimulatedHost()
    if stage == "verified":
        settled(job)
    outbox_push()

    def out() -> None:
        replica_lease(job, other.node)

    def delivered() -> None:
        replica_report(job, OTHERWISE, node=other.node, key=other.key)

    def checked() -> None:
        delivered()
        job_check(job_id=job.pk)

    def settled_and_asked_for_more() -> None:
        delivered()
        decision = settled(job)
        assert stage == "leased" or isinstance(decision, AskForMore)

    def fourth_is_out() -> None:
        settled_and_asked_for_more()
        if stage != "leased":
            replica_lease(job, fourth.node)

    same_in_all(watch, out, delivered, checked, settled_and_asked_for_more, fourth_is_out)


def test_whether_a_late_receipt_came_to_a_disputed_job() -> None:
    watch, other = watched(verification={"method": "exact", "copies": 2, "quorum": 2})
    job = watch.job
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    order = other.order()
    leases_reap(now=timezone.now() + timedelta(days=1))
    watch.lease_id = replica_report(job, node=watch.host.node, key=watch.host.key).lease_id
    replica_report(job, OTHERWISE)
    job.refresh_from_db()
    settled(job)
    assert job.state == JobState.DISPUTED

    def late() -> None:
        assert other.submit(other.receipt(order)).json()["status"] == "late"

    same_in_all(watch, lambda: None, late)


def test_a_dispute_tells_its_date_and_no_result() -> None:
    watch, _ = watched(verification={"method": "exact", "copies": 2, "quorum": 2})
    job = watch.job
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    replicas = [replica_report(job), replica_report(job, OTHERWISE)]
    job.refresh_from_db()
    settled(job)
    assert job.state == JobState.DISPUTED
    answer = Client().get(f"/api/v1/jobs/{job.pk}", headers=token_header(job.owner)).json()
    assert (answer["state"], bool(answer["dispute"]["deadline_at"]), answer["verdict"]) == ("disputed", True, None)
    delivered = [str(value) for one in replicas for value in (one.receipt.digest, one.receipt.archive_id, one.receipt.log_id)]
    for question, text in seen_in(watch, lambda: None).items():
        for digest in delivered:
            assert digest not in text or digest in question, question


def spot_watched() -> tuple[Watch, SimulatedHost]:
    watch, other = watched()
    Job.objects.filter(pk=watch.job.pk).update(policy="spot", spot_share=0.5, replicas_max=4)
    watch.job.refresh_from_db()
    return watch, other


def draw(job: Job, *, chosen: bool) -> None:
    """As `spot_draw` leaves it."""
    copies = 2 if chosen else 1
    Job.objects.filter(pk=job.pk).update(spot_chosen=chosen, copies=copies, quorum=copies)
    job.refresh_from_db()


def test_whether_a_spot_job_was_chosen_while_it_runs() -> None:
    watch, _ = spot_watched()
    watch.lease_id = replica_lease(watch.job, watch.host.node).lease_id
    outbox_push()
    same_in_all(watch, lambda: draw(watch.job, chosen=False), lambda: draw(watch.job, chosen=True))


def test_whether_a_spot_job_was_chosen_once_its_first_result_is_in() -> None:
    watch, other = spot_watched()
    job = watch.job

    def passed_over() -> None:
        draw(job, chosen=False)

    def chosen_and_asked_for_a_second() -> None:
        draw(job, chosen=True)
        assert isinstance(settled(job), AskForMore)

    def second_is_out() -> None:
        chosen_and_asked_for_a_second()
        replica_lease(job, other.node)

    def second_disagrees() -> None:
        chosen_and_asked_for_a_second()
        replica_report(job, OTHERWISE, node=other.node, key=other.key)
        assert isinstance(settled(job), AskForMore)

    watch.lease_id = replica_report(job, node=watch.host.node, key=watch.host.key).lease_id
    outbox_push()
    same_in_all(watch, passed_over, chosen_and_asked_for_a_second, second_is_out, second_disagrees)


def test_after_the_conclusion_all_is_shown_with_the_draw() -> None:
    watch, other = spot_watched()
    job = watch.job
    draw(job, chosen=True)
    replica_report(job, node=watch.host.node, key=watch.host.key)
    settled(job)
    replica_report(job, node=other.node, key=other.key)
    settled(job)
    headers = token_header(job.owner)
    detail = Client().get(f"/api/v1/jobs/{job.pk}", headers=headers).json()
    assert (detail["state"], detail["copies"], detail["quorum"]) == ("completed", 2, 2)
    assert detail["draw"] == {"key": None, "share": 0.5, "chosen": True, "revealed": False}
    replicas = Client().get(f"/api/v1/jobs/{job.pk}/replicas", headers=headers).json()["replicas"]
    assert [one["state"] for one in replicas] == ["accepted", "accepted"]
    kinds = [event["kind"] for event in Client().get(f"/api/v1/jobs/{job.pk}/events", headers=headers).json()["events"]]
    assert {"job.replicas_added", "replica.reported", "replica.accepted"} <= set(kinds)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_bytes_that_another_replica_has_delivered_are_asked_for_by_the_same_statements(method: str) -> None:
    watch, other = watched(verification=THREE)
    watch.lease_id = replica_lease(watch.job, watch.host.node).lease_id
    archive = watch.secrets[0]
    stranger, headers = Client(), token_header(funded_researcher_make())

    def ask() -> None:
        if method == "POST":
            watch.host.upload_create(watch.lease_id, archive, 100)
            upload_of(stranger, archive, headers)()
        else:
            watch.host.send(method, f"/api/v1/blobs/{archive}")
            stranger.generic(method, f"/api/v1/blobs/{archive}", headers=headers)

    taken = []
    for delivered in (False, True):
        with transaction.atomic():
            if delivered:
                replica_report(watch.job, OTHERWISE, node=other.node, key=other.key)
            taken.append(statements_of(ask))
            transaction.set_rollback(True)
    assert taken[0]
    assert taken[0] == taken[1]


def test_every_route_is_asked_or_answers_nothing() -> None:
    def names(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if route.startswith(("admin/", "accounts/")):
                continue
            if isinstance(pattern, URLResolver):
                yield from names(pattern.url_patterns, route)
            else:
                yield pattern.name or route

    found = set(names(get_resolver().url_patterns))
    assert not ASKED & ANSWERS_NOTHING.keys()
    assert found - ASKED - ANSWERS_NOTHING.keys() == set()
    assert ASKED - found == set()


def test_the_snapshot_sees_a_difference_where_there_is_one() -> None:
    """The comparison is worth something: a conclusion changes answers of everybody who may see it."""
    watch, _ = watched(verification={"method": "exact", "copies": 2, "quorum": 2})
    replica_report(watch.job, node=watch.host.node, key=watch.host.key)

    def concluded() -> None:
        replica_report(watch.job)
        settled(watch.job)

    before, after = seen_in(watch, lambda: None), seen_in(watch, concluded)
    changed = {question for question in before if before[question] != after[question]}
    who = {question.split()[0] for question in changed}
    assert {"owner", "stranger", "anybody", "owner's", "fleet's"} <= who
    assert len(list(itertools.filterfalse(changed.__contains__, before))) > 0


@pytest.mark.parametrize("copies", [1, 2])
def test_who_cancels_a_job_after_hosts_have_delivered_gets_nothing_of_it(copies: int) -> None:
    job = job_make(verification={"method": "exact", "copies": copies, "quorum": copies})
    replica = replica_report(job, OTHERWISE)
    job_check(job_id=job.pk)
    job.refresh_from_db()
    job_cancel(job=job)
    headers = token_header(job.owner)
    receipt = replica.receipt
    paths = ("", "/replicas", "/events", "/bundle")
    texts = [Client().get(f"/api/v1/jobs/{job.pk}{path}", headers=headers).content.decode() for path in paths]
    client = Client()
    client.force_login(job.owner)
    texts.append(client.get(f"/jobs/{job.pk}").content.decode())
    shown = json.loads(texts[1])["replicas"][0]
    assert (shown["state"], shown["result"]["evidence"], shown["result"]["verdict"]) == ("cancelled", [], "")
    for digest in (receipt.digest, receipt.result_digest, receipt.archive_id, receipt.log_id):
        assert all(str(digest).removeprefix("sha256:")[:8] not in text for text in texts)
    for digest in (receipt.archive_id, receipt.log_id):
        assert Client().get(f"/api/v1/blobs/{digest}", headers=headers).status_code == 404
