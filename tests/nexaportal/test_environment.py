"""Reading the environment: each kind of value, and an error that names its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexaportal import environment
from nexaportal.environment import ConfigurationError


def test_text_comes_from_the_variable_the_default_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert environment.text("NEXA_PROBE", "fallback") == "fallback"
    monkeypatch.setenv("NEXA_PROBE", "value")
    assert environment.text("NEXA_PROBE", "fallback") == "value"
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    monkeypatch.setenv("NEXA_PROBE_FILE", str(secret))
    assert environment.text("NEXA_PROBE") == "from a file"


def test_a_missing_text_names_its_variable() -> None:
    with pytest.raises(ConfigurationError, match="NEXA_PROBE is not set"):
        environment.text("NEXA_PROBE")


def test_an_unreadable_file_names_variable_and_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXA_PROBE_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"NEXA_PROBE_FILE names .*none.*can't be read"):
        environment.text("NEXA_PROBE")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "many", ""])
def test_what_is_no_number_of_at_least_0_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NEXA_PROBE", text)
    with pytest.raises(ConfigurationError, match="NEXA_PROBE: expected a number"):
        environment.number("NEXA_PROBE", 1)


def test_an_integer_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.integer("NEXA_PROBE", 3) == 3
    monkeypatch.setenv("NEXA_PROBE", "2.5")
    with pytest.raises(ConfigurationError, match=r"expected a whole number, found 2\.5"):
        environment.integer("NEXA_PROBE", 3)


def test_a_boolean_is_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.boolean("NEXA_PROBE", True) is True
    monkeypatch.setenv("NEXA_PROBE", "0")
    assert environment.boolean("NEXA_PROBE", True) is False
    monkeypatch.setenv("NEXA_PROBE", "yes")
    with pytest.raises(ConfigurationError, match="expected 0 or 1, found 'yes'"):
        environment.boolean("NEXA_PROBE", True)


def test_a_listing_is_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.listing("NEXA_PROBE") == []
    monkeypatch.setenv("NEXA_PROBE", " a, b ,,c ")
    assert environment.listing("NEXA_PROBE") == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["v2", "2.0-rc1", "two", "1."])
def test_what_is_no_version_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NEXA_PROBE", text)
    with pytest.raises(ConfigurationError, match="NEXA_PROBE: expected one to four numbers"):
        environment.version("NEXA_PROBE", "1.0")


@pytest.mark.parametrize("text", ["", "2", "1.2.3"])
def test_a_version_is_numbers_or_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NEXA_PROBE", text)
    assert environment.version("NEXA_PROBE", "1.0") == text


def test_a_choice_is_one_of_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.choice("NEXA_PROBE", "open", ("open", "closed")) == "open"
    monkeypatch.setenv("NEXA_PROBE", "ajar")
    with pytest.raises(ConfigurationError, match="NEXA_PROBE: expected one of open, closed, found 'ajar'"):
        environment.choice("NEXA_PROBE", "open", ("open", "closed"))
