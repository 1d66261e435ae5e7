"""`make up` and `make down`: the development stack in the background, and `nexa` with the environment file that it writes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.stack import CHECKOUT, HOST_BIN, SERVER_BIN
from nexaportal.embedded import data_root
from tests.acceptance.conftest import KEPT

pytestmark = [pytest.mark.acceptance]


class Background:
    """A stack with its own state folder: a developer's own `make up` is not touched."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._environment = {name: os.environ[name] for name in KEPT if name in os.environ}

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        command = ["make", target, f"ARGS=--state {self.state}"]
        return subprocess.run(command, cwd=CHECKOUT, env=self._environment, capture_output=True, text=True, timeout=150, check=False)

    def nexa(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`nexa` in a shell that has sourced dev.env."""
        return self._with("dev.env", str(HOST_BIN / "nexa"), *arguments)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`manage.py` in a shell that has sourced manage.env."""
        return self._with("manage.env", str(SERVER_BIN / "python"), "manage.py", *arguments)

    def _with(self, settings: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", 'set -a; source "$0"; exec "$@"', str(self.state / settings), *arguments]
        return subprocess.run(command, cwd=CHECKOUT, env=self._environment, capture_output=True, text=True, timeout=60, check=False)

    def setting(self, name: str) -> str:
        lines = (self.state / "dev.env").read_text().splitlines()
        (found,) = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
        return found

    def processes(self) -> list[str]:
        """Processes that have the state folder on their command line or in their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.state).encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue  # ended meanwhile
        return found


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    state = tmp_path / "state"
    found = Background(state)
    yield found
    if (state / "dev.pid").exists():
        os.kill(int((state / "dev.pid").read_text()), signal.SIGTERM)
        found.make("down")
    shutil.rmtree(data_root("dev", state), ignore_errors=True)


def test_stack_comes_up_serves_nexa_keeps_its_data_and_goes_down(background: Background) -> None:
    up = background.make("up")

    assert up.returncode == 0, up.stderr
    assert background.setting("NEXA_PORTAL") in up.stdout
    assert f". {background.state / 'manage.env'};" in up.stdout
    assert [(background.state / name).stat().st_mode & 0o777 for name in ("dev.env", "manage.env")] == [0o600, 0o600]
    roles = background.manage("database_roles")
    assert roles.returncode == 0, f"only the owner of the tables may grant rights to them: {roles.stderr}"
    books = background.manage("ledger_verify")
    assert books.returncode == 0, books.stdout + books.stderr
    jobs = background.nexa("jobs")
    assert jobs.returncode == 0, jobs.stderr
    key_id, portal = background.setting("NEXA_COORDINATOR"), background.setting("NEXA_PORTAL")
    assert background.make("up").returncode == 0
    assert background.setting("NEXA_PORTAL") == portal, "a second `make up` must find the first one's stack"

    down = background.make("down")

    assert (down.returncode, down.stdout.strip().splitlines()[-1]) == (0, "Stopped.")
    assert not background.processes()
    assert not [*background.state.glob("*.env")]
    assert background.make("up").returncode == 0
    assert background.setting("NEXA_COORDINATOR") == key_id
    assert background.nexa("jobs").returncode == 0
    assert background.make("down").returncode == 0


def test_down_with_nothing_running_says_so(background: Background) -> None:
    down = background.make("down")

    assert (down.returncode, down.stdout.strip()) == (0, "Nothing runs.")
