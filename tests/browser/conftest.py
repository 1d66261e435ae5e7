"""One portal with its scene and one browser for all tests of this folder that only look. Tests that change something start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from pytest_django import DjangoDbBlocker

from tests.browser.looking import browser_open
from tests.browser.scene import Scene, scene_make
from tests.client.live_portal import LivePortal

expect.set_options(timeout=20_000)  # a busy machine is slow to answer, and what comes at once isn't waited for


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist one process has the browser and the scene. Before xdist reads the groups, also where this folder is named to pytest: then
    this hook is there before xdist's, and would come after it."""
    for item in items:
        if "/browser/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortal]:
    live = LivePortal(django_db_blocker)
    try:
        live.start(tmp_path_factory.mktemp("portal") / "uvicorn.log")
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="session")
def scene(portal: LivePortal) -> Scene:
    with portal.database():
        return scene_make()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for longer than a module: Playwright keeps a loop running in this thread, and tests elsewhere run loops of their own."""
    with browser_open() as opened:
        yield opened
