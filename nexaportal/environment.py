"""Reading the process environment: the only module that does so for the coordinator. Values are typed, errors name their variable."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

from workers.protocol.version import version_numbers


class ConfigurationError(Exception):
    """A setting is missing or malformed; the message names the variable, what was expected and what was found."""


def text(name: str, default: str | None = None) -> str:
    """The value of `name`, or of the file named by `name` + `_FILE` (for secrets), or `default`; raises ConfigurationError without one."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{name}_FILE names {path!r}, which can't be read: {error.strerror}") from error
    value = os.environ.get(name, default)
    if value is None:
        raise ConfigurationError(f"{name} is not set; nexaportal/settings.py says what it is for")
    return value


def number(name: str, default: float) -> float:
    """A number of at least 0."""
    found = os.environ.get(name)
    try:
        value = default if found is None else float(found)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(f"{name}: expected a number of at least 0, found {found!r}")
    return value


def integer(name: str, default: int) -> int:
    """A whole number of at least 0."""
    value = number(name, default)
    if value != int(value):
        raise ConfigurationError(f"{name}: expected a whole number, found {value}")
    return int(value)


def boolean(name: str, default: bool) -> bool:
    """`1` or `0`."""
    value = os.environ.get(name, "1" if default else "0")
    if value not in ("0", "1"):
        raise ConfigurationError(f"{name}: expected 0 or 1, found {value!r}")
    return value == "1"


def choice(name: str, default: str, among: Collection[str]) -> str:
    """One of some words."""
    value = os.environ.get(name, default)
    if value not in among:
        raise ConfigurationError(f"{name}: expected one of {', '.join(among)}, found {value!r}")
    return value


def listing(name: str, default: str = "") -> list[str]:
    """Comma-separated words; empty when unset."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def version(name: str, default: str) -> str:
    """Numbers with dots between them, such as `1.2.0`; empty when set to nothing."""
    value = text(name, default)
    if value and version_numbers(value) is None:
        raise ConfigurationError(f"{name}: expected one to four numbers with dots between, or nothing, found {value!r}")
    return value


def documents(name: str) -> list[dict[str, str]]:
    """A JSON list of objects whose values are texts, also from the file named by `name` + `_FILE`; empty when unset or an empty text."""
    found = text(name, "[]") or "[]"
    try:
        value = json.loads(found)
    except ValueError as error:
        raise ConfigurationError(f"{name}: expected a JSON list of objects, found no JSON: {error}") from error
    well_formed = isinstance(value, list) and all(
        isinstance(one, dict) and all(isinstance(part, str) for part in one.values()) for one in value
    )
    if not well_formed:
        raise ConfigurationError(f"{name}: expected a JSON list of objects whose values are texts, found {type(value).__name__}")
    return list(value)
