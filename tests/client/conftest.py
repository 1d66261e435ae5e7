"""The portal that the tests of this folder call, and a real bundle that they may change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import bundle_parts as parts
from tests.client.bundle_parts import NODES, Members, Run
from tests.client.live_portal import LivePortal


@pytest.fixture(scope="session")
def portal(
    django_db_setup: None, django_db_blocker: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LivePortal]:
    """A live portal for the whole session; each test makes its own people on it."""
    live = LivePortal(django_db_blocker)
    try:
        live.start(tmp_path_factory.mktemp("portal") / "web.log")
        yield live
    finally:
        live.stop()


@pytest.fixture(autouse=True)
def _desk_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login, token or proxy of whoever runs the tests; a wide terminal, so that lines stay whole."""
    for name in ("NEXA_PORTAL", "NEXA_TOKEN", "NEXA_TOKEN_FILE", "NEXA_COORDINATOR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [parts.run_make(folder, number, key) for number, key in enumerate(NODES, start=1)]


@pytest.fixture(scope="session")
def members(runs: list[Run]) -> Members:
    return parts.sealed(parts.members_make(runs))
