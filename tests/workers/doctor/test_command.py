"""`nexa doctor` as a whole: every check a line, advice where it is needed, and the exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.workers.portal_fake import FakePortal
from tests.workers.runtime.engines import engine_telling
from tests.workers.runtime.test_docker_profile import DOCKER, DOCKER_V2
from workers.cli_doctor import doctor
from workers.home import NodeHome

VERSION = DOCKER | {"ApiVersion": "1.41"}
NODE_CHECKS = ["portal", "clock", "coordinator key", "protocol", "settings", "key", "worker", "place", "manners", "standing"]


def invoke(home: NodeHome, *arguments: str) -> Result:
    return CliRunner().invoke(doctor, arguments, env={"NEXA_HOME": str(home.folder), "COLUMNS": "200"})


def levels(result: Result) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in json.loads(result.stdout)}


def test_healthy_node_passes(home: NodeHome, portal: FakePortal, monkeypatch: pytest.MonkeyPatch) -> None:
    home.settings_path.write_text("[lend]\ndisk_gib = 0.1\n[manners]\nhot_celsius = 150\npause_on_battery = false\n")
    with engine_telling(DOCKER_V2, VERSION) as url:
        monkeypatch.setenv("DOCKER_HOST", url)
        found = levels(invoke(home, "--json"))
        result = invoke(home)
    assert list(found) == ["python", "engine", "limits", "seccomp", "users", "storage", "disk", "gpu", *NODE_CHECKS]
    assert {check for check, level in found.items() if level != "ok"} <= {"worker", "storage"}
    assert found["worker"] == "warn"
    assert result.exit_code == 0
    assert "none runs" in result.output
    assert "Start it: `nexa worker`" in result.output


def test_sick_node_fails_and_every_other_check_is_made_all_the_same(
    home: NodeHome, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.folder / "key").chmod(0o644)
    home.settings_path.write_text("[lend]\ncores = -1\n")
    portal.clock_ahead_seconds = -3600
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    result = invoke(home, "--json")
    found = levels(result)
    assert result.exit_code == 1
    assert {check for check, level in found.items() if level == "fail"} >= {"engine", "settings", "key"}
    assert found["clock"] == "warn"
    assert found["portal"] == found["coordinator key"] == found["protocol"] == "ok"
    assert "chmod 600" in invoke(home).output


def test_copied_home_is_told_and_asks_the_portal_nothing_as_the_node(home: NodeHome, portal: FakePortal, tmp_path: Path) -> None:
    """Its exchange would supersede the session of the real worker, which would then be sent away."""
    copy = NodeHome(tmp_path / "copy")
    shutil.copytree(home.folder, copy.folder)
    found = levels(invoke(copy, "--json"))
    assert (found["place"], "standing" in found, portal.exchanges) == ("fail", False, [])


@pytest.mark.parametrize("name", ["node.json", "profile.json"])
def test_damaged_home_is_a_finding(home: NodeHome, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (home.folder / name).write_text("{")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    result = invoke(home, "--json")
    assert (result.exit_code, levels(result)["home"]) == (1, "fail")
    assert name in result.stdout


def test_machine_that_has_not_joined_is_examined_too(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home.forget()
    with engine_telling(DOCKER_V2, VERSION) as url:
        monkeypatch.setenv("DOCKER_HOST", url)
        result = invoke(home, "--json")
    found = levels(result)
    assert list(found)[-1] == "node"
    assert found["node"] == "warn"
    assert found["engine"] == "ok"
    assert result.exit_code == 0
