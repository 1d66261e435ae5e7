"""A machine with GPUs that are not there: NVML's library as a stub, over a description that a test may change while it runs.

The binding loads the library once a process, so what is tested runs in a child process of its own: `StubMachine.run`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

GIB: Final = 2**30
SOURCE: Final = Path(__file__).with_name("stub.c")

NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST, VERSION_MISMATCH, UNKNOWN = 3, 9, 15, 18, 999
"""NVML's error codes."""

DRIVER_VERSION: Final = "550.54.15"


@dataclass(frozen=True)
class Error:
    """Instead of a value: the function that tells it returns this code."""

    code: int

    def __str__(self) -> str:
        return f"!{self.code}"


@dataclass(frozen=True)
class StubGpu:
    """A GPU as NVML tells of it."""

    uuid: str | Error
    name: str | Error = "NVIDIA Stub"
    memory_bytes: int | Error = 8 * GIB
    used_bytes: int | Error = 0
    utilisation_percent: int | Error = 0
    temperature_celsius: int | Error = 40
    power_milliwatts: int | Error = 30_000

    def lost(self) -> StubGpu:
        """Fallen off the bus: it is still counted, and tells nothing."""
        error = Error(GPU_IS_LOST)
        return StubGpu(error, error, error, error, error, error, error)

    def with_(self, **changed: Any) -> StubGpu:
        return replace(self, **changed)


class StubMachine:
    """`missing` are functions that the driver's library lacks, by the names of its symbols; they can't come back."""

    def __init__(self, folder: Path, *gpus: StubGpu, missing: Sequence[str] = ()) -> None:
        self.folder = folder
        self.path = folder / "machine"
        self._asked = folder / "asked"
        options = [f"-DWITHOUT_{name}" for name in missing]
        library = folder / "libnvidia-ml.so.1"
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-Wall", "-Werror", "-shared", "-fPIC", *options, "-o", library, SOURCE], check=True)
        self.describe(*gpus)

    def describe(self, *gpus: StubGpu, init: int = 0, count: int = 0) -> None:
        """What the machine is from now on. `init` and `count` are what the functions of these names return."""
        rows = [(init, count, DRIVER_VERSION)] + [tuple(vars(gpu).values()) for gpu in gpus]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
        fresh.replace(self.path)

    def asked(self) -> list[str]:
        """What the library was asked, in order: `init`, `shutdown`, `handle <uuid>`."""
        return [line.strip() for line in self._asked.read_text().splitlines()] if self._asked.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        """Of a child process that is to find this machine."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.folder),
            "NVML_STUB_MACHINE": str(self.path),
            "NVML_STUB_ASKED": str(self._asked),
        }

    def run(self, script: str) -> Any:
        """What a child process on this machine prints, as JSON."""
        return child_run(script, self.environment)


def child_run(script: str, environment: dict[str, str] | None = None) -> Any:
    """What a Python process that runs `script` prints, as JSON. It must end well within a minute."""
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
