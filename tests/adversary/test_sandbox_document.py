"""docs/sandbox.md names a test for each promise: they are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_test_that_the_document_names_exists() -> None:
    named: list[tuple[str, str]] = []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)?::(test_\w+)`", (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")):
        named.append((path or named[-1][0], name))  # a name without a file is of the file before
    assert len(named) > 15
    assert [each for each in named if f"def {each[1]}(" not in (ROOT / each[0]).read_text(encoding="utf-8")] == []
