"""The soak of `make soak`, small: real containers on two hosts, something killed every other second, and the books balance."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.soak import SoakPlan, soak
from devstack.engine import engine_ensure

pytestmark = [pytest.mark.acceptance, pytest.mark.docker, pytest.mark.timeout(600)]


def test_jobs_complete_and_are_paid_once_whatever_is_killed(tmp_path: Path) -> None:
    plan = SoakPlan(jobs=30, seed=7, every_seconds=2.0)
    report = soak(plan, folder=tmp_path, engine=engine_ensure(report=print), console=Console())
    assert report.kills.total() >= 5
    assert report.faults == []
