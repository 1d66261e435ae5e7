"""As faulty.py, with a fault in comparisons alone."""

from __future__ import annotations

from jobs.checking import child, pairs
from tests.jobs.checking.faulty import fail


def main() -> None:
    vars(pairs)["results_compare"] = fail
    child.main()
