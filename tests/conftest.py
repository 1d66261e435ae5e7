"""Fixtures that many folders use. Factories are plain functions in tests/factories/."""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.management import call_command
from django.db import connection, connections
from django.test.utils import setup_databases, teardown_databases
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests.acceptance.cluster import FOLDER as CLUSTER_FOLDER


def _admin_connection() -> psycopg.Connection[tuple[object, ...]]:
    parameters = connections["default"].get_connection_params()
    return psycopg.connect(host=parameters["host"], port=parameters["port"], user=parameters["user"], dbname="postgres", autocommit=True)


def _connections_close() -> None:
    """Those of this thread, and of the one that asynchronous tests are given for what is synchronous: it lives on from test to test."""
    connections.close_all()
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


def pytest_configure(config: pytest.Config) -> None:
    """Static files are looked for when asked for: else each test client, whose middleware is its own, first reads all 160 of them.
    A password is hashed a thousand times, not a million, as portals do, which takes half a second; a hash says how it was made.
    What stacks begin with has a folder for the whole run, of which xdist's workers learn by their environment."""
    settings.WHITENOISE_AUTOREFRESH = True
    PBKDF2PasswordHasher.iterations = 1_000
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="nexapod-cluster-")
        Path(folder).chmod(0o711)  # who runs PostgreSQL for root goes through it
        os.environ[CLUSTER_FOLDER] = folder


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(CLUSTER_FOLDER), ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay to the end: the garbage collector need not go through 600,000 objects of theirs again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Under xdist the tests of one container at a time run in one worker, one after the other: there is one engine. Stacks of processes
    go where there is time for them, a module's together, which share theirs: each looks only for containers of its own. Modules that share
    one with each other name a group of their own.

    Stacks come before all else, after the shuffle too: xdist begins with what has most tests, so a stack for one test could be the last
    to start, and all would wait for it.
    """
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        if item.get_closest_marker("acceptance"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
        elif item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.xdist_group("engine"))
    yield
    for item in items:
        group = item.get_closest_marker("xdist_group")
        # xdist keeps the groups at the end of the tests' names. A pytest with which it lost them would be noticed by the time only.
        if group and config.getoption("loadgroup", default=False) and not item.nodeid.endswith(str(group.args[0])):
            raise pytest.UsageError(f"Expected {item.nodeid} to be in the group {group.args[0]}; pytest-xdist has lost it: another pytest?")
    items.sort(key=lambda item: item.get_closest_marker("acceptance") is None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """What failed is remembered by the names of tests without their groups: `make test` runs it once more alone, without xdist.

    Also where something else goes wrong at the end: by names that are nobody's, pytest would run the whole suite once more.
    """
    try:
        return (yield)
    finally:
        cache = getattr(session.config, "cache", None)
        if cache is not None and not hasattr(session.config, "workerinput"):
            failed = cache.get("cache/lastfailed", {})
            cache.set("cache/lastfailed", {re.sub(r"@[^\]]+$", "", name): True for name in failed})


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """The migrated database of this process and its roles, whichever tests are selected: pytest-django's own looks for its marks."""
    with django_db_blocker.unblock():
        found = setup_databases(verbosity=0, interactive=False, aliases=["default"])  # type: ignore[arg-type]  # the stubs say mapping, Django iterates
        call_command("database_roles")
    yield
    with django_db_blocker.unblock():
        teardown_databases(found, verbosity=0)


@pytest.fixture(autouse=True)
def _own_overview() -> None:
    """What another test's portal was is not this one's."""
    from jobs.live import overview  # noqa: PLC0415  models are there only once Django is set up

    overview.portal.forget()
    overview.tiers.forget()


@pytest.fixture(autouse=True)
def _own_log_root() -> Iterator[None]:
    """Each test's database is another one, so each publishes its log into another folder."""
    root = settings.NEXA_LOG_ROOT
    settings.NEXA_LOG_ROOT = root / uuid.uuid4().hex
    yield
    settings.NEXA_LOG_ROOT = root


@pytest.fixture
def own_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of this test's own, cloned from the migrated one: real commits, threads and several connections are fine.

    Yields its name. The ledger refuses TRUNCATE, so tests cannot flush; they throw the clone away.
    """
    source = str(settings.DATABASES["default"]["NAME"])
    clone = f"own_{uuid.uuid4().hex[:12]}"
    _connections_close()
    with _admin_connection() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(clone), sql.Identifier(source)))
    settings.DATABASES["default"]["NAME"] = clone
    connection.settings_dict["NAME"] = clone
    try:
        with django_db_blocker.unblock():
            yield clone
    finally:
        _connections_close()
        settings.DATABASES["default"]["NAME"] = source
        connection.settings_dict["NAME"] = source
        with _admin_connection() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(clone)))
