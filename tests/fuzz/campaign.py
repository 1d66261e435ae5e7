"""One campaign: changed seeds to each target in turn until the time is over. What is accepted is changed further."""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import Target

SLICE_SECONDS = 0.05
SLOW_SECONDS = 2.0
"""On inputs this small, anything slower is a way to keep a machine busy."""
POOL_MAX = 200
INPUT_BYTES_MAX = 16 * 1024
FAULTS_KEPT = 20


@dataclass
class Findings:
    """What happened at one target. Inputs that broke something are kept in `folder`."""

    folder: Path
    executions: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)
    """By the line of code where it broke: a report with the file that holds the input."""

    def keep(self, target: Target, data: bytes, place: str, report: str) -> None:
        if place in self.faults or len(self.faults) >= FAULTS_KEPT:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        self.faults[place] = f"{target.name}: {place}, input in {path}\n{report}"


def campaign(targets: Sequence[Target], *, seconds: float, seed: int, folder: Path) -> dict[str, Findings]:
    """Runs for so long, in slices, so that each target gets its share. Inputs that broke something are kept in `folder`."""
    source = random.Random(seed)
    found = {target.name: Findings(folder) for target in targets}
    pools = {target.name: list(target.seeds) for target in targets}
    for target in targets:
        for data in target.seeds:
            _execute(target, data, found[target.name])
        if found[target.name].accepted != len(target.seeds):
            found[target.name].faults.setdefault("seeds", f"{target.name}: a seed is not accepted")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for target in targets:
            slice_end = min(end, time.monotonic() + SLICE_SECONDS)
            pool = pools[target.name]
            while time.monotonic() < slice_end:
                data = mutated(source.choice(pool), source, source.choice((1, 1, 2, 3, 8)))[:INPUT_BYTES_MAX]
                if _execute(target, data, found[target.name]):
                    if len(pool) < POOL_MAX:
                        pool.append(data)
                    else:
                        pool[source.randrange(len(target.seeds), POOL_MAX)] = data
    return found


def _execute(target: Target, data: bytes, findings: Findings) -> bool:
    """Whether the target accepted `data`."""
    started = time.process_time()  # not what other work on the machine takes
    try:
        target.run(data)
    except target.declared:
        is_accepted = False
    except Exception as error:  # whatever is not declared is what is looked for
        is_accepted = False
        findings.keep(target, data, _place_of(error), traceback.format_exc())
    else:
        is_accepted = True
    seconds = time.process_time() - started
    findings.executions += 1
    findings.accepted += is_accepted
    findings.seconds += seconds
    findings.slowest_seconds = max(findings.slowest_seconds, seconds)
    if seconds > SLOW_SECONDS:
        findings.keep(target, data, "slow", f"took {seconds:.1f} s")
    return is_accepted


def _place_of(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
