"""Fixtures of the host's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.executor_bench import Bench
from tests.workers.homes import home_make
from tests.workers.portal_fake import FakePortal
from workers.home import NodeHome
from workers.protocol.keys import PublicKey


@pytest.fixture
def portal() -> Iterator[FakePortal]:
    """A portal of this test's own, over HTTP on the loopback interface."""
    portal = FakePortal()
    yield portal
    portal.stop()


@pytest.fixture
def home(tmp_path: Path, portal: FakePortal) -> NodeHome:
    """A node home that has joined `portal`."""
    return home_make(tmp_path / "home", portal, settings="[worker]\ndrain_seconds = 30\nreport_seconds = 3\n[lend]\nslots = 2\n")


@pytest.fixture
def key(home: NodeHome) -> PublicKey:
    """The public key of `home`."""
    return home.key().public


@pytest.fixture
def bench(home: NodeHome, portal: FakePortal) -> Bench:
    return Bench(home, portal)
