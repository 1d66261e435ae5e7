"""The suite with its coverage measured: `python -m devstack.suite_coverage [options of pytest]`, which `make coverage` runs.

Rules of this file:

1. Every Python process of the run counts: portal, workers, hosts, commands. Most are given an environment of their own, so a file in both
   virtual environments starts coverage.py with the interpreter. It works for as long as this process lives, and is removed at the end.
2. A host's environment is lent coverage.py and nothing else of ours: it still has no Django.
3. Not counted: processes that SIGKILL ends, children that may write no file (they run isolated, `python -I`), what runs in containers.
4. Failed tests do not keep the figures back; the exit status is pytest's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import coverage

from devstack.stack import CHECKOUT

FOLDER: Final = CHECKOUT / "var" / "coverage"
ENVIRONMENTS: Final = (".venv", ".venv-host")
LEAST_COVERED: Final = 40
"""Files in the table."""

_STARTER: Final = "nexapod_coverage_start"
_DATA: Final = FOLDER / "data"
_JSON: Final = FOLDER / "coverage.json"
_START: Final = """\
import atexit
import contextlib

import coverage

measured = coverage.Coverage(data_file={data!r}, config_file={config!r})
measured.start()


@atexit.register
def end():
    with contextlib.suppress(Exception):  # a process that became another user may not write here
        measured.stop()
        measured.save()
"""


def main(arguments: Sequence[str]) -> int:
    """Runs pytest with these options, prints the table, and returns pytest's exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    with measured_processes():
        status = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=CHECKOUT, check=False).returncode
    report()
    return status


@contextlib.contextmanager
def measured_processes() -> Iterator[None]:
    """Within the block each process of both environments that starts is measured, and leaves its data in FOLDER when it ends."""
    lent = FOLDER / "lent"
    lent.mkdir(parents=True)
    (lent / "coverage").symlink_to(Path(coverage.__file__).parent)
    (lent / f"{_STARTER}.py").write_text(_START.format(data=str(_DATA), config=str(CHECKOUT / "pyproject.toml")))
    hook = f"{lent}\nimport os, sys; sys.flags.isolated or os.path.isdir('/proc/{os.getpid()}') and __import__({_STARTER!r})\n"
    # By name after nexapod-checkout.pth: coverage.py asks at its start where our packages are.
    files = [folder / "nexapod-coverage.pth" for each in ENVIRONMENTS for folder in (CHECKOUT / each).glob("lib/python3*/site-packages")]
    try:
        for file in files:
            file.write_text(hook)
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def report() -> None:
    """Prints the total and the least covered files, in per cent of their lines and branches together."""
    measured = coverage.Coverage(data_file=str(_DATA), config_file=str(CHECKOUT / "pyproject.toml"))
    measured.combine([str(FOLDER)], strict=True)
    measured.save()
    measured.json_report(outfile=str(_JSON))
    found = json.loads(_JSON.read_text())
    summaries = {name: file["summary"] for name, file in found["files"].items() if file["summary"]["num_statements"]}
    print(f"The {LEAST_COVERED} least covered of {len(summaries)} files:")
    print(f"{'%':>6}{'lines missed':>14}{'of':>7}{'branches missed':>17}{'of':>6}  file")
    for name, one in sorted(summaries.items(), key=lambda each: each[1]["percent_covered"])[:LEAST_COVERED]:
        print(_line(one, name))
    print(_line(found["totals"], "all"))
    print("Line by line: .venv/bin/coverage html --data-file var/coverage/data -d var/coverage/html")


def _line(summary: Mapping[str, Any], name: str) -> str:
    lines = f"{summary['missing_lines']:>14}{summary['num_statements']:>7}"
    return f"{summary['percent_covered']:>6.1f}{lines}{summary['missing_branches']:>17}{summary['num_branches']:>6}  {name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
