"""docs/operations.md has every setting that the code reads, with its default, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
READERS: Final = {"text", "number", "integer", "boolean", "listing", "version", "choice", "documents"}
UNITS: Final = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def settings_read() -> dict[str, ast.expr | None]:
    """Name to the expression of its default, of every call of nexaportal.environment in the coordinator's code."""
    found: dict[str, ast.expr | None] = {}
    for package in ("nexaportal", "jobs", "nodes", "people", "ledger"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name("environment"), attr=reader), args=[ast.Constant(str(name)), *rest]):
                        assert reader in READERS
                        found[name] = rest[0] if rest else None
    return found


def settings_documented() -> dict[str, str]:
    """Name to what the table says of its default."""
    section = (ROOT / "docs/operations.md").read_text().split("## Settings\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(NEXA_\w+)` \| (.*?) \|", section, re.MULTILINE))


def number_of(text: str) -> float | None:
    """`256 MiB` as a number; None for what is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w*)", text)
    return float(match[1]) * UNITS[match[2]] if match else None


def evaluated(default: ast.expr | None) -> object:
    """The value of a default that is an expression of constants; None for one that is not."""
    if default is None:
        return None
    try:
        return eval(compile(ast.Expression(default), "default", "eval"), {"__builtins__": {}})  # noqa: S307  our own settings
    except NameError:
        return None


def test_the_table_has_the_settings_that_the_code_reads_and_no_others() -> None:
    assert set(settings_documented()) == set(settings_read())


def test_the_defaults_in_the_table_are_those_of_the_code() -> None:
    documented = settings_documented()
    for name, default in settings_read().items():
        said, value = documented[name], evaluated(default)
        match value:
            case int() | float():
                assert number_of(said) == float(value), name
            case "":
                assert said == "empty", name
            case str():
                assert said == f"`{value}`", name


def test_what_has_no_default_is_said_to_have_none() -> None:
    without = {name for name, default in settings_read().items() if default is None}
    said = {name for name, text in settings_documented().items() if text == "none"}
    assert said == without - {"NEXA_ALLOWED_HOSTS", "NEXA_INPUT_HOSTS", "NEXA_OPENID_PROVIDERS"}, "lists are empty by default"
