"""Hosts of the demo: each with an owner, a node home and a key of its own, joined with a one-time token, run as a plain Celery worker."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from client.api import PortalApi
from devstack.processes import Child, Supervisor
from devstack.stack import CHECKOUT, HOST_BIN, StackError
from nexaportal.embedded import die_with_parent

JOIN_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class DemoHost:
    """One contributor's machine. `environment` is that of all its processes: nothing but where its home is."""

    name: str
    owner: str
    home: Path
    environment: dict[str, str]


def host_make(*, name: str, owner: str, folder: Path, docker_host: str) -> DemoHost:
    """A host with an empty node home below `folder`."""
    home = folder / "hosts" / name
    home.parent.mkdir(parents=True, exist_ok=True)
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


def host_start(host: DemoHost, queue: str, *, supervisor: Supervisor, logs: Path) -> Child:
    """Starts the host's worker: exactly the command that a contributor types."""
    argv = [str(HOST_BIN / "celery"), "-A", "nexaportal", "worker", "-Q", queue]
    return supervisor.start(host.name, argv, env=host.environment, log_path=logs / f"{host.name}.log", cwd=CHECKOUT, group="hosts")
