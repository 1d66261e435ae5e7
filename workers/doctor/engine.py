"""Checks of the container engine: is it there, does it hold containers to their limits, has it room."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
import psutil
from docker.utils import kwargs_from_env

from workers.doctor.findings import Finding, fail, ok, warn
from workers.runtime.docker_images import ENGINE_ERRORS
from workers.runtime.docker_profile import REMAPPED, REMAPPED_ADVICE, engine_profile, users_remapped

API_MIN: Final = (1, 41)
STORAGE_BYTES_MIN: Final = 2 * 2**30
STORAGE_BYTES_GOOD: Final = 10 * 2**30

_ANSWER_SECONDS: Final = 10
_CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
_OWN_FILES: Final = re.compile(r"/([0-9a-f]{64})/(?:userdata/)?(?:hosts|hostname|resolv\.conf) ")
_GIB: Final = 2**30


@dataclass(frozen=True)
class EngineAnswer:
    """What the engine says of itself, and the mounts of the container in which this process runs: None outside of one, or unknown to it."""

    info: Mapping[str, Any]
    version: Mapping[str, Any]
    own_mounts: Sequence[Mapping[str, Any]] | None = None

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the low-level runtimes that it can use, such as runc, nvidia, runsc."""
        return tuple(self.info.get("Runtimes") or ())


def engine_ask() -> EngineAnswer | str:
    """The engine's answers, or why there are none. The engine is the one that DOCKER_HOST names, else the local socket."""
    try:
        client = docker.APIClient(**kwargs_from_env(), timeout=_ANSWER_SECONDS, version="auto")
    except ENGINE_ERRORS as error:
        return str(error)
    try:
        return EngineAnswer(info=client.info(), version=client.version(), own_mounts=_own_mounts(client) if inside_container() else None)
    except ENGINE_ERRORS as error:
        return str(error)
    finally:
        client.close()


def inside_container() -> bool:
    """Whether this process runs in a container of Docker or Podman."""
    return any(mark.exists() for mark in _CONTAINER_MARKS)


def engine_check(answer: EngineAnswer | str) -> Finding:
    """Whether there is an engine, of a version that knows what is asked of it."""
    if isinstance(answer, str):
        advice = (
            "Start Docker (`systemctl start docker`, or Docker Desktop) and let this user use it (`usermod -aG docker USER`, then log in "
            "anew). DOCKER_HOST names an engine elsewhere."
        )
        return fail("engine", f"no container engine answers: {answer}", advice)
    profile = engine_profile(dict(answer.info), dict(answer.version), swap_bytes=0)
    api = str(answer.version.get("ApiVersion", ""))
    found = f"{profile.name} {profile.version}, API {api}, cgroup v{profile.cgroup_version}{', rootless' if profile.rootless else ''}"
    numbers = tuple(int(part) for part in api.split(".") if part.isascii() and part.isdigit())
    if numbers < API_MIN:
        return fail("engine", found, f"API {'.'.join(map(str, API_MIN))} is needed: Docker Engine 20.10 or Podman 4, or later.")
    return ok("engine", found)


def limits_check(answer: EngineAnswer) -> Finding:
    """Whether the engine enforces the limits of a run."""
    ignored = engine_profile(dict(answer.info), dict(answer.version), swap_bytes=psutil.swap_memory().total).limits_ignored
    if ignored:
        advice = (
            "A rootless engine needs cgroup v2 with delegated controllers; on Debian, swap is counted after "
            "`cgroup_enable=memory swapaccount=1` on the kernel's command line. Else turn swap off, or run the engine as root."
        )
        return fail("limits", f"the engine would ignore: {', '.join(ignored)}; so this node gets no jobs", advice)
    return ok("limits", "memory, cpus, pids and swap are enforced")


def seccomp_check(answer: EngineAnswer) -> Finding:
    """Whether system calls of containers are filtered."""
    options = [dict(part.partition("=")[::2] for part in text.split(",")) for text in answer.info.get("SecurityOptions") or ()]
    seccomp = next((option for option in options if option.get("name") == "seccomp"), None)
    if seccomp is None:
        return fail("seccomp", "the engine filters no system calls", "Use a kernel with CONFIG_SECCOMP, and an engine built with seccomp.")
    profile = seccomp.get("profile", "default")
    if profile == "unconfined":
        return fail("seccomp", "the engine's profile is unconfined", "Remove `seccomp-profile` from daemon.json, and restart the engine.")
    return ok("seccomp", f"profile {profile}")


def users_check(answer: EngineAnswer) -> Finding:
    """Whether a container's user is one who can be given the outputs."""
    if users_remapped(dict(answer.info)):
        return fail("users", REMAPPED, REMAPPED_ADVICE)
    return ok("users", "users of containers are not mapped to others")


def storage_check(answer: EngineAnswer) -> Finding:
    """Room for images where the engine keeps them."""
    root = Path(str(answer.info.get("DockerRootDir") or "/var/lib/docker"))
    try:
        free_bytes = shutil.disk_usage(root).free
    except OSError:
        return ok("storage", f"{root} can't be seen from here (an engine in a virtual machine, or this is a container)")
    found = f"{free_bytes / _GIB:.1f} GiB free for images under {root}"
    if free_bytes < STORAGE_BYTES_MIN:
        return fail("storage", found, "Make room: `docker image prune`, or move the engine's data to a larger disk (`data-root`).")
    if free_bytes < STORAGE_BYTES_GOOD:
        return warn("storage", found, "Images of jobs have some gigabytes each: make room, or move the engine's data (`data-root`).")
    return ok("storage", found)


def mounts_check(answer: EngineAnswer, home_folder: Path) -> Finding | None:
    """In a container: whether the node home has the same path inside as on the machine, where the engine looks for it. None outside."""
    if answer.own_mounts is None:
        return None
    source = _source(answer.own_mounts, home_folder)
    if source == home_folder:
        return ok("mounts", f"{home_folder} is the same folder inside this container and outside")
    where = f"is {source} on the machine" if source else "is not mounted from the machine, and goes with this container"
    advice = f"The engine resolves mounts on the machine: run this container with --volume {home_folder}:{home_folder}."
    return fail("mounts", f"{home_folder} {where}", advice)


def _source(mounts: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
    """Where `folder` lies on the machine; None if it is in the container only."""
    holding = [mount for mount in mounts if folder.is_relative_to(str(mount["Destination"]))]
    if not holding:
        return None
    nearest = max(holding, key=lambda mount: len(str(mount["Destination"])))
    return Path(str(nearest["Source"])) / folder.relative_to(str(nearest["Destination"]))


def container_id(mountinfo: str) -> str | None:
    """The id of the container whose `/proc/self/mountinfo` this is: engines mount its hosts file from a folder of that name."""
    match = _OWN_FILES.search(mountinfo)
    return match[1] if match else None


def _own_mounts(client: docker.APIClient) -> Sequence[Mapping[str, Any]] | None:
    # A container's host name is its id too, unless it was given another or the machine's network.
    own = container_id(Path("/proc/self/mountinfo").read_text(encoding="utf-8")) or socket.gethostname()
    try:
        return list(client.inspect_container(own)["Mounts"])
    except ENGINE_ERRORS:
        return None
