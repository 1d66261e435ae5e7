"""Which portal and token a command uses, and how the login file is kept."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.settings import Login, LoginMissingError, coordinator_key_id_pinned, login_load, login_path, login_save

LOGIN = Login("https://portal.example", "nexa_" + "s" * 43, "sha256:" + "ab" * 32)


def test_login_is_kept_for_its_owner_only_and_read_again() -> None:
    path = login_save(LOGIN)
    assert path == login_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert login_load() == LOGIN
    assert [one.name for one in path.parent.iterdir()] == ["client.json"]


def test_login_saved_over_a_file_that_others_could_read_is_private_again() -> None:
    path = login_path()
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    path.chmod(0o644)
    login_save(LOGIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert login_load() == LOGIN


def test_login_file_that_others_may_read_is_refused() -> None:
    login_save(LOGIN).chmod(0o640)
    with pytest.raises(LoginMissingError, match="chmod 600") as caught:
        login_load()
    assert LOGIN.token not in str(caught.value)


def test_login_that_can_not_be_written_says_so() -> None:
    login_path().parent.parent.mkdir(parents=True, exist_ok=True)
    login_path().parent.write_text("a file where the folder should be")
    with pytest.raises(LoginMissingError, match="can't be written"):
        login_save(LOGIN)


def test_failed_save_leaves_the_old_login_and_no_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    path = login_save(LOGIN)
    with pytest.raises(TypeError):
        login_save(Login("https://other.example", object(), ""))  # type: ignore[arg-type]
    assert login_load() == LOGIN
    assert [one.name for one in path.parent.iterdir()] == ["client.json"]


def test_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    login_save(LOGIN)
    monkeypatch.setenv("NEXA_PORTAL", "https://other.example")
    monkeypatch.setenv("NEXA_TOKEN", "nexa_env")
    assert login_load() == Login("https://other.example", "nexa_env", "")
    monkeypatch.setenv("NEXA_COORDINATOR", "sha256:" + "cd" * 32)
    assert login_load().coordinator_key_id == coordinator_key_id_pinned() == "sha256:" + "cd" * 32


def test_token_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("nexa_file\n")
    monkeypatch.setenv("NEXA_PORTAL", "https://other.example")
    monkeypatch.setenv("NEXA_TOKEN_FILE", str(tmp_path / "token"))
    assert login_load().token == "nexa_file"


def test_token_file_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXA_PORTAL", "https://other.example")
    monkeypatch.setenv("NEXA_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(LoginMissingError, match="NEXA_TOKEN_FILE names"):
        login_load()


def test_portal_without_a_token_does_not_borrow_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept token belongs to another portal."""
    login_save(LOGIN)
    monkeypatch.setenv("NEXA_PORTAL", "https://evil.example")
    with pytest.raises(LoginMissingError, match="without a token"):
        login_load()


def test_nothing_known_says_how_to_log_in() -> None:
    with pytest.raises(LoginMissingError, match="nexa login"):
        login_load()


def test_pinned_key_needs_no_token_and_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoginMissingError, match="--coordinator"):
        coordinator_key_id_pinned()
    login_save(LOGIN)
    assert coordinator_key_id_pinned() == LOGIN.coordinator_key_id
    login_save(Login(LOGIN.origin, LOGIN.token, ""))
    with pytest.raises(LoginMissingError, match="pins no coordinator's key"):
        coordinator_key_id_pinned()
    monkeypatch.setenv("NEXA_COORDINATOR", "sha256:" + "ef" * 32)
    assert coordinator_key_id_pinned() == "sha256:" + "ef" * 32


def test_repr_of_a_login_hides_the_token() -> None:
    assert LOGIN.token not in repr(LOGIN)


def _written(content: bytes) -> None:
    path = login_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"origin": "x", "token": "nexa_secret"}).encode(),
        json.dumps({"origin": 1, "token": "nexa_secret", "coordinator_key_id": ""}).encode(),
    ],
)
def test_damaged_login_file_is_refused_without_its_content(content: bytes) -> None:
    _written(content)
    with pytest.raises(LoginMissingError, match="nexa login") as caught:
        login_load()
    assert "nexa_secret" not in str(caught.value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=100))
def test_login_file_of_any_bytes_raises_nothing_else(tmp_path: Path, content: bytes) -> None:
    _written(content)
    with pytest.raises(LoginMissingError):
        login_load()
