"""Memory of real processes, with all that they started."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.memory import memory_of, memory_peak

HOLD = "import sys; held = bytearray(40_000_000); sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
FREE = (
    "import sys; held = bytearray(50_000_000); sys.stdout.write('held\\n'); sys.stdout.flush(); "
    "sys.stdin.readline(); del held; sys.stdout.write('free\\n'); sys.stdout.flush(); sys.stdin.read()"
)
WITH_CHILD = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {HOLD!r}]); child.wait()"


def test_what_a_child_holds_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", WITH_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"held\n"
        found = memory_of(parent.pid)
        parent.communicate()
    assert found.processes == 2
    assert found.rss >= found.pss >= 40e6


def test_a_peak_that_has_passed_is_kept() -> None:
    with subprocess.Popen([sys.executable, "-c", FREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        with memory_peak(process.pid) as peak:
            process.stdin.write(b"let go\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"free\n"
            now = memory_of(process.pid)
        process.communicate()
    assert peak[0].rss >= now.rss + 40e6
