"""Collection beside writers: real connections and threads, held where the two could part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from devstack.stack import APPLICATION_ROLE
from jobs.blobs import blob_store
from jobs.blobs.collection import SHARDS, shard_collect
from jobs.blobs.locks import store_held
from jobs.models import Blob, JobInput, Upload
from nexaportal.database_grants import APPLICATION
from tests.database_users import connected_as
from tests.factories.jobs import funded_researcher_make, job_make, upload_make
from tests.factories.people import user_make
from tests.jobs.blobs.scene import LARGE, SMALL, collect, file_of, marked, read, written

LIMIT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _own_store(own_database: str, settings: Any, tmp_path: Path) -> Iterator[None]:
    """A database and a store with nothing of other tests in them."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}},
    }
    settings.NEXA_BLOB_ROOT = tmp_path
    blob_store.cache_clear()
    yield
    blob_store.cache_clear()


@pytest.fixture
def threads() -> Iterator[Callable[..., Future[Any]]]:
    """Starts a function in a thread, whose connection is closed when it ends."""

    def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        yield lambda function, *args, **kwargs: pool.submit(in_thread, function, *args, **kwargs)


@contextmanager
def another_session() -> Iterator[psycopg.Connection[Any]]:
    found = connection.get_connection_params()
    with psycopg.connect(**{name: found[name] for name in ("dbname", "host", "port", "user")}) as session:
        yield session


def waiting(count: int) -> None:
    """Returns when so many sessions of this database wait for a lock."""
    until = time.monotonic() + LIMIT_SECONDS
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with another_session() as session:
        session.autocommit = True
        while session.execute(statement).fetchone() != (count,):
            assert time.monotonic() < until, f"expected {count} sessions to wait for a lock"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in its row", "a file"])
def test_what_somebody_keeps_and_has_not_committed_is_passed_over(data: bytes, threads: Callable[..., Future[Any]]) -> None:
    digest = marked(data)
    with transaction.atomic():
        upload_make(user_make(), data)
        found = threads(collect).result(LIMIT_SECONDS)
        assert (found.removed, found.passed_over) == (0, 1)
    assert read(data) == data
    assert collect().removed == 0
    assert Blob.objects.get(pk=digest).unwanted_since is None


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in its row", "a file"])
def test_who_comes_while_the_bytes_are_removed_waits_and_brings_them_anew(data: bytes, threads: Callable[..., Future[Any]]) -> None:
    """The collection is held between file and row: a row can't go while the table is locked by another."""
    digest = marked(data)
    user = user_make()
    with another_session() as session:
        session.execute("LOCK TABLE jobs_blob IN SHARE MODE")
        collecting = threads(collect)
        waiting(1)
        assert not file_of(digest).exists()
        uploading = threads(upload_make, user, data)
        waiting(2)
        session.rollback()
        assert collecting.result(LIMIT_SECONDS).removed == 1
        uploading.result(LIMIT_SECONDS)
    assert read(data) == data
    assert collect().lost == []


def test_bytes_that_an_input_begins_to_name_stay(threads: Callable[..., Future[Any]]) -> None:
    """As when the coordinator fetched it: kept in one transaction, named in another."""
    job, digest = job_make(funded_researcher_make()), marked(LARGE)
    written(LARGE)
    with transaction.atomic():
        JobInput.objects.create(job=job, path="a", blob_id=digest)
        assert threads(collect).result(LIMIT_SECONDS).removed == 0
    assert collect().removed == 0
    assert Blob.objects.get().unwanted_since is None
    assert read(LARGE) == LARGE


def test_an_input_that_names_bytes_under_removal_is_refused_rather_than_left_without(threads: Callable[..., Future[Any]]) -> None:
    job, digest = job_make(funded_researcher_make()), marked(LARGE)
    with another_session() as session:
        session.execute("LOCK TABLE jobs_blob IN SHARE MODE")
        collecting = threads(collect)
        waiting(1)
        naming = threads(JobInput.objects.create, job=job, path="a", blob_id=digest)
        waiting(2)
        session.rollback()
        assert collecting.result(LIMIT_SECONDS).removed == 1
        assert "is not present in table" in str(naming.exception(LIMIT_SECONDS))
    assert not JobInput.objects.exists()


def test_a_file_whose_row_is_not_committed_stays_and_goes_if_it_never_is(settings: Any, threads: Callable[..., Future[Any]]) -> None:
    settings.NEXA_BLOB_GRACE_HOURS = 0
    with transaction.atomic():
        digest = written(LARGE).digest
        assert threads(collect).result(LIMIT_SECONDS).files_removed == 0
        assert file_of(digest).exists()
        transaction.set_rollback(True)
    assert collect().files_removed == 1
    assert not file_of(digest).exists()


def test_two_collections_at_once_remove_each_blob_once(threads: Callable[..., Future[Any]]) -> None:
    for number in range(40):
        marked(LARGE + b"%d" % number)
    both = [threads(collect) for _ in range(2)]
    assert sum(one.result(LIMIT_SECONDS).removed for one in both) == 40
    assert not Blob.objects.exists()


def test_nothing_is_removed_while_a_backup_holds_the_store(threads: Callable[..., Future[Any]]) -> None:
    marked(LARGE)
    with store_held():
        assert threads(collect).result(LIMIT_SECONDS).passed_over == 1
    assert threads(collect).result(LIMIT_SECONDS).removed == 1


def test_whoever_commits_a_reference_finds_its_bytes_however_often_they_are_collected(
    settings: Any, threads: Callable[..., Future[Any]]
) -> None:
    """Without any grace, several who keep and forget the same few bytes, and two who collect all the time."""
    settings.NEXA_BLOB_GRACE_HOURS = 0
    users = [user_make() for _ in range(3)]
    parts = [SMALL, LARGE, LARGE + b"!"]
    done = threading.Event()

    def come_and_go(user: Any) -> int:
        reads = 0
        for number in range(60):
            data = parts[number % len(parts)]
            with transaction.atomic():
                upload_make(user, data)
            assert read(data) == data
            reads += 1
            Upload.objects.filter(user=user).delete()
        return reads

    def sweep() -> int:
        removed = 0
        shards = sorted({written(data).digest.removeprefix("sha256:")[:2] for data in parts})
        while not done.is_set():
            for shard in shards:
                removed += shard_collect(shard=shard, now=timezone.now() + timedelta(seconds=1)).removed
        return removed

    sweeping = [threads(sweep) for _ in range(2)]
    coming = [threads(come_and_go, user) for user in users]
    try:
        assert [one.result(120) for one in coming] == [60, 60, 60]
    finally:
        done.set()
    assert sum(one.result(LIMIT_SECONDS) for one in sweeping) > 0
    assert collect().lost == []


def test_the_control_workers_role_may_collect_and_keep(own_database: str) -> None:
    call_command("database_roles")
    assert APPLICATION["jobs_blob"]["DELETE"] == ()
    with connected_as(APPLICATION_ROLE):
        digest = marked(LARGE)
        assert collect().removed == 1
        written(LARGE)
        assert read(LARGE) == LARGE
        assert Blob.objects.filter(pk=digest).exists()
        assert len(SHARDS) == 256
