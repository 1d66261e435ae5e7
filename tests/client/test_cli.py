"""The `nexa` command of a researcher: login, submit, jobs, result, verify. What it prints, where it keeps things, how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import secrets
import signal
import stat
import subprocess
import termios
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django.db import transaction

from client.api import PortalApi
from client.cli import main
from client.settings import Login, login_load, login_path, login_save
from client.verification import bundle_verify
from jobs.models import Job
from jobs.services.closing import job_fail
from people.models import Scope
from tests.client import bundle_parts as parts
from tests.client.live_portal import CHECKOUT, LivePortal
from tests.client.scripted_portal import Answer, Asked, json_answer, scripted_portal
from tests.factories.jobs import descriptor_make
from tests.services import COORDINATOR_KEY_RAW
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey

COORDINATOR = PrivateKey.from_raw(COORDINATOR_KEY_RAW).public.key_id
HOST_NEXA = CHECKOUT / ".venv-host" / "bin" / "nexa"
TOKEN = "nexa_" + "t" * 43
JOB = {"id": "0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02", "job_id": "label", "state": "completed"}


def nexa(*arguments: str | Path, given: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)


def error_line(result: Result) -> str:
    """The one line on standard error of a command that ended with status 1."""
    assert result.exit_code == 1, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit), result.exception
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def token(portal: LivePortal) -> str:
    """A researcher who has logged in; returns the token."""
    _, secret = portal.researcher()
    login_save(Login(portal.origin, secret, COORDINATOR))
    return secret


def descriptor_write(folder: Path, **overrides: Any) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(descriptor_make(job_id=f"cli-{secrets.token_hex(4)}", **overrides)))
    return path


# --- login ---------------------------------------------------------------------------------------------------------------


def test_login_keeps_the_token_privately_and_never_shows_it(portal: LivePortal) -> None:
    _, secret = portal.researcher()
    done = nexa("login", f"{portal.origin}/", given=f"{secret}\n")
    assert done.exit_code == 0, done.output
    assert secret not in done.output
    assert COORDINATOR in done.output
    assert login_load() == Login(portal.origin, secret, COORDINATOR)
    assert stat.S_IMODE(login_path().stat().st_mode) == 0o600


def test_login_of_a_real_process_has_the_token_in_no_argument(portal: LivePortal, tmp_path: Path) -> None:
    """As typed, with the token on standard input, in a host's environment without Django."""
    _, secret = portal.researcher()
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "kept")}
    done = subprocess.run(
        [HOST_NEXA, "login", portal.origin, "--coordinator", COORDINATOR],
        input=f"{secret}\n",
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    listed = subprocess.run([HOST_NEXA, "jobs", "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout)["jobs"] == []
    assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()] == ["client.json"]


def test_token_typed_at_a_terminal_is_not_shown(portal: LivePortal, tmp_path: Path) -> None:
    _, secret = portal.researcher()
    ours, theirs = pty.openpty()
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "kept"), "TERM": "dumb"}
    with subprocess.Popen(
        [HOST_NEXA, "login", portal.origin],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 -- makes it the terminal that getpass opens
    ) as typing:
        os.close(theirs)
        shown = b""
        while b"API token" not in shown:
            shown += os.read(ours, 1000)
        limit = time.monotonic() + 10
        while termios.tcgetattr(ours)[3] & termios.ECHO and time.monotonic() < limit:  # it turns the echo off after the prompt's text
            time.sleep(0.01)
        os.write(ours, f"{secret}\n".encode())
        with contextlib.suppress(OSError):  # Linux ends a terminal whose other side is gone with EIO
            while piece := os.read(ours, 1000):
                shown += piece
    os.close(ours)
    assert typing.returncode == 0, shown
    assert b"Kept in" in shown
    assert secret.encode() not in shown


def test_no_command_takes_a_token_as_an_argument() -> None:
    """Process lists and shell histories are read by others. (`nexa join` takes a one-time token, or a file.)"""
    for name in ("login", "submit", "jobs", "result", "verify"):
        command = main.commands[name]
        assert not [each.name for each in command.params if "token" in (each.name or "") or "password" in (each.name or "")], name


def test_wrong_token_is_told_at_login_and_not_kept(portal: LivePortal) -> None:
    line = error_line(nexa("login", portal.origin, given=f"{TOKEN}\n"))
    assert "token_unknown" in line
    assert TOKEN not in line
    assert not login_path().exists()


def test_login_refuses_a_portal_with_another_coordinator_key_before_asking_for_the_token(portal: LivePortal) -> None:
    done = nexa("login", portal.origin, "--coordinator", digest_of(b"other"), given="nexa_x\n")
    assert "Don't use this portal" in error_line(done)
    assert "API token" not in done.stdout
    assert not login_path().exists()


def test_login_refuses_a_key_id_that_is_none(portal: LivePortal) -> None:
    assert "digest_malformed" in error_line(nexa("login", portal.origin, "--coordinator", "sha256:abc"))


def test_login_over_plain_http_to_another_machine_needs_to_be_wanted() -> None:
    assert "--plain-http" in error_line(nexa("login", "http://portal.example", given="nexa_x\n"))
    assert "can't be reached" in error_line(nexa("login", "http://192.0.2.1.invalid", "--plain-http", given="nexa_x\n"))


def test_login_to_what_is_no_address_is_refused() -> None:
    assert "https://host" in error_line(nexa("login", "portal.example"))
    assert "can't be reached" in error_line(nexa("login", "https://foo..bar"))


# --- submit and jobs -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("token")
def test_submit_uploads_and_prints_label_id_and_state(tmp_path: Path, portal: LivePortal) -> None:
    (tmp_path / "a.txt").write_bytes(secrets.token_bytes(20))
    path = descriptor_write(tmp_path, input_files=["a.txt"])
    done = nexa("submit", path, "--no-watch")
    assert done.exit_code == 0, done.output
    [line] = done.output.strip().splitlines()
    label = json.loads(path.read_text())["job_id"]
    assert line.startswith(f"{label}: ")
    assert line.endswith("(queued)")
    assert nexa("submit", path, "--no-watch").output.split() == done.output.split()  # the same again is the same job
    listed = nexa("jobs")
    assert label in listed.output
    assert nexa("jobs", "--state", "completed").output.count(label) == 0
    assert json.loads(nexa("jobs", "--json").output)["jobs"][0]["job_id"] == label


@pytest.mark.usefixtures("token")
def test_watched_job_that_completes_ends_with_status_0(tmp_path: Path, portal: LivePortal) -> None:
    path = descriptor_write(tmp_path, verification={"copies": 2, "quorum": 2})
    job_id = nexa("submit", path, "--no-watch").output.split()[1]
    portal.job_complete(job_id)
    done = nexa("jobs", job_id, "--watch")
    assert done.exit_code == 0, done.output
    assert "job.completed" in done.output
    assert f"nexa result {job_id}" in done.output
    again = nexa("submit", path)  # idempotent: the same job, which has ended
    assert (again.exit_code, "completed" in again.output) == (0, True)
    assert json.loads(nexa("jobs", job_id, "--json").output)["state"] == "completed"


@pytest.mark.usefixtures("token")
def test_watched_job_that_fails_ends_with_status_1_and_says_why(tmp_path: Path, portal: LivePortal) -> None:
    path = descriptor_write(tmp_path)
    job_id = nexa("submit", path, "--no-watch").output.split()[1]
    with portal.database(), transaction.atomic():
        job_fail(job=Job.objects.get(pk=job_id), code="exit_nonzero", message="The container ended with exit code 3.")
    line = error_line(nexa("submit", path))
    assert "exit code 3" in line
    assert "(exit_nonzero)" in line


@pytest.mark.usefixtures("token")
def test_refusal_is_one_line_with_the_portals_code(tmp_path: Path, portal: LivePortal) -> None:
    line = error_line(nexa("submit", descriptor_write(tmp_path, surprise=True)))
    assert "descriptor_invalid" in line
    assert "surprise" in line


def test_missing_scope_is_one_line_with_its_code(tmp_path: Path, portal: LivePortal) -> None:
    _, secret = portal.researcher(Scope.JOBS_READ)
    login_save(Login(portal.origin, secret, COORDINATOR))
    line = error_line(nexa("submit", descriptor_write(tmp_path), "--no-watch"))
    assert "scope_missing" in line
    assert secret not in line


@pytest.mark.usefixtures("token")
def test_missing_input_is_one_line(tmp_path: Path) -> None:
    assert "neither" in error_line(nexa("submit", descriptor_write(tmp_path, input_files=["none.txt"])))


@pytest.mark.parametrize("arguments", [("jobs",), ("result", JOB["id"]), ("submit", "job.json")])
def test_portal_away_is_one_line(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    descriptor_write(tmp_path)
    login_save(Login("http://127.0.0.1:9", TOKEN, COORDINATOR))
    line = error_line(nexa(*arguments))
    assert "can't be reached" in line
    assert TOKEN not in line
    assert not list(tmp_path.glob("*.zip*"))


@pytest.mark.parametrize("arguments", [("jobs",), ("result", JOB["id"]), ("jobs", JOB["id"])])
def test_without_a_login_every_command_says_how_to_log_in(arguments: tuple[str, ...]) -> None:
    assert "nexa login" in error_line(nexa(*arguments))


@pytest.mark.parametrize(
    "arguments", [("jobs", "--watch"), ("jobs", JOB["id"], "--state", "queued"), ("submit", "none.json"), ("verify", "none.zip")]
)
def test_wrong_command_line_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    assert nexa(*arguments).exit_code == 2


@pytest.mark.usefixtures("token")
def test_job_of_somebody_else_is_not_found() -> None:
    assert "not_found" in error_line(nexa("jobs", JOB["id"]))


def test_list_shows_whole_ids_even_where_lines_are_short() -> None:
    found = JOB | {"job_id": "a-label-of-some-length", "tier": "gpu-tier1", "submitted_at": "2026-01-02T03:04:05.678901Z"}
    with scripted_portal(lambda _: json_answer({"jobs": [found], "next": None})) as fake:
        login_save(Login(fake.origin, TOKEN, COORDINATOR))
        assert JOB["id"] in nexa("jobs").output


def test_list_goes_on_where_a_page_ended() -> None:
    def script(asked: Asked) -> Answer:
        return json_answer({"jobs": [JOB], "next": None if "before=" in asked.path else "abc123"})

    with scripted_portal(script) as fake:
        login_save(Login(fake.origin, TOKEN, COORDINATOR))
        assert "nexa jobs --before abc123" in nexa("jobs").output
        assert "--before" not in nexa("jobs", "--before", "abc123", "--state", "completed").output
    assert fake.asked[-1].path in {"/api/v1/jobs?state=completed&before=abc123", "/api/v1/jobs?before=abc123&state=completed"}


@pytest.mark.usefixtures("token")
def test_interrupted_watch_says_that_the_job_goes_on(tmp_path: Path, portal: LivePortal) -> None:
    found = nexa("submit", descriptor_write(tmp_path), "--no-watch").output.split()[1]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"], "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([HOST_NEXA, "jobs", found, "--watch"], env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        while "job.queued" not in watching.stdout.readline():
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        rest = watching.stdout.read()
    assert watching.returncode == 130
    assert f"The job goes on. Follow it again: nexa jobs {found} --watch" in rest


# --- result and verify ---------------------------------------------------------------------------------------------------


@pytest.fixture
def job_id(token: str, tmp_path: Path, portal: LivePortal) -> str:
    """A completed job of the researcher who has logged in."""
    path = descriptor_write(tmp_path, verification={"copies": 2, "quorum": 2})
    found = nexa("submit", path, "--no-watch").output.split()[1]
    portal.job_complete(found)
    return found


def test_result_is_downloaded_verified_and_verifies_again_offline(
    job_id: str, tmp_path: Path, portal: LivePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = nexa("result", job_id)
    assert done.exit_code == 0, done.output
    [path] = tmp_path.glob("*.zip*")
    assert path.name.endswith(".nexa.zip")
    assert "2 accepted replicas, quorum 2" in done.output
    assert "credits" in done.output
    login_path().unlink()
    offline = nexa("verify", path.name, "--coordinator", COORDINATOR)
    assert offline.exit_code == 0, offline.output
    assert offline.output.splitlines()[0].startswith("verified cli-")
    assert bundle_verify(path, coordinator_key_id=COORDINATOR).job_id == job_id
    assert "--coordinator" in error_line(nexa("verify", path.name))


def test_verify_uses_the_key_pinned_at_login_and_no_network(job_id: str, tmp_path: Path, portal: LivePortal) -> None:
    out = tmp_path / "mine.zip"
    assert nexa("result", job_id, "--out", out).exit_code == 0
    login_save(Login("http://127.0.0.1:9", TOKEN, COORDINATOR))
    assert nexa("verify", out).exit_code == 0
    assert "coordinator_wrong" in error_line(nexa("verify", out, "--coordinator", digest_of(b"other")))
    assert "digest_malformed" in error_line(nexa("verify", out, "--coordinator", "sha256:x"))


@pytest.mark.parametrize("member", ["replica-1/archive.tar", "replica-1/receipt.json", "replica-2/order.json", "bundle.json"])
def test_verify_refuses_a_result_after_one_byte_was_changed(job_id: str, tmp_path: Path, member: str) -> None:
    out = tmp_path / "mine.zip"
    assert nexa("result", job_id, "--out", out).exit_code == 0
    with zipfile.ZipFile(out) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    middle = len(members[member]) // 2
    members[member] = members[member][:middle] + bytes([members[member][middle] ^ 1]) + members[member][middle + 1 :]
    line = error_line(nexa("verify", parts.zip_write(out, members)))
    assert line.endswith(")")  # the code


@pytest.mark.usefixtures("token")
def test_result_of_an_open_job_is_refused_with_its_code_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = nexa("submit", descriptor_write(tmp_path), "--no-watch").output.split()[1]
    assert "result_unavailable" in error_line(nexa("result", found))
    assert not list(tmp_path.glob("*.zip*"))


def test_result_that_can_not_be_written_is_one_line(job_id: str, tmp_path: Path) -> None:
    assert "No such file" in error_line(nexa("result", job_id, "--out", tmp_path / "none" / "x.zip"))


def _result_script(bundle: bytes, label: str = "label") -> Callable[[Asked], Answer]:
    def script(asked: Asked) -> Answer:
        if asked.path.endswith("/bundle"):
            return Answer(200, bundle)
        return json_answer({**JOB, "job_id": label, "key_id": COORDINATOR})

    return script


def test_refused_result_does_not_get_its_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it replace a good one that is there."""
    monkeypatch.chdir(tmp_path)
    Path("label.nexa.zip").write_bytes(b"the good one")
    with scripted_portal(_result_script(b"PK garbage")) as fake:
        login_save(Login(fake.origin, TOKEN, COORDINATOR))
        line = error_line(nexa("result", JOB["id"]))
    assert "(bundle_invalid)" in line
    assert "kept as label.nexa.zip.part" in line
    assert Path("label.nexa.zip").read_bytes() == b"the good one"
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["label.nexa.zip", "label.nexa.zip.part"]


@pytest.mark.parametrize(
    ("label", "name"),
    [("../../escape", "_.._escape.nexa.zip"), ("/etc/x", "_etc_x.nexa.zip"), ("...", "result.nexa.zip"), ("a b\x1b", "a_b_.nexa.zip")],
)
def test_label_can_not_choose_where_the_result_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, name: str) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with scripted_portal(_result_script(b"garbage", label)) as fake:
        login_save(Login(fake.origin, TOKEN, COORDINATOR))
        error_line(nexa("result", JOB["id"]))
    assert [path.relative_to(folder).as_posix() for path in tmp_path.rglob("*.zip.part")] == [f"{name}.part"]


def test_result_without_a_pinned_key_says_that_the_portal_is_believed(job_id: str, tmp_path: Path, portal: LivePortal) -> None:
    known = login_load()
    login_save(Login(known.origin, known.token, ""))
    done = nexa("result", job_id, "--out", tmp_path / "x.zip")
    assert done.exit_code == 0, done.output
    assert "No coordinator's key is pinned" in done.output


def test_names_in_a_bundle_can_not_drive_the_terminal(tmp_path: Path) -> None:
    runs = [parts.run_make(tmp_path, number, key) for number, key in enumerate(parts.NODES, start=1)]
    index = parts.index_make(runs)
    index["replicas"][0]["node_name"] = "\x1b[2J[red]\n  evil: verified"
    path = parts.zip_write(tmp_path / "b.zip", parts.sealed(parts.members_make(runs, index)))
    done = nexa("verify", path, "--coordinator", parts.COORDINATOR.public.key_id)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert "?[2J[red]?  evil: verified" in done.output


def test_token_from_the_environment_works_without_any_file(portal: LivePortal, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = portal.researcher()
    monkeypatch.setenv("NEXA_PORTAL", portal.origin)
    monkeypatch.setenv("NEXA_TOKEN", secret)
    assert json.loads(nexa("jobs", "--json").output) == PortalApi(portal.origin, secret).jobs()
    assert not login_path().exists()
