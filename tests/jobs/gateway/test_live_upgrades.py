"""A real worker against a real portal that recommends newer host software: it says so, its owner sees it, and it works on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from nodes.models import Node
from nodes.services import join_token_mint
from tests.acceptance.traces import wait_for
from tests.client.live_portal import LivePortal
from tests.factories.jobs import job_make
from tests.factories.people import user_make
from tests.workers.homes import profile_make
from tests.workers.test_cli import invoke
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.joining import coordinator_check, node_join
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.version import SOFTWARE_VERSION

pytestmark = pytest.mark.acceptance
ADVICE = f"This portal recommends host software 99.1 or later; this is {SOFTWARE_VERSION}. docs/host.md, Upgrading."


@pytest.fixture
def portal(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LivePortal]:
    live = LivePortal(django_db_blocker)
    try:
        monkeypatch.setenv("NEXA_LEASE_SECONDS", "6")  # a waiting exchange ends after a third of that
        monkeypatch.setenv("NEXA_HOST_VERSION", "99.1")
        live.start(tmp_path / "uvicorn.log")
        yield live
    finally:
        live.stop()


def test_worker_with_older_software_is_advised_and_works_on(portal: LivePortal, tmp_path: Path) -> None:
    with portal.database():
        token = join_token_decode(join_token_mint(owner=user_make(), lifetime_seconds=600))
        job = job_make(verification={"copies": 1, "quorum": 1}, command=["write", "result.txt", "forty-two"])
    home = NodeHome(tmp_path / "home")
    joined = profile_make().model_copy(update={"software_version": "0.0.1"})
    node_join(home, token=token, coordinator=coordinator_check(token), name="attic", profile=joined)
    home.settings_path.write_text("[worker]\nreport_seconds = 5\n")
    worker = Worker(home, tmp_path / "worker.log")

    def is_reported() -> bool:
        with portal.database():
            return job.replicas.filter(state="reported").exists()

    try:
        wait_for(is_reported, limit_seconds=60, what=worker.log.read_text)
        assert worker.log.read_text().count(f"other host software is wanted: {ADVICE}") == 1
        assert f"upgrade {ADVICE}" in " ".join(invoke(home, "status").output.split())
    finally:
        worker.end()
    with portal.database():
        node = Node.objects.get(pk=home.identity().node_id)
    assert node.profile["software_version"] == SOFTWARE_VERSION, "what it has now, not what it joined with"
    assert node.last_seen_at is not None
