"""Auditing logs that a test has made as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from client.audit.auditing import Report, log_audit
from client.audit.folder_source import FolderSource
from client.audit.last_run import Memory
from tests.factories.logs import COORDINATOR, Leaf, log_write

Audit = Callable[..., Report]


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "state")


@pytest.fixture
def audit(tmp_path: Path, memory: Memory) -> Audit:
    """Audits a folder; or leaves, which it writes as a signed log first. Each call is one run of the same auditor."""
    runs = iter(range(100))

    def audited(what: Path | Iterable[Leaf | bytes], *, pinned: str | None = COORDINATOR.public.key_id) -> Report:
        run = tmp_path / f"run-{next(runs)}"
        (run / "work").mkdir(parents=True)
        if not isinstance(what, Path):
            what = log_write(run / "mirror", what).folder
        return log_audit(FolderSource(what), pinned=pinned, memory=memory, folder=run / "work")

    return audited
