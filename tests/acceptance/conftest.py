"""What the acceptance tests share: an engine, and a way to run the demo as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.engine import EngineHandle, engine_ensure
from devstack.stack import CHECKOUT
from tests.acceptance.traces import Traces, wait_for

TINY = CHECKOUT / "tests" / "acceptance" / "tiny"
KEPT = ("PATH", "HOME", "LANG", "DOCKER_HOST", "SSL_CERT_FILE", "XDG_RUNTIME_DIR")
"""Of a user's environment. The tests' own settings, and those of a `make` around us, are not a user's."""


class DemoRun:
    """`make demo` in a session of its own, as in a terminal: a signal goes to its whole process group."""

    def __init__(self, folder: Path, engine: EngineHandle) -> None:
        self.keep = folder / "keep"
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        self._output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None
        self.traces = Traces(self._temporary, engine)

    def start(self, *options: str, example: Path = TINY) -> None:
        arguments = " ".join([f"--example {example}", f"--keep {self.keep}", *options])
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"TMPDIR": str(self._temporary)}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["make", "demo", f"ARGS={arguments}"],
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def has_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def wait_output(self, text: str, *, limit_seconds: float = 120.0) -> None:
        """Returns when the demo has said `text`."""
        wait_for(lambda: text in self.output or self.has_ended, limit_seconds=limit_seconds, what=lambda: f"{text!r} in\n{self.output}")
        assert text in self.output, self.output

    def signal(self, signum: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signum)

    def wait_ended(self, *, limit_seconds: float) -> int:
        """The exit status of make."""
        wait_for(lambda: self.has_ended, limit_seconds=limit_seconds, what=lambda: f"the demo's end\n{self.output}")
        assert self._process is not None
        return int(self._process.returncode)

    def end(self) -> None:
        """Whatever a failed test left: asked first, so that hosts remove their containers."""
        if self._process is None or self.has_ended:
            return
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="session")
def engine() -> EngineHandle:
    return engine_ensure(report=print)


@pytest.fixture
def demo(tmp_path: Path, engine: EngineHandle) -> Iterator[DemoRun]:
    run = DemoRun(tmp_path, engine)
    yield run
    run.end()
