"""Every document of the repository: what it links to is there, and so is each file, test, command and target that it names.

Decisions (docs/adr/) tell what held when they were made: of them only the links are looked at.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from nexaportal.docs import anchor_of

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
PRESENT: Final = [name for name in DOCUMENTS if not name.startswith("docs/adr/") and name != "CHANGELOG.md"]
FOLDERS: Final = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != "var")


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def anchors_of(name: str) -> frozenset[str]:
    headings = re.findall(r"^#+ (.*)$", text_of(name), re.MULTILINE)
    return frozenset(anchor_of(re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", words)) for words in headings)


def prose_of(name: str) -> str:
    """Without fenced blocks, which hold other languages."""
    return re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_link_leads_to_a_file_and_a_heading_that_is_there(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(name)):
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name} links to {target}: there is no such file"
        if anchor:
            anchors = anchors_of(str(file.resolve().relative_to(ROOT.resolve())))
            assert anchor in anchors, f"{name} links to {target}: there is no such heading"


@pytest.mark.parametrize("name", PRESENT)
def test_each_file_that_is_named_is_there(name: str) -> None:
    named = [path for path in re.findall(r"`([\w./-]+(?:\.\w+|/))(?:::\w+)?`", prose_of(name)) if path.startswith(FOLDERS)]
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == [], f"{name} names files that are not there"


@pytest.mark.parametrize("name", PRESENT)
def test_each_test_that_is_named_is_there(name: str) -> None:
    file = ""
    for path, test in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", text_of(name)):
        file = path or file  # a test without a file is of the file before
        if test:
            found = re.search(rf"^ *(async )?(def|class) {test}\b", text_of(file), re.MULTILINE)
            assert found, f"{name} names {file}::{test}: there is no such test"


@pytest.mark.parametrize("name", PRESENT)
def test_each_command_and_target_that_is_named_is_there(name: str) -> None:
    commands = {path.stem for path in ROOT.glob("*/management/commands/*.py")}
    named = set(re.findall(r"\bmanage(?:\.py)? ([a-z]+(?:_[a-z]+)+)\b", text_of(name)))  # ours have two words, Django's one
    assert named <= commands, f"{name} names management commands that are not there"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)\b", text_of(name))) <= targets, f"{name} names targets of make that are not there"


def test_documents_name_much() -> None:
    """That the patterns above find anything."""
    assert len(DOCUMENTS) > 40
    for name, count in (("docs/threat-model.md", 40), ("docs/sandbox.md", 15)):
        assert len(re.findall(r"`(?:tests/[\w/]+\.py)?::\w+`", text_of(name))) > count, name
