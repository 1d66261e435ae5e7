"""Runs containers through Docker's API: Docker Engine, or Podman where it enforces what it is told.

A container is created here, followed by a `ContainerRun`, and removed here. Only where the run was lost, its end unknown, is it left:
then it is adopted, or removed before the next try. Containers that an earlier process left are found by name (`adopt`) and label
(`leftovers_remove`).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import docker
import psutil
from docker.errors import APIError, ImageNotFound, NotFound
from docker.utils import kwargs_from_env

from workers.protocol.messages.machine import EngineProfile
from workers.protocol.messages.order import ImageReference
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.container_run import ContainerRun, engine_failure
from workers.runtime.docker_image_store import DockerImageStore, ImageLimits
from workers.runtime.docker_images import ENGINE_ERRORS
from workers.runtime.docker_profile import (
    AUTO,
    REMAPPED,
    REMAPPED_ADVICE,
    engine_profile,
    runtime_choose,
    selinux_labels,
    users_remapped,
)
from workers.runtime.image_record import ImageRecord
from workers.runtime.interface import PullProgress, RunLostError, RunResult, RunSink, RunSpec, RuntimeFailureError
from workers.runtime.sandbox import CONTAINER_USER, ROOTLESS_USER, container_arguments, host_config_arguments

log = logging.getLogger(__name__)

_REQUEST_SECONDS: Final = 60
_ALIVE_SECONDS: Final = 3
_SAMPLER_SECONDS: Final = 10.0
_CONFLICT: Final = 409

EndedT = TypeVar("EndedT", bound=RunResult | None)


class DockerRuntime:
    """A Docker engine. Connects at first use, so it can be made while the engine is away."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        image_record: Path | None = None,
        image_limits: ImageLimits | None = None,
        runtime: str = AUTO,
        disk_floor_bytes: int = 0,
    ) -> None:
        """`base_url` None: as DOCKER_HOST and its companions say, else the local socket.

        `image_record`: see ImageRecord. `runtime`: see docker_profile.runtime_choose. `disk_floor_bytes`: runs are ended when the disk
        under their outputs has less left.
        """
        self._base_url = base_url
        self._disk_floor_bytes = disk_floor_bytes
        self._runtime_wanted = runtime
        self._runtime: str | None = None
        self._selinux = False
        self.images = DockerImageStore(
            connected=self._connected, connect=self._connect, record=ImageRecord(image_record), limits=image_limits or ImageLimits()
        )
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._profile: EngineProfile | None = None
        self._limits_beyond: frozenset[str] = frozenset()
        """Limits that the engine said it would set, and did not."""
        self._samplers: list[threading.Thread] = []

    def profile(self) -> EngineProfile:
        client = self._connected()
        try:
            info, version = client.info(), client.version()
        except ENGINE_ERRORS as error:
            raise engine_failure("can't be asked what it is", error) from error
        if users_remapped(info):
            raise RuntimeFailureError(FailureCode.HOST_REFUSED, f"{REMAPPED} {REMAPPED_ADVICE}")
        self._runtime = runtime_choose(info, self._runtime_wanted)
        self._selinux = selinux_labels(info)
        told = engine_profile(info, version, swap_bytes=psutil.swap_memory().total, runtime=self._runtime)
        ignored = (*told.limits_ignored, *sorted(self._limits_beyond.difference(told.limits_ignored)))
        self._profile = told.model_copy(update={"limits_ignored": ignored})
        return self._profile

    def image_ensure(
        self,
        image: ImageReference,
        *,
        cancel: threading.Event,
        report: Callable[[PullProgress], None],
        timeout_seconds: float = 3600.0,
    ) -> str:
        return self.images.ensure(image, cancel=cancel, report=report, timeout_seconds=timeout_seconds)

    def run(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult:
        client = self._connected()
        profile = self._profile or self.profile()
        if profile.limits_ignored:
            ignored = ", ".join(profile.limits_ignored)
            raise RuntimeFailureError(FailureCode.HOST_REFUSED, f"This host's engine would ignore limits ({ignored}), so it runs nothing.")
        user = _folders_prepare(spec, rootless=profile.rootless)
        run = ContainerRun(client, self._create(client, spec, user), spec, sink, cancel, disk_floor_bytes=self._disk_floor_bytes)
        return self._removing(client, spec, run, run.start_and_follow)

    def adopt(self, spec: RunSpec, sink: RunSink, cancel: threading.Event) -> RunResult | None:
        client = self._connected()
        try:
            found = client.inspect_container(spec.name)
        except NotFound:
            return None
        except ENGINE_ERRORS as error:
            raise engine_failure("can't be asked for a container", error) from error
        state = found["State"]
        run = ContainerRun(client, str(found["Id"]), spec, sink, cancel, disk_floor_bytes=self._disk_floor_bytes)
        if state["Status"] == "paused":  # by somebody on the host, who may have forgotten
            with suppress(*ENGINE_ERRORS):
                client.unpause(spec.name)
        if state["Status"] in {"running", "paused"}:
            return self._removing(client, spec, run, lambda: run.follow(state))
        return self._removing(client, spec, run, lambda: run.conclude_ended(state))

    def _removing(self, client: docker.APIClient, spec: RunSpec, run: ContainerRun, follow: Callable[[], EndedT]) -> EndedT:
        """What `follow` returns; the container is gone then, but for one whose run was lost and may go on."""
        is_lost = False
        try:
            with self.images.in_use(spec.image_id):
                return follow()
        except RunLostError as error:
            is_lost = not error.is_over
            raise
        finally:
            self._sampler_keep(run.sampler)
            if run.limits_beyond:
                self._limits_beyond |= run.limits_beyond
                self._profile = None
            if not is_lost:
                try:
                    _remove(client, spec.name)
                except ENGINE_ERRORS:
                    log.exception("container %s could not be removed; it is tried again later", spec.name)

    def reconnect(self) -> None:
        # Not closed: runs that are being lost at this moment still hold it, and close it by letting go.
        with self._lock:
            self._client, self._profile = None, None

    def leftovers_remove(self, home_id: str, *, keep: Callable[[], Collection[str]] = tuple) -> int:
        client = self._connected()
        try:
            found = client.containers(all=True, filters={"label": f"nexapod.home={home_id}"})
            kept = keep()
        except ENGINE_ERRORS as error:
            raise engine_failure("can't be asked for leftovers", error) from error
        left = [one["Id"] for one in found if not any(name.lstrip("/") in kept for name in one["Names"] or ())]
        return sum(_leftover_remove(client, container_id) for container_id in left)

    def alive(self) -> bool:
        try:
            where = {"base_url": self._base_url} if self._base_url else kwargs_from_env()
            client = docker.APIClient(**where, timeout=_ALIVE_SECONDS)
            try:
                return bool(client.ping())
            finally:
                client.close()
        except ENGINE_ERRORS:
            return False

    def close(self) -> None:
        """Give connections back, those of the last samples too, which may take a second or two; a later call connects again."""
        with self._lock:
            client, self._client = self._client, None
            samplers, self._samplers = self._samplers, []
        for sampler in samplers:
            sampler.join(_SAMPLER_SECONDS)
        if client is not None:
            client.close()

    def _sampler_keep(self, sampler: threading.Thread | None) -> None:
        with self._lock:
            self._samplers = [thread for thread in (*self._samplers, sampler) if thread is not None and thread.is_alive()]

    def _connected(self) -> docker.APIClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> docker.APIClient:
        where = {"base_url": self._base_url} if self._base_url else kwargs_from_env()
        try:
            return docker.APIClient(**where, timeout=_REQUEST_SECONDS, version="auto")
        except ENGINE_ERRORS as error:
            raise engine_failure("can't be reached; is it started, and may this user use it?", error) from error

    def _create(self, client: docker.APIClient, spec: RunSpec, user: str) -> str:
        try:
            found = client.inspect_image(spec.image_id)  # type: ignore[no-untyped-call]  # the SDK's decorator hides its type
            volumes = (found["Config"] or {}).get("Volumes") or {}
            arguments = container_arguments(spec, user=user)
            host_config = host_config_arguments(spec, volumes=volumes, runtime=self._runtime, selinux=self._selinux)
            arguments["host_config"] = client.create_host_config(**host_config)
            try:
                return str(client.create_container(**arguments)["Id"])
            except APIError as error:
                if error.status_code != _CONFLICT:
                    raise
                _remove(client, spec.name)  # what a lost run left under this name
                return str(client.create_container(**arguments)["Id"])
        except ImageNotFound as error:
            raise RuntimeFailureError(FailureCode.IMAGE_UNAVAILABLE, f"The image {spec.image_id} is not on this host.") from error
        except ENGINE_ERRORS as error:
            raise engine_failure("can't create the container", error) from error


def _leftover_remove(client: docker.APIClient, container_id: str) -> bool:
    """Whether it is gone. One that an engine can't remove, as where something still holds its file system, is no reason to take no work."""
    try:
        _remove(client, container_id)
    except APIError as error:
        log.warning("container %s was left and can't be removed; it is tried again later: %s", container_id[:12], f"{error}")
        return False
    except ENGINE_ERRORS as error:
        raise engine_failure("can't remove leftovers", error) from error
    return True


def _remove(client: docker.APIClient, container: str) -> None:
    try:
        client.remove_container(container, v=True, force=True)
    except NotFound:
        pass
    except APIError as error:
        if error.status_code != _CONFLICT:  # another thread is removing it at this moment
            raise


def _folders_prepare(spec: RunSpec, *, rootless: bool) -> str:
    """Let the container read its inputs and write its outputs; the user it runs as.

    A host that is root gives the outputs to uid 65534. One that is not can't, and could not read or remove what that user leaves: its
    containers run as the host's own user, without capabilities. Under a rootless engine that user is called 0 inside, and any other is one
    whose files this host could not remove. Root may use somebody's rootless engine: who that is, nothing tells, so the outputs are open.
    """
    for folder, _, files in os.walk(spec.inputs_dir):
        Path(folder).chmod(0o755)
        for name in files:
            (Path(folder) / name).chmod(0o644)
    is_root = os.geteuid() == 0
    if is_root and not rootless:
        os.chown(spec.outputs_dir, 65534, 65534)
    spec.outputs_dir.chmod(0o777 if is_root and rootless else 0o700)
    if rootless:
        return ROOTLESS_USER
    return CONTAINER_USER if is_root else f"{os.geteuid()}:{os.getegid()}"
