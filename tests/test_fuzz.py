"""A few seconds of the fuzzing that `make fuzz` does for as long as one likes; and that it finds what is there to be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import campaign as campaigns
from tests.fuzz.campaign import campaign
from tests.fuzz.targets import Target, targets
from workers.protocol.errors import VerificationError


def test_parsers_of_strangers_bytes_raise_what_they_declare_and_nothing_else(tmp_path: Path) -> None:
    chosen = targets()
    found = campaign(chosen, seconds=4, seed=2026, folder=tmp_path)
    assert [report for one in found.values() for report in one.faults.values()] == []
    assert all(one.executions > 1 for one in found.values())


def test_fault_is_found_kept_and_told_once(tmp_path: Path) -> None:
    def run(data: bytes) -> None:
        if data != b"fine":
            raise VerificationError("declared") if len(data) % 2 else KeyError("not declared")

    target = Target("broken", (b"fine",), run)
    found = campaign([target], seconds=0.2, seed=1, folder=tmp_path)["broken"]
    assert found.executions > 10
    (report,) = found.faults.values()
    assert "KeyError" in report
    (kept,) = tmp_path.iterdir()
    assert len(kept.read_bytes()) % 2 == 0


def test_refused_seed_is_a_fault(tmp_path: Path) -> None:
    def refuse(data: bytes) -> None:
        raise VerificationError("never")

    assert list(campaign([Target("deaf", (b"x",), refuse)], seconds=0, seed=1, folder=tmp_path)["deaf"].faults) == ["seeds"]


def test_slow_input_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "SLOW_SECONDS", 0.0)
    found = campaign([Target("slow", (b"x",), len)], seconds=0, seed=1, folder=tmp_path)["slow"]
    assert list(found.faults) == ["slow"]
