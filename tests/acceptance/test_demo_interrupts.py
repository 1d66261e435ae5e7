"""Ctrl-C and SIGTERM at any stage of the demo leave nothing of it on the machine."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.conftest import DemoRun
from tests.acceptance.traces import wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.docker]

GONE_SECONDS = 60.0


def _gone_expect(demo: DemoRun) -> None:
    wait_for(lambda: not demo.traces.look(), limit_seconds=GONE_SECONDS, what=lambda: f"nothing left, found {demo.traces.look()}")
    demo.wait_ended(limit_seconds=1.0)


@pytest.mark.parametrize(
    ("stage", "signum"),
    [
        ("engine: ", signal.SIGINT),
        ("image nexapod/tiny", signal.SIGTERM),
        ("starting PostgreSQL", signal.SIGINT),
        ("migrating the database", signal.SIGTERM),
        ("starting the portal", signal.SIGINT),
        ("ada-host of ada joined", signal.SIGTERM),
        ("submitted tiny-sum", signal.SIGINT),
        ("-host: running", signal.SIGTERM),
        ("-host reported", signal.SIGINT),
    ],
)
def test_demo_interrupted_at_any_stage_leaves_nothing(demo: DemoRun, stage: str, signum: signal.Signals) -> None:
    demo.start()
    demo.wait_output(stage)
    before = demo.traces.look()
    assert before["processes"], "expected to find the demo's processes: else their absence afterwards proves nothing"
    if "running" in stage:
        assert before["containers"], before

    demo.signal(signum)

    _gone_expect(demo)
    assert "stopped; nothing of the demo is left running" in demo.output
    assert "Traceback" not in demo.output


def test_demo_that_stays_up_ends_on_ctrl_c_and_keeps_the_bundle(demo: DemoRun) -> None:
    demo.start()
    demo.wait_output("until Ctrl-C")

    demo.signal(signal.SIGINT)

    _gone_expect(demo)
    assert (demo.keep / "result.nexa.zip").is_file()
    assert "Traceback" not in demo.output


def test_demo_killed_outright_leaves_no_process_and_no_container(demo: DemoRun) -> None:
    """SIGKILL can't be answered: the kernel tells the children, and end in order. Folders stay."""
    demo.start()
    demo.wait_output("-host: running")
    assert demo.traces.look()["containers"]

    demo.signal(signal.SIGKILL)

    wait_for(
        lambda: not demo.traces.processes() and not demo.traces.containers(),
        limit_seconds=2 * GONE_SECONDS,  # a worker that is at a task tries for a while to reach the database, which is gone as well
        what=lambda: f"no process and no container left, found {demo.traces.look()}",
    )
