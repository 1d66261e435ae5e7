"""Finds a container engine that can be trusted with limits, or installs one. `python -m devstack.engine` does just that.

Order: DOCKER_HOST if it is set (then nothing else counts); the usual sockets of Docker and Podman; as root on a
Debian-like system, `docker.io` by apt, started by systemd or by hand. An engine started here stays running: other
programs may have come to use it, and its start is the slow part of the next run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from devstack.packages import PackagesFailedError, is_debian_like, packages_install

_PROBE_TIMEOUT_SECONDS = 10
_CALL_TIMEOUT_SECONDS = 120
_ANY_API_VERSION = "1.24"  # Only so that the client does not ask while it is built.
_START_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
_DAEMON_LOG = Path("/var/log/nexapod-dockerd.log")
_DOCKER_SOCKET = "unix:///var/run/docker.sock"

Report = Callable[[str], None]


class EngineUnavailableError(RuntimeError):
    """No usable container engine. The message says in two lines what was found and what to do."""


@dataclass(frozen=True)
class EngineHandle:
    """An engine that answered and enforces limits."""

    base_url: str
    name: str
    version: str
    started_by_us: bool = False

    def client(self) -> docker.DockerClient:
        """A new client; the caller closes it."""
        return docker.DockerClient(base_url=self.base_url, timeout=_CALL_TIMEOUT_SECONDS)

    def __str__(self) -> str:
        return f"{self.name} {self.version} at {self.base_url}"


class _EngineUnfitError(Exception):
    """An engine answers, and must not be used; the message says why."""


def engine_ensure(*, report: Report, environ: Mapping[str, str] = os.environ) -> EngineHandle:
    """An engine, found or installed and started. Raises `EngineUnavailableError`. `report` gets progress lines."""
    unfit: list[str] = []
    for base_url in candidate_urls(environ):
        try:
            found = engine_probe(base_url)
        except _EngineUnfitError as error:
            unfit.append(str(error))
            continue
        if found:
            return found
    if named := environ.get("DOCKER_HOST"):
        found_text = unfit[0] if unfit else f"DOCKER_HOST names {named}, and nothing answers there."
        raise EngineUnavailableError(f"{found_text}\nStart that engine, or unset DOCKER_HOST to have the usual places searched.")
    if os.geteuid() == 0 and (shutil.which("dockerd") or is_debian_like()):
        return _docker_start(report)
    reason = unfit[0] if unfit else "No container engine answers (Docker or Podman), and only root may install one."
    raise EngineUnavailableError(
        f"{reason}\nInstall one (Debian: sudo apt-get install docker.io; sudo usermod -aG docker $USER; log in again), or run this as root."
    )


def candidate_urls(environ: Mapping[str, str]) -> list[str]:
    """Where an engine may listen, in order of preference."""
    if named := environ.get("DOCKER_HOST"):
        return [named]
    sockets = [Path("/var/run/docker.sock"), Path("/run/podman/podman.sock")]
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        sockets += [Path(runtime) / "docker.sock", Path(runtime) / "podman" / "podman.sock"]
    if home := environ.get("HOME"):
        sockets += [Path(home) / ".docker" / "run" / "docker.sock", Path(home) / ".docker" / "desktop" / "docker.sock"]
    return [f"unix://{socket}" for socket in sockets if os.access(socket, os.F_OK)]  # False where we may not look


def engine_probe(base_url: str) -> EngineHandle | None:
    """The engine at `base_url`, or None if none answers. Raises `_EngineUnfitError` for one that ignores limits."""
    try:
        # Asked without a version first: a client that negotiates by itself cannot be closed when that fails.
        with contextlib.closing(docker.APIClient(base_url=base_url, version=_ANY_API_VERSION, timeout=_PROBE_TIMEOUT_SECONDS)) as api:
            version: dict[str, Any] = api.version(api_version=False)
        name, number = _identity(version)
        spoken = str(version["ApiVersion"])
        with contextlib.closing(docker.APIClient(base_url=base_url, version=spoken, timeout=_PROBE_TIMEOUT_SECONDS)) as api:
            info: dict[str, Any] = api.info()
        _expect_limits(name, info)
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError, LookupError, AttributeError, TypeError):
        return None  # Nothing or something else listens there, or we may not enter.
    return EngineHandle(base_url=base_url, name=name, version=number)


def _identity(version: dict[str, Any]) -> tuple[str, str]:
    """Podman answers Docker's API and names itself among the components only."""
    components = version.get("Components") or []
    podman = any("podman" in str(part.get("Name", "")).lower() for part in components)
    return ("Podman" if podman else "Docker", str(version.get("Version", "of unknown version")))


def _expect_limits(name: str, info: dict[str, Any]) -> None:
    """Refuses an engine under which a job would run without limits.

    Rootless Podman under cgroup v1 accepts memory, pids and cpu limits and applies none, whatever its info says.
    """
    is_rootless = any("rootless" in str(option) for option in info.get("SecurityOptions") or [])
    if is_rootless and str(info.get("CgroupVersion", "1")) == "1":
        raise _EngineUnfitError(
            f"{name} runs rootless under cgroup v1 and silently ignores memory, process and processor limits: jobs must not run on it."
        )
    missing = [limit for limit in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if info.get(limit) is not True]
    if missing:
        raise _EngineUnfitError(f"{name} cannot limit containers here ({', '.join(missing)} missing): jobs must not run on it.")


def _docker_start(report: Report) -> EngineHandle:
    """Docker, installed if need be, started, and answering."""
    if shutil.which("dockerd") is None:
        report("installing docker.io with apt-get (once, about a minute)")
        try:
            packages_install("docker.io")
        except PackagesFailedError as error:
            raise EngineUnavailableError(f"{error}\nInstall Docker (docker.io) by hand and run this again.") from None
    # The package may have started it; else do so.
    log_hint = "journalctl -u docker"
    process: subprocess.Popen[bytes] | None = None
    if Path("/run/systemd/system").is_dir():
        report("starting Docker (systemctl start docker)")
        subprocess.run(["systemctl", "start", "docker"], check=False, capture_output=True)
    elif _probe_or_none(_DOCKER_SOCKET) is None:
        report(f"starting dockerd (log: {_DAEMON_LOG}); it stays running")
        log_hint = str(_DAEMON_LOG)
        process = _daemon_start()
    limit = time.monotonic() + _START_TIMEOUT_SECONDS
    while True:
        try:
            found = engine_probe(_DOCKER_SOCKET)
        except _EngineUnfitError as error:
            raise EngineUnavailableError(f"{error}\nUse a machine where root may set control group limits.") from None
        if found:
            return EngineHandle(base_url=found.base_url, name=found.name, version=found.version, started_by_us=True)
        if process is not None and process.poll() is not None:
            # It ends at once where another dockerd is just starting: give that one a moment.
            process = None
            limit = min(limit, time.monotonic() + _GRACE_SECONDS)
        if time.monotonic() > limit:
            raise EngineUnavailableError(
                f"Docker was started and does not answer: {_last_log_line()}\nSee {log_hint}, start Docker by hand, run this again."
            )
        time.sleep(_POLL_SECONDS)


def _probe_or_none(base_url: str) -> EngineHandle | None:
    """Like `engine_probe`; an unfit engine counts as one that answers nothing."""
    try:
        return engine_probe(base_url)
    except _EngineUnfitError:
        return None


def _daemon_start() -> subprocess.Popen[bytes]:
    """dockerd in a session of its own: neither our end nor a terminal's Ctrl-C ends it."""
    with _DAEMON_LOG.open("ab") as log:
        return subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", start_new_session=True
        )


def _last_log_line() -> str:
    try:
        return (_DAEMON_LOG.read_text(errors="replace").strip().splitlines() or ["its log is empty"])[-1][:300]
    except OSError:
        return "it left no log"


def main() -> int:
    """Ensures an engine and says which, for the Makefile."""
    try:
        engine = engine_ensure(report=lambda line: print(f"engine: {line}"))
    except EngineUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"engine: {engine}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
