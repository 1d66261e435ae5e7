"""What a run of the demo has on this machine: processes, containers, mounts, folders. Found by where it was told to put things."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import docker

from devstack.engine import EngineHandle
from nexaportal.embedded_place import SYSTEM_STATE

POLL_SECONDS = 0.05


class Traces:
    """`marker` is the TMPDIR of the run, used by nothing else: its processes have it in their environment, or their services do."""

    def __init__(self, marker: Path, engine: EngineHandle) -> None:
        self._marker = marker
        self._engine = engine
        self._service_roots: set[Path] = set()

    def look(self) -> dict[str, list[str]]:
        """What is there now, by kind; a kind of which nothing is there is left out."""
        self._service_roots |= {root for pid in self._demo_pids() for root in SYSTEM_STATE.glob(f"nexapod-run-{pid}-*")}
        found = {
            "processes": self.processes(),
            "containers": self.containers(),
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if self._is_ours(line)],
            "folders": [str(path) for path in [*self._marker.iterdir(), *self._service_roots] if path.exists()],
        }
        return {kind: names for kind, names in found.items() if names}

    def processes(self) -> list[str]:
        """Processes that run in the marked environment, or on the services' root."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue  # ended meanwhile
            if self._is_ours((command + b"\0" + environment).decode(errors="replace")):
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:120]}")
        return found

    def containers(self) -> list[str]:
        """Containers, running or not, that mount a folder of the run."""
        client = docker.DockerClient(base_url=self._engine.base_url, timeout=20)
        try:
            found = client.api.containers(all=True, filters={"label": "nexapod.home"})
        finally:
            client.close()
        return [
            str(each["Names"]) for each in found if any(self._is_ours(str(mount.get("Source", ""))) for mount in each.get("Mounts", []))
        ]

    def _is_ours(self, text: str) -> bool:
        return str(self._marker) in text or any(str(root) in text for root in self._service_roots)

    def _demo_pids(self) -> list[str]:
        return [line.split(" ", 1)[0] for line in self.processes() if " devstack demo" in line]


def wait_for(condition: Callable[[], bool], *, limit_seconds: float, what: Callable[[], str]) -> None:
    """Returns when `condition` is true; fails the test with `what()` at the limit."""
    limit = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < limit, f"Not within {limit_seconds:g} s: {what()}"
        time.sleep(POLL_SECONDS)
