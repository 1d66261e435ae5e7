"""The systemd unit: as kept in the repository, as printed, and as systemd itself judges it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from workers.caps import WorkerSettings
from workers.celery_host import EXIT_UNUSABLE
from workers.cli_service import service
from workers.home import NodeHome
from workers.service import STOP_MARGIN_SECONDS, UNIT_NAME, ServicePlace, unit_render

KEPT = Path(__file__).parents[2] / "infra" / "host" / UNIT_NAME


def test_unit_in_the_repository_is_the_one_that_is_printed() -> None:
    assert KEPT.read_text() == unit_render(ServicePlace(), WorkerSettings())


def test_printed_unit_is_of_this_node_and_gives_it_time_to_drain(home: NodeHome) -> None:
    result = CliRunner().invoke(service, ["print", "--user", "ada", "--engine-group", "podman"], env={"NEXA_HOME": str(home.folder)})
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for line in ("User=ada", "SupplementaryGroups=podman", f'Environment="NEXA_HOME={home.folder}"', f'ReadWritePaths="{home.folder}"'):
        assert line in lines
    # The settings of the fixture's home.
    assert f"TimeoutStopSec={30 + 3 + STOP_MARGIN_SECONDS}" in lines


def test_exit_statuses_that_end_the_service_are_those_of_the_worker() -> None:
    assert f"RestartPreventExitStatus=0 {EXIT_UNUSABLE}" in KEPT.read_text().splitlines()


@pytest.mark.parametrize("home", ["/srv/100%", '/srv/"', "/srv/a\nExecStartPre=/bin/evil", "/srv/$HOME", "/srv/\\x"])
def test_path_that_would_mean_something_to_systemd_is_refused(home: str) -> None:
    with pytest.raises(ValueError, match="without %"):
        unit_render(ServicePlace(home=Path(home)), WorkerSettings())
    result = CliRunner().invoke(service, ["print", "--home", home])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_path_with_a_space_is_quoted(tmp_path: Path) -> None:
    text = unit_render(ServicePlace(home=Path("/srv/my node")), WorkerSettings())
    assert re.search(r'^ReadWritePaths="/srv/my node"$', text, re.MULTILINE)


@pytest.mark.docker  # where containers run, which is Linux with systemd's tools
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    """Its verifier checks each setting, and that the program is there: one is put in its place."""
    program = tmp_path / "nexa"
    shutil.copy("/bin/true", program)
    unit = tmp_path / UNIT_NAME
    unit.write_text(unit_render(ServicePlace(user="root", home=tmp_path, program=program, engine_group="root"), WorkerSettings()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    # What it says of units that this machine lacks (docker.service) is none of this unit's.
    about = [line for line in (done.stdout + done.stderr).splitlines() if UNIT_NAME in line]
    assert about == [], done.stderr
