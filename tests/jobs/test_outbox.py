"""The outbox: from rows to sockets and mail, once committed, at least once, nothing hidden."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.core import mail
from django.test import override_settings

from jobs.models import Job, JobEvent, UnpushedEvents
from jobs.services import outbox, telling
from jobs.services.closing import job_fail
from jobs.services.outbox import FLEET_GROUP, event_document, job_group, outbox_push
from jobs.services.settlement import job_settle
from jobs.services.transitions import event_record
from people.models import User
from people.notifications.mailing import mails_send
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.receipts import replica_report

pytestmark = pytest.mark.django_db

MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def layer() -> Any:
    """A channel layer of this test's own, that can be read without a socket."""
    with override_settings(CHANNEL_LAYERS=MEMORY):
        yield get_channel_layer()


def pushed(layer: Any, *groups: str) -> list[dict[str, Any]]:
    """What members of these groups receive from one push of the outbox."""

    async def join() -> None:
        for group in groups:
            await layer.group_add(group, "reader")

    async def drain() -> list[dict[str, Any]]:
        return [await layer.receive("reader") for _ in range(layer.channels["reader"].qsize() if "reader" in layer.channels else 0)]

    async_to_sync(join)()
    outbox_push()
    return async_to_sync(drain)()


def test_event_is_pushed_once_to_the_jobs_group(layer: Any) -> None:
    job = job_make()
    event = JobEvent.objects.get(job=job, kind="job.queued")
    assert pushed(layer, job_group(job.pk)) == [{"type": "job.events", "events": [event_document(event)]}]
    assert not UnpushedEvents.objects.exists()
    assert pushed(layer, job_group(job.pk)) == []


def test_the_fleet_is_told_how_many_jobs_moved_and_nothing_else(layer: Any) -> None:
    replica_report(job_make(verification={"method": "exact", "copies": 2, "quorum": 2}))
    assert pushed(layer, FLEET_GROUP) == [{"type": "fleet.moved", "events": 2}]  # submitted, and taken


def test_hidden_event_is_pushed_to_nobody_and_does_not_wait_for_ever(layer: Any) -> None:
    job = job_make()
    outbox_push()
    event_record(job=job, kind="job.replicas_added", payload={"count": 1}, public=False)
    assert pushed(layer, job_group(job.pk), FLEET_GROUP) == []
    assert not UnpushedEvents.objects.exists()


def test_more_than_a_batch_is_pushed_in_order(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH_WRITES", 2)
    job = job_make()
    for number in range(4):
        event_record(job=job, kind="replica.note", payload={"number": number})
    numbers = [event["payload"].get("number") for message in pushed(layer, job_group(job.pk)) for event in message["events"]]
    assert numbers == [None, 0, 1, 2, 3]


def test_layer_away_keeps_the_rows_and_sends_no_mail(caplog: pytest.LogCaptureFixture) -> None:
    job = job_make()
    job_fail(job=job, code="x", message="why")
    nowhere = "redis://127.0.0.1:1"
    away = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [nowhere]}}}
    with (
        override_settings(CHANNEL_LAYERS=away, NEXA_REDIS_URL=nowhere),
        caplog.at_level(logging.WARNING, "jobs.services.outbox"),
    ):
        assert outbox_push() == 0
    assert "the channel layer is away" in caplog.text
    waiting = [event for row in UnpushedEvents.objects.all() for event in row.events]
    assert sorted(waiting) == sorted(JobEvent.objects.values_list("pk", flat=True))
    assert mails_send() == 0
    assert outbox_push() == JobEvent.objects.count()
    assert mails_send() == 1


def test_owner_is_mailed_at_the_end_and_told_why() -> None:
    done, failed = job_make(), job_make()
    replica_report(done)
    job_check(job_id=done.pk)
    job_settle(job_id=done.pk)
    job_fail(job=failed, code="no_eligible_host", message="No host took it.")
    outbox_push()
    outbox_push()
    assert mails_send() == 2
    by_subject = {message.subject: message for message in mail.outbox}
    assert set(by_subject) == {f"[NEXAPod] {done.label}: completed", f"[NEXAPod] {failed.label}: failed"}
    assert "Replicas that agree: 1 of 1." in by_subject[f"[NEXAPod] {done.label}: completed"].body
    body = by_subject[f"[NEXAPod] {failed.label}: failed"].body
    assert "no_eligible_host: No host took it." in body
    assert f"http://testserver/jobs/{failed.pk}" in body
    assert by_subject[f"[NEXAPod] {failed.label}: failed"].to == [failed.owner.email]


def test_owner_of_many_jobs_is_mailed_once_for_all_that_ended_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "LABELS_NAMED", 2)
    owner = funded_researcher_make()
    jobs = [job_make(owner) for _ in range(3)]
    for job in jobs:
        job_fail(job=job, code="x", message="why")
    stranger = job_make()
    job_fail(job=stranger, code="x", message="why")
    outbox_push()
    mails_send()
    assert sorted(message.subject for message in mail.outbox) == ["[NEXAPod] 3 jobs: failed", f"[NEXAPod] {stranger.label}: failed"]
    digest = next(message for message in mail.outbox if message.to == [owner.email])
    assert f"{jobs[0].label}, {jobs[1].label} and 1 more" in digest.body


def test_owner_without_an_address_gets_no_mail() -> None:
    job = job_make()
    User.objects.filter(pk=job.owner_id).update(email="")
    job_fail(job=Job.objects.get(pk=job.pk), code="x", message="why")
    outbox_push()
    assert mails_send() == 0
