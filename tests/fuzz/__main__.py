"""`python -m tests.fuzz [--minutes N] [--seed N] [--only NAME …] [--folder DIR]`: a table, and the faults; exit status 1 if any."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import django


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers that read strangers' bytes.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="the same seed draws the same changes")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="targets whose names start so")
    parser.add_argument("--folder", type=Path, default=Path("var/fuzz"), help="where inputs that broke something are kept")
    arguments = parser.parse_args()
    django.setup()

    from tests.fuzz.campaign import campaign  # noqa: PLC0415  some parsers stand beside models
    from tests.fuzz.targets import targets  # noqa: PLC0415  as above

    chosen = [target for target in targets() if not arguments.only or target.name.startswith(tuple(arguments.only))]
    print(f"{len(chosen)} targets, {arguments.minutes:g} minutes, seed {arguments.seed}", flush=True)
    found = campaign(chosen, seconds=arguments.minutes * 60, seed=arguments.seed, folder=arguments.folder)
    print(f"{'target':<20}{'executions':>12}{'per second':>12}{'accepted':>10}{'slowest ms':>12}{'faults':>8}")
    for name, one in found.items():
        rate, accepted = one.executions / max(one.seconds, 1e-9), 100 * one.accepted / max(one.executions, 1)
        print(f"{name:<20}{one.executions:>12}{rate:>12.0f}{accepted:>9.1f}%{one.slowest_seconds * 1000:>12.1f}{len(one.faults):>8}")
    faults = [report for one in found.values() for report in one.faults.values()]
    for report in faults:
        print(f"\n{report}")
    print(f"\n{sum(one.executions for one in found.values())} executions, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
