"""Hosts of the demo: each with an owner, a node home and a key of its own, joined with a one-time token, run as a plain Celery worker."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors

from client.api import PortalApi
from devstack.processes import Child, Supervisor
from devstack.stack import CHECKOUT, HOST_BIN, StackError
from nexaportal.embedded import die_with_parent

JOIN_TIMEOUT_SECONDS = 120.0
ENGINE_TIMEOUT_SECONDS = 20

NODE_SETTINGS = """\
[worker]
drain_seconds = 0   # a stack that is told to stop does not wait for its runs
report_seconds = 2
"""


@dataclass(frozen=True)
class DemoHost:
    """One contributor's machine. `environment` is that of all its processes: nothing but where its home and its engine are."""

    name: str
    owner: str
    home: Path
    environment: dict[str, str]


def host_make(*, name: str, owner: str, folder: Path, docker_host: str, settings: str = NODE_SETTINGS) -> DemoHost:
    """A host below `folder` whose node home holds its settings only: `settings` as its node.toml."""
    home = folder / "hosts" / name
    home.mkdir(parents=True, mode=0o700, exist_ok=True)
    (home / "node.toml").write_text(settings)
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE") if key in os.environ}
    return DemoHost(name, owner, home, {**kept, "PYTHONUNBUFFERED": "1", "NEXA_HOME": str(home), "DOCKER_HOST": docker_host})


def host_join(host: DemoHost, api: PortalApi) -> None:
    """Mints a join token as the host's owner and joins with it, as the onboarding page says. Raises StackError."""
    done = subprocess.run(
        [
            HOST_BIN / "nexa",
            "join",
            "--token-file",
            "-",
            "--name",
            host.name,
        ],  # the token comes by standard input: no secret on a command line
        input=api.join_token_mint(),
        cwd=CHECKOUT,
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=JOIN_TIMEOUT_SECONDS,
        check=False,
        preexec_fn=die_with_parent(15),
    )
    if done.returncode:
        raise StackError(f"nexa join ended with {done.returncode} for {host.name}:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def host_start(host: DemoHost, queue: str, *, supervisor: Supervisor, logs: Path, app: str = "nexaportal") -> Child:
    """Starts the host's worker: exactly the command that a contributor types, unless a test has an `app` of its own around the host's."""
    argv = [str(HOST_BIN / "celery"), "-A", app, "worker", "-Q", queue]
    return supervisor.start(host.name, argv, env=host.environment, log_path=logs / f"{host.name}.log", cwd=CHECKOUT, group="hosts")


def containers_remove(hosts: Iterable[DemoHost], *, docker_host: str) -> int:
    """Removes what containers these hosts have left, running or not; how many there were.

    A host removes its own when it ends: this is for one that was killed, and for its node home that nobody will start a worker on again.
    """
    node_ids = [json.loads(file.read_text())["node_id"] for host in hosts if (file := host.home / "node.json").exists()]
    return nodes_containers_remove(node_ids, docker_host=docker_host)


def nodes_containers_remove(node_ids: Sequence[str], *, docker_host: str) -> int:
    """As `containers_remove`, for nodes by their ids."""
    if not node_ids:
        return 0
    count = 0
    client = docker.DockerClient(base_url=docker_host, timeout=ENGINE_TIMEOUT_SECONDS)
    try:
        for node_id in node_ids:
            for container in client.containers.list(all=True, ignore_removed=True, filters={"label": f"nexapod.home={node_id}"}):
                try:
                    container.remove(force=True, v=True)
                    count += 1
                except docker.errors.NotFound:
                    continue  # ended and removed meanwhile
    finally:
        client.close()
    return count
