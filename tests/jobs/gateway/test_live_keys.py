"""Real workers against a real portal: a key that is replaced, a key in two places, a node that is revoked."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from client.verification import bundle_verify
from jobs.models import Job, NodeExchange
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import coordinator_public_key
from nodes.models import Node
from nodes.services import join_token_mint, node_revoke
from tests.acceptance.traces import wait_for
from tests.client.live_portal import LivePortal
from tests.factories.bundles import bundle_bytes
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.people import user_make
from tests.jobs.gateway.simulated_host import exchange_make
from tests.workers.homes import profile_make
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.home_place import place_of
from workers.joining import coordinator_check, node_join
from workers.journal import Journal
from workers.key_rotation import key_rotate
from workers.portal import PortalClient, PortalRefusedError
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.messages.exchange import ExchangeRequest

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortal]:
    live = LivePortal(django_db_blocker)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NEXA_LEASE_SECONDS", "6")  # a waiting exchange ends after a third of that
            live.start(tmp_path_factory.mktemp("portal") / "uvicorn.log")
        yield live
    finally:
        live.stop()


@pytest.fixture
def home(portal: LivePortal, tmp_path: Path) -> NodeHome:
    """A home that has joined the portal."""
    with portal.database():
        token = join_token_decode(join_token_mint(owner=user_make(), lifetime_seconds=600))
    home = NodeHome(tmp_path / "home")
    node_join(home, token=token, coordinator=coordinator_check(token), name=tmp_path.name, profile=profile_make())
    home.settings_path.write_text("[worker]\nreport_seconds = 5\n")
    return home


@pytest.fixture
def worker(home: NodeHome, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(home, tmp_path / "worker.log")
    yield worker
    worker.end()


def job_run(portal: LivePortal, worker: Worker) -> Job:
    """A new job, reported by the worker."""
    with portal.database():
        job = job_make(verification={"copies": 1, "quorum": 1}, command=["write", "result.txt", "forty-two"])

    def is_reported() -> bool:
        with portal.database():
            return job.replicas.filter(state="reported").exists()

    wait_for(is_reported, limit_seconds=60, what=lambda: f"a report\n{worker.log.read_text()}")
    return job


def node_of(home: NodeHome) -> Node:
    return Node.objects.get(pk=home.identity().node_id)


def test_jobs_before_and_after_a_rotation_complete_and_the_old_key_opens_nothing(
    portal: LivePortal, home: NodeHome, worker: Worker, tmp_path: Path
) -> None:
    old = home.key()
    jobs = {old.public.key_id: job_run(portal, worker)}
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    journal = Journal.open(home.journal_path)
    new = key_rotate(home, journal)
    journal.close()
    second = Worker(home, tmp_path / "second.log")
    try:
        jobs[new.public.key_id] = job_run(portal, second)
    finally:
        second.end()
    for key_id, job in jobs.items():
        path = tmp_path / f"{job.pk}.zip"
        with portal.database():
            job_check(job_id=job.pk)
            job_settle(job_id=job.pk)
            checkpoint_publish()
            path.write_bytes(bundle_bytes(Job.objects.get(pk=job.pk)))
        [replica] = bundle_verify(path, coordinator_key_id=coordinator_public_key().key_id).replicas
        assert (replica.node_key_id, replica.paid_micro is not None) == (key_id, True)
    client = PortalClient(portal.origin, old)
    with pytest.raises(PortalRefusedError) as refused:
        client.exchange(ExchangeRequest.model_validate(exchange_make()))
    assert refused.value.code == "key_retired"
    with pytest.raises(PortalRefusedError) as refused:
        client.leave()
    assert refused.value.code == "key_retired"
    client.close()


def test_of_two_workers_with_one_key_the_first_is_sent_away_when_the_second_has_started(
    portal: LivePortal, home: NodeHome, worker: Worker, tmp_path: Path
) -> None:
    wait_for(lambda: "connected to" in worker.log.read_text(), limit_seconds=30, what=worker.log.read_text)
    copy = NodeHome(tmp_path / "copy")
    shutil.copytree(home.folder, copy.folder)
    # As in a copy of the whole disk: the folder has the inode that it had, and the host notices nothing.
    copy.identity_write(home.identity().model_copy(update={"place": place_of(copy.folder)}))
    second = Worker(copy, tmp_path / "second.log")
    try:
        assert worker.wait(60) == 78
        assert "this worker stops for good: session_superseded" in worker.log.read_text()
        job_run(portal, second)
    finally:
        second.end()
    with portal.database():
        seen = node_of(home).clone_seen_at
    assert seen is not None
    assert seen <= timezone.now()


def test_worker_of_a_revoked_node_stops_and_says_so(portal: LivePortal, home: NodeHome, worker: Worker) -> None:
    wait_for(lambda: "connected to" in worker.log.read_text(), limit_seconds=30, what=worker.log.read_text)
    with portal.database():
        node_revoke(node=node_of(home))
    assert worker.wait(60) == 78
    assert "this worker stops for good: node_revoked: This node was revoked." in worker.log.read_text()


def test_restarts_one_after_the_other_are_never_taken_for_a_copy(portal: LivePortal, home: NodeHome, tmp_path: Path) -> None:
    def is_heard(number: int) -> bool:
        """Whether the worker of this number has had its first exchange recorded."""
        with portal.database():
            row = NodeExchange.objects.filter(node=home.identity().node_id).first()
            return row is not None and len(row.superseded) == number

    for number in range(3):
        worker = Worker(home, tmp_path / f"worker-{number}.log")
        try:
            wait_for(partial(is_heard, number), limit_seconds=60, what=worker.log.read_text)
            worker.signal(signal.SIGKILL)
            worker.wait()
        finally:
            worker.end()
    with portal.database():
        assert node_of(home).clone_seen_at is None
