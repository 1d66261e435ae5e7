"""Children of tests: the program of production with a fault in what reads logs.

Started by `ChildServer(entry="tests.jobs.checking.faulty")`; nothing of production can name it.
"""

from __future__ import annotations

from typing import Any

from jobs.checking import checks, child


def main() -> None:
    vars(checks)["log_check"] = fail
    child.main()


def fail(*_: object, **__: object) -> Any:
    """As no parser should."""
    raise LookupError("what no parser declares")
