"""docs/auditing.md names every code, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from client.audit.findings import FindingCode

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "auditing.md"


def test_every_code_is_explained_once() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    named = [code for row in rows for code in re.findall(r"[a-z_]+", row)]
    assert sorted(named) == sorted(code.value for code in FindingCode)
