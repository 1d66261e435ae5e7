"""Keys of the draw: in the public log by their digest before they choose, and whole when nothing can be foreseen with them."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.contrib import admin
from django.db import connection, transaction
from django.utils import timezone

from jobs.models import Job, SpotKey
from jobs.services.spot import spot_draw
from jobs.services.spot_keys import spot_keys_tend
from jobs.states import JobState
from ledger.checkpoints import checkpoint_publish
from ledger.models import LogItem, LogLeaf
from tests.jobs.gateway.queued_jobs import queued_job
from workers.protocol.digests import digest_of
from workers.protocol.leaves import SpotCommitmentLeaf, SpotKeyLeaf, leaf_parse, spot_chosen

LIFETIME = timedelta(seconds=settings.NEXA_SPOT_KEY_SECONDS)


def tended(now: datetime) -> list[SpotKey]:
    spot_keys_tend(now=now)
    return list(SpotKey.objects.order_by("ends_at"))


def usable_key(now: datetime) -> SpotKey:
    tended(now)
    checkpoint_publish()
    (key,) = tended(now)
    return key


def drawn(now: datetime) -> Job:
    job = queued_job(policy="spot", spot_share=0.5)
    with transaction.atomic():
        spot_draw([Job.objects.select_for_update().get(pk=job.pk)], now)
    job.refresh_from_db()
    return job


@pytest.mark.django_db
def test_the_digest_is_logged_with_the_key_and_the_key_is_not() -> None:
    (key,) = tended(timezone.now())
    checkpoint_publish()
    leaf = leaf_parse(bytes(LogLeaf.objects.get(item__key=f"spot_commitment:{key.pk}").item.data))
    assert isinstance(leaf, SpotCommitmentLeaf)
    assert (leaf.spot_key, leaf.commitment) == (key.pk, digest_of(bytes(key.secret)))
    assert len(bytes(key.secret)) == 32
    assert all(bytes(key.secret).hex().encode() not in bytes(item.data) for item in LogItem.objects.all())


@pytest.mark.django_db
def test_a_key_chooses_nothing_before_a_checkpoint_covers_its_digest() -> None:
    now = timezone.now()
    (key,) = tended(now)
    tended(now)
    key.refresh_from_db()
    assert key.published_at is None
    assert drawn(now).spot_key_id is None
    checkpoint_publish()
    tended(now)
    assert drawn(now).spot_key_id == key.pk


@pytest.mark.django_db
def test_the_next_key_is_made_ahead_and_once() -> None:
    now = timezone.now()
    key = usable_key(now)
    assert key.ends_at == now + LIFETIME
    assert len(tended(now + 0.74 * LIFETIME)) == 1
    keys = tended(now + 0.76 * LIFETIME)
    assert [one.ends_at for one in keys] == [now + LIFETIME, now + 2 * LIFETIME]
    assert len(tended(now + 0.77 * LIFETIME)) == 2


@pytest.mark.django_db
def test_a_key_is_revealed_when_it_has_ended_and_its_jobs_are_concluded() -> None:
    now = timezone.now()
    key = usable_key(now)
    job = drawn(now)
    assert job.spot_key_id == key.pk
    after = now + 1.5 * LIFETIME
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    tended(now + 0.9 * LIFETIME)
    assert not LogItem.objects.filter(kind="spot_key").exists()
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.VERIFYING, JobState.DISPUTED):
        Job.objects.filter(pk=job.pk).update(state=state)
        tended(after)
        assert not LogItem.objects.filter(kind="spot_key").exists()
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED)
    for _ in range(2):
        tended(after)
    leaf = leaf_parse(bytes(LogItem.objects.get(kind="spot_key").data))
    assert isinstance(leaf, SpotKeyLeaf)
    assert leaf.secret == bytes(key.secret).hex()
    assert job.spot_share is not None
    assert job.spot_chosen == spot_chosen(secret=bytes.fromhex(leaf.secret), job_id=job.pk, share=job.spot_share)
    key.refresh_from_db()
    assert key.revealed_at == after


@pytest.mark.django_db
def test_the_secret_is_not_logged_and_no_page_of_the_admin_has_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        now = timezone.now()
        key = usable_key(now)
        drawn(now)
        tended(now + 2 * LIFETIME)
    assert bytes(key.secret).hex() not in caplog.text
    assert SpotKey not in admin.site._registry


def test_a_reveal_waits_for_a_claim_that_is_drawing(own_database: str) -> None:
    now = timezone.now()
    usable_key(now)
    job = queued_job(policy="spot", spot_share=0.5)
    done = threading.Event()

    def reveal() -> None:
        try:
            spot_keys_tend(now=now + LIFETIME)
        finally:
            connection.close()
            done.set()

    thread = threading.Thread(target=reveal)
    with transaction.atomic():
        spot_draw([Job.objects.select_for_update().get(pk=job.pk)], now)
        thread.start()
        assert not done.wait(timeout=0.5)
    assert done.wait(timeout=30)
    thread.join()
    job.refresh_from_db()
    assert job.spot_key is not None
    assert job.spot_key.revealed_at is None  # the job that it has just chosen for is open
