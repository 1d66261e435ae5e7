"""Jobs for the pages of jobs: results that differ within their tolerance, long logs, a failed one, and some that are shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

from django.db import transaction

from jobs.models import Job
from jobs.services.closing import job_fail
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from nodes.models import Node
from people.models import User
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report
from workers.protocol.compute_log import LogWriter
from workers.protocol.keys import PrivateKey

STEPS = 360


def jobs_add(owner: User, fleet: list[tuple[Node, PrivateKey]], files: Mapping[str, bytes]) -> dict[str, Job]:
    """By name: compared, failed, cancelled, unlisted, public; longest, whose names are as long as may be and break nowhere."""
    verification = {"method": "numeric", "copies": 2, "quorum": 2}
    compared = job_make(
        owner,
        job_id="villin-fold-long-run",
        type="protein-folding",
        title="Villin headpiece, 120 steps after minimisation",
        verification=verification,
        tolerance=1e-3,
    )
    near = {**files, "energies.csv": files["energies.csv"].replace(b"-1463.", b"-1463.4").replace(b",300.00", b",300.01")}
    for (node, key), found, phase in zip(fleet[:2], (files, near), (0.0, 0.7), strict=True):
        replica_report(compared, found, node=node, key=key, log_writes=partial(_run_write, phase=phase), log_clock=_clock())
    job_check(job_id=compared.pk)
    job_settle(job_id=compared.pk)
    failed = job_make(owner, job_id="quench-without-inputs", type="surrogate-materials", title="Quench, inputs forgotten")
    with transaction.atomic():
        job_fail(job=failed, code="exit_nonzero", message="The program ended with exit code 2: no such file: /inputs/lattice.json")
    cancelled = job_cancel(job=job_make(owner, job_id="storm-track-06", type="weather-ensemble"))
    unlisted = job_make(owner, job_id="bell-pairs", type="quantum-circuits", title="Bell pairs under noise", visibility="unlisted")
    public = job_make(owner, job_id="ising-9x9", type="surrogate-materials", title="Ising model on a 9 by 9 lattice", visibility="public")
    longest = job_make(owner, job_id="L" * 128, type="protein-folding", title="T" * 200, visibility="public")
    return {"longest": longest, "compared": compared, "failed": failed, "cancelled": cancelled, "unlisted": unlisted, "public": public}


def _run_write(writer: LogWriter, *, phase: float) -> None:
    """Six minutes of a run, a sample a second."""
    for step in range(STEPS):
        if step % 3 == 0:
            writer.output("stdout", f"step {step // 3:4d}  energy {-1400 - 9 * math.sqrt(step / 3):.3f} kJ/mol\n".encode())
        if step == 100:
            writer.output("stderr", b"warning: 1 water molecule left the box and was wrapped\n")
        busy = min(1.0, step / 20) * (190 + 8 * math.sin(step / 9 + phase))
        writer.sample({"cpu_percent": round(busy, 1), "memory_bytes": int(4e8 + 2.5e6 * step + 3e7 * phase), "cpu_seconds": step * 1.9})


def _clock() -> Callable[[], datetime]:
    """It goes on by three quarters of a second at each look."""
    start, ticks = datetime.now(UTC) - timedelta(minutes=8), count()
    return lambda: start + timedelta(seconds=0.75 * next(ticks))
