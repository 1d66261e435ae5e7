"""A coordinator's real stack with real hosts of several owners, for what looks at jobs from outside, as their owners do."""

from __future__ import annotations

import copy
import json
import os
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from client.api import PortalApi
from client.submission import descriptor_load, inputs_upload
from devstack.engine import EngineHandle
from devstack.hosts import NODE_SETTINGS, DemoHost, containers_remove, host_join, host_make, host_start
from devstack.images import base_image_ensure, workload_image_ensure
from devstack.outcome import payments_proved
from devstack.processes import Child, Interrupts, Supervisor
from devstack.stack import HOST_BIN, Access, Seed, Stack
from nexaportal.embedded import EmbeddedServices
from tests.acceptance.cluster import services_running
from tests.acceptance.traces import wait_for

OWNERS = ("ada", "emmy", "lise")
BASE_IMAGE = "nexapod/base"
"""The name under which the bare base image is approved."""
LEASE_SECONDS = 6
SETTINGS = {
    "NEXA_LEASE_SECONDS": str(LEASE_SECONDS),
    "NEXA_REAP_SECONDS": "0.5",
    "NEXA_DISPATCH_SECONDS": "0.5",
    "NEXA_PUSH_SECONDS": "0.5",
}


class RunningStack:
    """What `stack_running` yields. Times are limits of what is waited for, in seconds."""

    def __init__(
        self,
        *,
        stack: Stack,
        access: Access,
        supervisor: Supervisor,
        services: EmbeddedServices,
        folder: Path,
        engine: EngineHandle | None,
        host_app: str,
    ) -> None:
        self.stack = stack
        self.services = services
        self.folder = folder
        self.researcher_token = access.researcher_token
        self.researcher = PortalApi(stack.origin, self.researcher_token)
        self.contributors = {owner: PortalApi(stack.origin, token) for owner, token in access.contributor_tokens.items()}
        self._supervisor = supervisor
        self._engine = engine
        self._host_app = host_app
        self.hosts: dict[str, DemoHost] = {}
        self._queues: dict[str, str] = {}

    def host_join(self, owner: str, *, node_settings: str = "", worker_settings: str = NODE_SETTINGS) -> None:
        """Joins a host of this owner and starts it; `worker_settings` and `node_settings` together are its node.toml."""
        assert self._engine is not None, "a stack without an engine has no hosts"
        settings = worker_settings + node_settings
        host = host_make(name=f"{owner}-host", owner=owner, folder=self.folder, docker_host=self._engine.base_url, settings=settings)
        self.hosts[host.name] = host
        host_join(host, self.contributors[owner])
        self._queues[host.name] = self.contributors[owner].nodes()[0]["tier"]
        self.host_start(host.name)

    def machine_run(self, name: str, owner: str, command: str) -> None:
        """A machine of this owner, on which somebody pastes the command of the onboarding page: it joins, and its worker runs."""
        assert self._engine is not None, "a stack without an engine has no hosts"
        host = self.hosts[name] = host_make(name=name, owner=owner, folder=self.folder, docker_host=self._engine.base_url)
        environment = {**host.environment, "PATH": f"{HOST_BIN}{os.pathsep}{host.environment['PATH']}"}
        # The shell gives way to the worker, which so hears the signals of whoever stops the stack.
        argv = ["bash", "-c", command.replace("&& nexa worker", "&& exec nexa worker")]
        logs = self.folder / "logs"
        self._supervisor.start(name, argv, env=environment, log_path=logs / f"{name}.log", cwd=self.folder, group="hosts")

    def host_start(self, name: str) -> None:
        host_start(self.hosts[name], self._queues[name], supervisor=self._supervisor, logs=self.folder / "logs", app=self._host_app)

    def host_kill(self, name: str) -> None:
        """SIGKILL to the worker and all its processes, as when a machine loses its power. Its containers run on, in the engine."""
        self.process_kill(name)

    def process(self, name: str) -> Child:
        """The newest process of that name: `web`, `control`, `verify`, `conclude`, or a host."""
        return next(child for child in reversed(self._supervisor.children) if child.name == name)

    def process_kill(self, name: str) -> None:
        """SIGKILL to a process and all that it started."""
        os.killpg(self.process(name).pid, signal.SIGKILL)
        wait_for(lambda: not self.process(name).is_alive, limit_seconds=10, what=lambda: f"the end of {name}")

    def process_restart(self, name: str) -> None:
        """Starts a process again as it was; what is left of it is killed first."""
        self._supervisor.restart(self.process(name))

    def portal_wait(self, *, limit_seconds: float) -> None:
        """Returns when the portal answers."""

        def answers() -> bool:
            try:
                return requests.get(f"{self.stack.origin}/api/v1/coordinator", timeout=5).ok
            except requests.RequestException:
                return False

        wait_for(answers, limit_seconds=limit_seconds, what=lambda: self.process("web").log_tail())

    def node_id(self, name: str) -> str:
        return str(json.loads((self.hosts[name].home / "node.json").read_text())["node_id"])

    def submit(self, example: Path, *, environment: dict[str, str] | None = None, **changes: Any) -> str:
        """Submits the example under a label of its own, with `environment` added and other members replaced; returns the job's id."""
        descriptor = copy.deepcopy(descriptor_load(example / "job.json")) | changes
        descriptor["job_id"] = f"{descriptor['job_id']}-{uuid.uuid4().hex[:8]}"
        descriptor["environment"] = {**descriptor.get("environment", {}), **(environment or {})}
        return str(self.researcher.job_submit(inputs_upload(self.researcher, descriptor, example))["id"])

    def job_wait(self, job_id: str, *, limit_seconds: float) -> dict[str, Any]:
        """The job, completed."""
        ended = {"completed", "failed", "cancelled", "disputed"}
        wait_for(lambda: self.researcher.job(job_id)["state"] in ended, limit_seconds=limit_seconds, what=lambda: self.evidence(job_id))
        job = self.researcher.job(job_id)
        assert job["state"] == "completed", self.evidence(job_id)
        return job

    def replicas_wait(self, job_id: str, state: str, *, count: int, limit_seconds: float) -> list[dict[str, Any]]:
        """The replicas in `state`, when there are `count` of them; `running` only those whose host says that the container runs."""

        def found() -> list[dict[str, Any]]:
            replicas = [replica for replica in self.researcher.job_replicas(job_id) if replica["state"] == state]
            return [one for one in replicas if state != "running" or (one["progress"] or {}).get("stage") == "running"]

        wait_for(lambda: len(found()) >= count, limit_seconds=limit_seconds, what=lambda: self.evidence(job_id))
        return found()

    def bundle(self, job_id: str) -> Path:
        """The job's bundle with its payments proved."""
        path = self.folder / f"{job_id}.nexa.zip"

        def is_proved() -> bool:
            with path.open("wb") as out:
                self.researcher.bundle_download(job_id, out)
            return payments_proved(path)

        wait_for(is_proved, limit_seconds=20, what=lambda: "payments under a checkpoint")
        return path

    def balance_micro(self, api: PortalApi) -> int:
        return int(api.account()["balance_micro"])

    def ledger_entries(self) -> list[dict[str, Any]]:
        """The movements in the public export, as anybody may read it."""
        answer = requests.get(f"{self.stack.origin}/api/v1/ledger/export", timeout=20)
        answer.raise_for_status()
        return [leaf for leaf in map(json.loads, answer.content.splitlines()) if "postings" in leaf]

    def evidence(self, job_id: str) -> str:
        """For a failed test."""
        replicas = [(replica["node"], replica["state"]) for replica in self.researcher.job_replicas(job_id)]
        tails = [f"--- {child.name}\n{child.log_tail()}" for child in self._supervisor.children]
        return "\n".join([f"job {self.researcher.job(job_id)['state']}, replicas {replicas}", *tails])


@contextmanager
def stack_running(
    folder: Path,
    engine: EngineHandle,
    *examples: Path,
    owners: Sequence[str] = OWNERS,
    settings: Mapping[str, str] = SETTINGS,
    node_settings: str = "",
    worker_settings: str = NODE_SETTINGS,
    durable: bool = False,
    host_app: str = "nexaportal",
) -> Iterator[RunningStack]:
    """The stack, with the images of `examples` approved and a host for each of `owners`. Everything of it is gone afterwards.

    `durable`: commits wait for the disk, as in production.
    """
    images = images_make(engine, examples)
    with coordinator_running(
        folder, engine=engine, images=images, owners=owners, settings=settings, durable=durable, host_app=host_app
    ) as running:
        for owner in owners:
            running.host_join(owner, node_settings=node_settings, worker_settings=worker_settings)
        yield running


@contextmanager
def coordinator_running(
    folder: Path,
    *,
    engine: EngineHandle | None = None,
    images: Mapping[str, str],
    owners: Sequence[str] = OWNERS,
    settings: Mapping[str, str] = SETTINGS,
    durable: bool = False,
    host_app: str = "nexaportal",
    server_app: str = "nexaportal",
) -> Iterator[RunningStack]:
    """The stack without hosts, with these images approved (name to image id). Without an engine it can't have any.

    `server_app`: the package whose app its processes run.
    """
    folder.chmod(0o700)
    with Interrupts() as interrupts, services_running(durable=durable) as services:
        running: RunningStack | None = None
        try:
            with Supervisor(interrupts) as supervisor:
                stack = Stack(folder=folder, services=services, supervisor=supervisor, settings=settings, app=server_app)
                access = stack.start(Seed(contributors=owners, images=images), report=print)
                running = RunningStack(
                    stack=stack, access=access, supervisor=supervisor, services=services, folder=folder, engine=engine, host_app=host_app
                )
                yield running
        finally:
            if running and engine:
                containers_remove(running.hosts.values(), docker_host=engine.base_url)


def images_make(engine: EngineHandle, examples: Sequence[Path]) -> dict[str, str]:
    """The images of the examples and the base, built: their ids by name."""
    client = engine.client()
    try:
        base = base_image_ensure(client, report=print)
        images = {
            name: workload_image_ensure(client, context=example, tag=name, base=base, report=print, engine_url=engine.base_url)
            for example in examples
            for name in [str(descriptor_load(example / "job.json")["docker_image"])]
        }
        images[BASE_IMAGE] = str(client.images.get(base).id)
    finally:
        client.close()
    return images
