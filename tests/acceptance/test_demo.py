"""`make demo` as a user sees it: what it says of a good run, that its command line works afterwards, and what it says of a bad one."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from devstack.stack import CHECKOUT
from tests.acceptance.conftest import DemoRun

pytestmark = [pytest.mark.acceptance, pytest.mark.docker]


def test_demo_once_ends_with_a_paid_result_that_the_printed_command_verifies(demo: DemoRun) -> None:
    demo.start("--once")

    assert demo.wait_ended(limit_seconds=180) == 0, demo.output

    assert not demo.traces.look()
    assert "2 of 2 replicas agree, quorum 2" in demo.output
    (command,) = re.findall(r"^  (\S+ verify .*)$", demo.output, re.MULTILINE)
    bare = {"PATH": os.environ["PATH"]}
    verified = subprocess.run(command.split(), cwd=CHECKOUT, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert verified.returncode == 0, verified.stderr
    assert "2 accepted replicas, quorum 2" in verified.stdout
    other_key = [*command.split()[:-1], "sha256:" + "0" * 64]
    refused = subprocess.run(other_key, cwd=CHECKOUT, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1


def test_demo_whose_job_takes_too_long_says_how_far_it_came_and_keeps_the_logs(demo: DemoRun) -> None:
    demo.start("--once", "--limit 1")

    assert demo.wait_ended(limit_seconds=180) != 0

    assert not demo.traces.look()
    assert re.search(r"The demo failed: The job is \w+ after 1 s: \S+-host \w+", demo.output), demo.output
    assert "ada-host, the end of its log" in demo.output
    assert (demo.keep / "logs" / "ada-host.log").stat().st_size > 0


def test_demo_of_a_missing_example_says_so_and_leaves_nothing(demo: DemoRun) -> None:
    demo.start("--once", example=CHECKOUT / "no-such-example")

    assert demo.wait_ended(limit_seconds=60) != 0

    assert not demo.traces.look()
    assert "The demo failed: " in demo.output
    assert "no-such-example/job.json can't be read" in demo.output
