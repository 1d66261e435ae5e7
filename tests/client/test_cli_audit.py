"""`nexa audit`: what it prints, how it ends, whom it believes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.cli import main
from client.settings import Login, login_save
from tests.client.scripted_portal import Answer, scripted_portal
from tests.factories.logs import COORDINATOR, ORIGIN, LogFolder, LogMaker, log_make, log_write
from workers.protocol.canonical import canonical_json
from workers.protocol.keys import PrivateKey

KEY_ID = COORDINATOR.public.key_id
STRANGER_ID = PrivateKey.from_raw(b"\x77" * 32).public.key_id


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def mirror(tmp_path: Path) -> LogFolder:
    return log_write(tmp_path / "mirror", log_make().leaves)


def nexa_audit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *(str(argument) for argument in arguments)])


def test_a_clean_log_is_summed_up_and_ends_with_0(mirror: LogFolder) -> None:
    done = nexa_audit(mirror.folder, "--coordinator", KEY_ID)
    assert done.exit_code == 0, done.output
    assert f"audited portal.example/ledger at {mirror.folder}: {mirror.size} leaves" in done.output
    assert KEY_ID in done.output
    assert "first audit of this log here" in done.output
    assert "9 payments of 9.000000 credits" in done.output
    assert done.output.rstrip().endswith("nothing wrong found")
    assert "warning" not in done.output
    assert f"compared with the {mirror.size} leaves" in nexa_audit(mirror.folder, "--coordinator", KEY_ID).output


def test_findings_are_named_and_end_with_1(tmp_path: Path) -> None:
    log = log_make()
    log.leaves[0]["postings"][1]["amount_micro"] = "1000000001"
    done = nexa_audit(log_write(tmp_path / "mirror", log.leaves).folder, "--coordinator", KEY_ID)
    assert done.exit_code == 1
    assert "postings_unbalanced: leaf 0: Entry 1: its postings sum to 1 instead of 0." in done.output
    assert done.output.rstrip().endswith("1 finding")


def test_many_findings_of_a_code_are_counted(tmp_path: Path) -> None:
    done = nexa_audit(log_write(tmp_path / "mirror", [b"{}"] * 150).folder, "--coordinator", KEY_ID)
    assert done.exit_code == 1
    assert "leaf_malformed: 150 in all" in done.output
    assert done.output.rstrip().endswith("150 findings")


def test_a_fork_shows_both_signed_notes(tmp_path: Path) -> None:
    log = LogMaker()
    for amount in range(1, 5):
        log.grant(log.uuid(), amount)
    assert nexa_audit(log_write(tmp_path / "before", log.leaves).folder, "--coordinator", KEY_ID).exit_code == 0
    log.leaves[0]["evidence"]["reason"] = "another"
    done = nexa_audit(log_write(tmp_path / "after", log.leaves).folder, "--coordinator", KEY_ID)
    assert done.exit_code == 1
    assert "log_forked: " in done.output
    assert done.output.count("— portal.example/ledger ") == 2


def test_the_json_document_has_all_of_it(mirror: LogFolder, tmp_path: Path) -> None:
    done = nexa_audit(mirror.folder, "--coordinator", KEY_ID, "--json")
    document = json.loads(done.output)
    assert document.pop("seconds") >= 0
    assert len(document.pop("root")) == 64
    assert document == {
        "clean": True,
        "source": str(mirror.folder),
        "log": "portal.example/ledger",
        "coordinator": KEY_ID,
        "size": mirror.size,
        "size_before": None,
        "counts": {
            "entries": 27,
            "receipts": 9,
            "payments": 9,
            "node_keys": 3,
            "jobs_ruled": 0,
            "spot_choices": 4,
            "spot_choices_open": 0,
            "paid_micro": 9_000_000,
        },
        "findings": [],
        "finding_counts": {},
        "warnings": [],
        "proof": None,
    }
    wrong = json.loads(nexa_audit(log_write(tmp_path / "wrong", [b"{}"]).folder, "--coordinator", KEY_ID, "--json").output)
    assert wrong["clean"] is False
    assert wrong["finding_counts"] == {"leaf_malformed": 1}
    assert wrong["warnings"], "this mirror is smaller than the one before"
    assert wrong["findings"][0]["leaf"] == 0


def test_what_cannot_be_audited_ends_with_1_and_a_code(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path / "empty").folder
    done = nexa_audit(folder)
    assert done.exit_code == 1
    assert "Not audited" in done.stderr
    assert "(source_absent)" in done.stderr
    document = json.loads(nexa_audit(folder, "--json").stdout)
    assert document["clean"] is False
    assert document["error"]["code"] == "source_absent"


def test_a_wrong_command_line_ends_with_2(tmp_path: Path, mirror: LogFolder) -> None:
    assert nexa_audit(tmp_path / "nowhere").exit_code == 2
    assert nexa_audit(mirror.folder, "--coordinator", "sha256:1").exit_code == 2
    assert nexa_audit("a", "b").exit_code == 2


def test_without_an_address_the_portal_of_the_login_is_audited(mirror: LogFolder) -> None:
    done = nexa_audit()
    assert done.exit_code == 1
    assert "nexa login" in done.stderr
    with scripted_portal(lambda _: Answer(403)) as portal:
        login_save(Login(portal.origin, "token", KEY_ID))
        assert f"{portal.origin}/api/v1/coordinator answered 403" in nexa_audit().stderr


def test_the_key_pinned_at_login_counts_for_that_portal_and_its_mirrors_only(mirror: LogFolder) -> None:
    login_save(Login("https://elsewhere.example", "token", STRANGER_ID))
    assert "warning: No coordinator's key was pinned" in nexa_audit(mirror.folder).output
    login_save(Login(ORIGIN, "token", STRANGER_ID))
    done = nexa_audit(mirror.folder)
    assert done.exit_code == 1
    assert "(coordinator_wrong)" in done.stderr


def test_the_environment_pins_too_and_the_option_goes_first(mirror: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXA_COORDINATOR", STRANGER_ID)
    assert "(coordinator_wrong)" in nexa_audit(mirror.folder).stderr
    assert nexa_audit(mirror.folder, "--coordinator", KEY_ID).exit_code == 0


def test_a_hostile_log_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    log = LogMaker()
    leaf = log.grant(log.uuid(), 5)
    leaf["key"] = "\x1b[2Jgift"
    folder = log_write(tmp_path / "mirror", [canonical_json(leaf)]).folder
    done = nexa_audit(folder, "--coordinator", KEY_ID)
    assert "key_wrong" in done.output
    assert "\x1b" not in done.output


def test_a_temporary_folder_is_left_empty(mirror: LogFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert nexa_audit(mirror.folder).exit_code == 0
    assert list((tmp_path / "tmp").iterdir()) == []
