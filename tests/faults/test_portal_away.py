"""The portal is away for two lease times, and a host's clock is an hour off: the job completes, is paid once, nothing is left behind."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from devstack.engine import EngineHandle
from tests.acceptance.running_stack import LEASE_SECONDS, RunningStack
from tests.acceptance.traces import wait_for
from tests.faults.conftest import HOST, LIMIT_SECONDS, ONE_HOST, Books, bulk_submit, expect_nothing_left

pytestmark = ONE_HOST

SHIFTED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>

/* The machine's clock, SHIFT seconds off. Clocks that count from the start of the machine are as they are. */
int clock_gettime(clockid_t id, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, out);
    if (!status && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) out->tv_sec += SHIFT;
    return status;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def test_portal_that_is_away_for_two_lease_times_costs_nothing(running: RunningStack, engine: EngineHandle) -> None:
    """The run ends meanwhile; its lease is credited for the time in which nobody could renew it."""
    books = Books(running)
    job_id = bulk_submit(running, seconds=4)
    running.replicas_wait(job_id, "running", count=1, limit_seconds=LIMIT_SECONDS)

    running.process_kill("web")
    back_at = time.monotonic() + 2 * LEASE_SECONDS
    wait_for(lambda: time.monotonic() > back_at, limit_seconds=LIMIT_SECONDS, what=lambda: "two lease times")
    running.process_restart("web")
    running.portal_wait(limit_seconds=LIMIT_SECONDS)

    running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
    books.expect_paid_once(job_id)
    assert len(running.researcher.job_replicas(job_id)) == 1
    expect_nothing_left(running, engine)


@pytest.mark.parametrize("hours", [-1, 1])
def test_host_whose_clock_is_an_hour_off_works_on(running: RunningStack, engine: EngineHandle, tmp_path: Path, hours: int) -> None:
    library = tmp_path / "shifted.so"
    command = ["gcc", "-shared", "-fPIC", f"-DSHIFT=({hours} * 3600)", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=SHIFTED_CLOCK, text=True, check=True)
    books = Books(running)
    environment = running.hosts[HOST].environment
    running.process_kill(HOST)
    environment["LD_PRELOAD"] = str(library)
    try:
        running.process_restart(HOST)
        job_id = bulk_submit(running)
        running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)
        assert "differs from the portal's" in running.process(HOST).log_path.read_text()
    finally:
        running.process_kill(HOST)
        del environment["LD_PRELOAD"]
        running.process_restart(HOST)
    books.expect_paid_once(job_id)
    expect_nothing_left(running, engine)
