"""PostgreSQL and Redis from wheels, for development, the demo and the tests. Production runs real servers instead.

Rules of this file:

1. Only unix sockets, in a folder that only we may enter. No TCP port, hence no password.
2. Only the PostgreSQL wheel's binaries are used. Its Python code, run as root, opens the permissions of every parent
   of its data folder; nothing here changes a folder that it did not make itself.
3. PostgreSQL refuses to run as root. Run as root, we therefore start both services as the system user `nexapod-db`,
   from a root-owned copy of the binaries (the checkout may stand in a closed home folder), with data below
   `/var/lib/nexapod`. Run as anybody else, everything stays below the given root.
4. The services die with the process that started them, whatever kills it, and a data root has one owner at a time:
   its lock is inherited by the services, so it is free only when they are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from nexaportal.embedded_place import (
    SOCKET_PORT,
    EmbeddedError,
    EmbeddedMissingError,
    EmbeddedRootError,
    EmbeddedStartError,
    data_root,
    folder_locked,
    folder_make,
    identity_of,
    lock_take,
    postgres_binaries,
    reachable_expect,
    redis_server,
    service_account,
    socket_folder_of,
    system_state,
)

__all__ = [
    "DATABASE",
    "EmbeddedError",
    "EmbeddedMissingError",
    "EmbeddedRootError",
    "EmbeddedServices",
    "EmbeddedStartError",
    "PostgresAddress",
    "RedisAddress",
    "data_root",
    "die_with",
    "die_with_parent",
]

DATABASE = "nexapod"
DATABASE_USER = "nexapod"

_START_TIMEOUT_SECONDS = 60.0  # Crash recovery after an immediate stop counts too.
_STOP_TIMEOUT_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_IPC_RMID = 0  # <linux/ipc.h>

# What services see of our environment: nothing of the caller's (PGDATA, LD_*, secrets) belongs there.
_BARE_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class PostgresAddress:
    """Where PostgreSQL listens. `socket_folder` goes where drivers expect a host."""

    socket_folder: Path
    dbname: str = DATABASE
    user: str = DATABASE_USER
    port: int = SOCKET_PORT

    def as_user(self, user: str) -> Self:
        """The same place for another role. There are no passwords here: whoever may enter the folder may be anybody."""
        return replace(self, user=user)

    @property
    def dsn(self) -> str:
        """A libpq URI; works for psycopg, psql and dj-database-url alike."""
        return f"postgresql://{self.user}@/{self.dbname}?host={quote(str(self.socket_folder), safe='')}&port={self.port}"


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis listens, in the spelling that each library wants. `database` is 0 to 15."""

    socket: Path

    def client_url(self, database: int = 0) -> str:
        """For redis-py and channels-redis."""
        return f"unix://{quote(str(self.socket))}?db={database}"

    def celery_url(self, database: int = 0) -> str:
        """For Celery and Kombu, as broker and as result backend."""
        return f"redis+socket://{quote(str(self.socket))}?virtual_host={database}"


def die_with_parent(signum: int) -> Callable[[], None]:
    """A `preexec_fn` that has the kernel send `signum` to the child when its parent dies, even by SIGKILL.

    The kernel ties this to the parent *thread* (prctl(2)), so it must be the main thread that starts the child.
    Raises `RuntimeError` on any other thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("expected the main thread to start this process (it dies with the thread that starts it)")
    parent = os.getpid()

    return lambda: die_with(parent, signum)


def die_with(parent: int, signum: int) -> None:
    """Has the kernel send `signum` to this process when its parent dies. Ends it at once where `parent` is its parent no more."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(1)  # The parent died between fork and prctl: nobody would tell us.


class EmbeddedServices:
    """PostgreSQL and Redis on unix sockets below one data root.

    A context manager; `start` and `stop` do the same by hand and may be repeated. Addresses are known before `start`.
    Does not migrate, create roles or back up. Start it from the main thread (see `die_with_parent`).
    """

    def __init__(self, root: Path, *, durable: bool = True, ephemeral: bool = False) -> None:
        """`durable=False` is for tests: a power cut may lose data, a killed server does not. `ephemeral=True` removes `root` on stop."""
        self.root = root.absolute()
        self.durable = durable
        self._is_ephemeral = ephemeral
        self._account = service_account() if os.geteuid() == 0 else None
        self._sockets = socket_folder_of(self.root)
        self.postgres = PostgresAddress(self._sockets)
        self.redis = RedisAddress(self._sockets / "redis.sock")
        self._lock_fd: int | None = None
        self._postgres: subprocess.Popen[bytes] | None = None
        self._redis: subprocess.Popen[bytes] | None = None

    @classmethod
    def in_temporary_root(cls, *, durable: bool = False) -> Self:
        """Services on a new, empty data root that `stop` removes. Also clears roots whose process was killed."""
        base = system_state() if os.geteuid() == 0 else Path(tempfile.gettempdir())
        with folder_locked(base, name=f".nexapod-{os.geteuid()}.lock"):
            _abandoned_roots_remove(base)
            root = base / f"nexapod-run-{os.getpid()}-{os.urandom(4).hex()}"
            services = cls(root, durable=durable, ephemeral=True)
            services._root_take()
        return services

    @property
    def postgres_dsn(self) -> str:
        return self.postgres.dsn

    @property
    def redis_url(self) -> str:
        return self.redis.client_url()

    @property
    def postgres_pid(self) -> int | None:
        return self._postgres.pid if self._postgres else None

    @property
    def redis_pid(self) -> int | None:
        return self._redis.pid if self._redis else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts what is not running and returns when both answer. On any error nothing is left running."""
        try:
            self._root_take()
            if self._postgres is None:
                self._postgres_start()
            if self._redis is None:
                self._redis_start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops both and releases the data root. Idempotent; clients still connected are cut off."""
        try:
            self._postgres_stop(signal.SIGINT)
        finally:
            self._redis_stop()
            self._root_release()

    def postgres_restart(self, mode: Literal["fast", "immediate", "kill"] = "fast") -> None:
        """Stops PostgreSQL and starts it again: cleanly, without a checkpoint (as after a crash), or by SIGKILL."""
        match mode:
            case "fast":
                self._postgres_stop(signal.SIGINT)
            case "immediate":
                self._postgres_stop(signal.SIGQUIT)
            case "kill":
                self._postgres_stop(signal.SIGKILL)
        self._postgres_start()

    def redis_flush(self) -> None:
        """Forgets everything in Redis."""
        try:
            reply = _redis_ask(self.redis.socket, b"FLUSHALL")
        except OSError as error:
            raise EmbeddedError(f"expected Redis to answer on {self.redis.socket}, found: {error}. Call start() first.") from error
        if reply != b"+OK":
            raise EmbeddedError(f"expected Redis to answer +OK to FLUSHALL, found {reply[:80]!r}")

    def redis_restart(self) -> None:
        """Stops Redis and starts it again, empty."""
        self._redis_stop()
        self._redis_start()

    # -- the data root

    def _root_take(self) -> None:
        if self._lock_fd is not None:
            return
        folder_make(self.root, account=self._account, mode=0o710)
        if self._account:
            reachable_expect(self.root, self._account)
        self._lock_fd = lock_take(self.root / "lock")
        for folder in (self.root / "redis", self._sockets):
            folder_make(folder, account=self._account, mode=0o700, owned=True)
        folder_make(self.root / "log", account=None, mode=0o700)

    def _root_release(self) -> None:
        if self._lock_fd is None:
            return
        if self._sockets.parent != self.root:
            shutil.rmtree(self._sockets, ignore_errors=True)
        if self._is_ephemeral:
            shutil.rmtree(self.root, ignore_errors=True)
        os.close(self._lock_fd)
        self._lock_fd = None

    def _spawn(self, argv: list[str], *, log: str, death_signal: signal.Signals) -> subprocess.Popen[bytes]:
        if self._lock_fd is None:
            raise EmbeddedRootError(f"expected the services on {self.root} to be started first: call start()")
        with (self.root / "log" / log).open("ab") as output:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._sockets,
                env=_BARE_ENVIRONMENT,
                start_new_session=True,  # A terminal's Ctrl-C is for the stack, which then stops us in order.
                preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 -- it takes no lock and imports nothing
                pass_fds=(self._lock_fd,),
                **identity_of(self._account),
            )

    def _log_tail(self, log: str) -> str:
        with contextlib.suppress(OSError):
            return (self.root / "log" / log).read_text(errors="replace")[-1500:].strip()
        return "(no log)"

    # -- PostgreSQL

    def _postgres_start(self) -> None:
        binaries = postgres_binaries()
        data = self.root / "postgresql"
        if not data.exists():
            self._cluster_make(binaries, data)
        _expect_same_major(data, binaries)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "dynamic_shared_memory_type": "mmap",  # In the data folder: nothing stays in /dev/shm after a SIGKILL.
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        if not self.durable:
            # Commits still reach the kernel, so that rows survive a killed server: fault tests count on it.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        # SIGINT is PostgreSQL's fast shutdown, which also removes its shared memory.
        process = self._spawn([str(binaries / "postgres"), "-D", str(data), *options], log="postgresql.log", death_signal=signal.SIGINT)
        self._postgres = process
        _wait_until(
            lambda: _postmaster_is_ready(data, process.pid),
            process,
            "PostgreSQL",
            lambda: self._log_tail("postgresql.log"),
        )

    def _cluster_make(self, binaries: Path, data: Path) -> None:
        """initdb in a folder beside, renamed when complete: an interrupted attempt is never taken for a cluster."""
        building = data.with_name("postgresql.new")
        shutil.rmtree(building, ignore_errors=True)
        folder_make(building, account=self._account, mode=0o700, owned=True)
        self._tool_run(
            [str(binaries / "initdb"), "-D", str(building), "-U", DATABASE_USER, "--encoding=UTF8", "--no-instructions"]
            + ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            + ["--auth-local=trust", "--auth-host=reject"]
            + ([] if self.durable else ["--no-sync"]),
        )
        single = [
            str(binaries / "postgres"),
            "--single",
            "-D",
            str(building),
            "-c",
            "log_min_messages=error",
            "postgres",
        ]
        self._tool_run(single, stdin=f"CREATE DATABASE {DATABASE}\n".encode())
        building.rename(data)

    def _tool_run(self, argv: list[str], *, stdin: bytes = b"") -> None:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._sockets,
            env=_BARE_ENVIRONMENT,
            preexec_fn=die_with_parent(signal.SIGKILL),
            check=False,
            **identity_of(self._account),
        )
        if done.returncode != 0:
            output = done.stdout.decode(errors="replace")[-1500:].strip()
            raise EmbeddedStartError(f"{Path(argv[0]).name} ended with {done.returncode}:\n{output}")

    def _postgres_stop(self, signum: signal.Signals) -> None:
        if self._postgres is None:
            return
        _end(self._postgres, [signum, signal.SIGQUIT, signal.SIGKILL])
        self._postgres = None
        _shared_memory_remove(self.root / "postgresql")

    # -- Redis

    def _redis_start(self) -> None:
        server = redis_server()
        options = ["--port", "0", "--unixsocket", str(self.redis.socket), "--unixsocketperm", "700"]
        options += ["--dir", str(self.root / "redis"), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        process = self._spawn(
            [str(server), *options],
            log="redis.log",
            death_signal=signal.SIGTERM,
        )
        self._redis = process
        _wait_until(lambda: _redis_answers(self.redis.socket), process, "Redis", lambda: self._log_tail("redis.log"))

    def _redis_stop(self) -> None:
        if self._redis is None:
            return
        _end(self._redis, [signal.SIGTERM, signal.SIGKILL])
        self._redis = None
        self.redis.socket.unlink(missing_ok=True)  # Else a client might take a dead socket for a starting server.


# -- Starting and ending


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], service: str, log_tail: Callable[[], str]) -> None:
    limit = time.monotonic() + _START_TIMEOUT_SECONDS
    while not ready():
        if process.poll() is not None:
            raise EmbeddedStartError(f"{service} ended with {process.returncode} instead of starting:\n{log_tail()}")
        if time.monotonic() > limit:
            raise EmbeddedStartError(f"{service} did not answer within {_START_TIMEOUT_SECONDS:.0f} s:\n{log_tail()}")
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes], signals: list[signal.Signals]) -> None:
    """Sends each signal in turn until the process has ended; the last must be SIGKILL."""
    for signum in signals:
        process.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_SECONDS)
            return
    process.wait()


def _expect_same_major(data: Path, binaries: Path) -> None:
    """A cluster can only be opened by the major version that made it."""
    try:
        found = (data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise EmbeddedRootError(f"expected a PostgreSQL cluster in {data}, found {error}. Remove it to start anew.") from None
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    if f" {found}." not in said:
        raise EmbeddedRootError(
            f"expected a cluster for {said.strip()}, found one of version {found} in {data}.\n"
            "Dump it with that version, or remove the folder to start anew."
        )


def _postmaster_is_ready(data: Path, pid: int) -> bool:
    """What pg_ctl looks at: the first line of postmaster.pid is the process, the eighth its state."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _shared_memory_remove(data: Path) -> None:
    """Removes the System V segment of a postmaster that was killed; one that ended by itself left no postmaster.pid.

    Waits first for its backends, which hold the segment until they notice: they must not meet a new postmaster.
    """
    try:
        segment = int((data / "postmaster.pid").read_text().splitlines()[6].split()[1])
    except (OSError, IndexError, ValueError):
        return
    limit = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while _shared_memory_users(segment) > 0 and time.monotonic() < limit:
        time.sleep(0.02)
    _libc.shmctl(segment, _IPC_RMID, None)


def _shared_memory_users(segment: int) -> int:
    """How many processes have a System V segment attached (proc_sysvipc_shm(5): shmid is field 2, nattch field 7)."""
    for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1]) == segment:
            return int(fields[6])
    return 0


def _redis_answers(path: Path) -> bool:
    try:
        return _redis_ask(path, b"PING") == b"+PONG"
    except OSError:
        return False


def _redis_ask(path: Path, command: bytes) -> bytes:
    """One inline command of the Redis protocol and the first line of its answer. Raises `OSError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(command + b"\r\n")
        with connection.makefile("rb") as answer:
            return answer.readline(1024).strip()


def _abandoned_roots_remove(base: Path) -> None:
    """Removes temporary roots that nobody holds: their process was killed, and their services have ended since."""
    for root in base.glob("nexapod-run-*"):
        with contextlib.suppress(OSError):
            if root.lstat().st_uid != os.geteuid() or not (root / "lock").exists():
                continue
            try:
                fd = lock_take(root / "lock", timeout_seconds=0)
            except EmbeddedRootError:
                continue
            _shared_memory_remove(root / "postgresql")
            shutil.rmtree(root, ignore_errors=True)
            os.close(fd)
