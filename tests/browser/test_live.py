"""The live dashboard in a real browser: it finds back to a portal that was away, does without a socket, and stays smooth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from django.db import connections
from playwright.sync_api import Browser, Page, expect
from pytest_django import DjangoDbBlocker

from jobs.models import Job, JobEvent
from jobs.services.outbox import outbox_push
from jobs.services.submission import job_cancel
from people.models import User
from tests.browser.hands import pushed
from tests.browser.looking import Complaints, context_open, page_load
from tests.client.live_portal import LivePortal
from tests.factories.jobs import funded_researcher_make, job_make

SOON_MS: Final = 30_000
LIVE: Final = "Live: what happens appears here at once."
RECONNECTING: Final = "Reconnecting. Meanwhile this page asks every 5 seconds."
EVENTS_A_SECOND: Final = 200
SECONDS: Final = 5
PUSH_SECONDS: Final = 0.1
SMOOTHNESS: Final = """async (milliseconds) => {
  const gaps = [], asked = () => performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/live/fragment/")).length;
  let updates = 0, last = performance.now(), isOver = false;
  const watch = new MutationObserver(() => { updates += 1; });
  watch.observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true, attributes: true });
  const frame = (now) => {
    gaps.push(now - last);
    last = now;
    if (!isOver) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  const before = asked();
  await new Promise((done) => setTimeout(done, milliseconds));
  isOver = true;
  watch.disconnect();
  gaps.sort((one, other) => one - other);
  const at = (share) => Math.round(gaps[Math.floor(share * (gaps.length - 1))]);
  return { updates, asked: asked() - before, frames: gaps.length, p50: at(0.5), p95: at(0.95), longest: at(1) };
}"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "uvicorn.log"


@pytest.fixture
def own_portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, log: Path) -> Iterator[LivePortal]:
    """A portal that may be stopped."""
    live = LivePortal(django_db_blocker)
    try:
        live.start(log)
        yield live
    finally:
        live.stop()


@pytest.fixture
def page(own_portal: LivePortal, browser: Browser) -> Iterator[Page]:
    context = context_open(browser, own_portal.origin)
    yield context.new_page()
    context.close()


def job_happens(portal: LivePortal, science: str) -> None:
    """Something that the dashboard shows, in the database only; `pushed` tells it to sockets."""
    with portal.database():
        job_make(type=science)


def test_it_finds_back_to_a_portal_that_was_away_and_does_without_a_socket(own_portal: LivePortal, page: Page, log: Path) -> None:
    note, newest = page.locator("#live-note"), page.locator("#dashboard")
    page.clock.install()  # it goes on by itself; a jump spares the waits
    page.goto("/live/")
    page.evaluate("window.unbroken = true")
    expect(note).to_have_text(LIVE, timeout=SOON_MS)

    own_portal.web_stop()
    expect(note).to_have_text(RECONNECTING, timeout=SOON_MS)
    page.clock.fast_forward(16_000)
    expect(note).to_contain_text("The portal does not answer: these are the figures of", timeout=SOON_MS)
    job_happens(own_portal, "storm-tracks")

    own_portal.web_start(log, "--ws", "none")
    page.clock.fast_forward(5_000)
    expect(newest).to_contain_text("storm-tracks", timeout=SOON_MS)
    expect(note).to_have_text(RECONNECTING)
    job_happens(own_portal, "bell-pairs")
    page.clock.fast_forward(5_000)
    expect(newest).to_contain_text("bell-pairs", timeout=SOON_MS)

    own_portal.web_stop()
    own_portal.web_start(log)
    page.clock.fast_forward(60_000)
    expect(note).to_have_text(LIVE, timeout=SOON_MS)
    assert page.evaluate("window.unbroken"), "without a reload"


def test_what_happens_is_told_by_the_socket_and_not_only_found_when_the_page_asks(own_portal: LivePortal, page: Page) -> None:
    """The page's own questions are held back here."""
    page.add_init_script("window.setInterval = () => 0")
    complaints = Complaints(page)
    page_load(page, "/live/", complaints)
    expect(page.locator("#live-note")).to_have_text(LIVE, timeout=SOON_MS)
    for science in ("storm-tracks", "bell-pairs"):
        job_happens(own_portal, science)
        with own_portal.database():
            pushed()
        expect(page.locator("#dashboard")).to_contain_text(science, timeout=SOON_MS)
    assert complaints.found == []


def test_at_two_hundred_events_a_second_updates_are_few_and_frames_come_in_time(own_portal: LivePortal, page: Page) -> None:
    with own_portal.database():
        jobs = _jobs_ended(40)
        pushed()
    complaints = Complaints(page)
    page_load(page, "/live/", complaints)
    expect(page.locator("#live-note")).to_have_text(LIVE, timeout=SOON_MS)
    devices = page.context.new_cdp_session(page)
    devices.send("Performance.enable", {"timeDomain": "threadTicks"})
    quiet = page.evaluate(SMOOTHNESS, 2000)

    before = _thread_seconds(devices)
    with own_portal.database(), ThreadPoolExecutor(1) as pool:
        happening = pool.submit(_events_happen, jobs)
        busy = page.evaluate(SMOOTHNESS, 1000 * SECONDS)
        share = (_thread_seconds(devices) - before) / SECONDS
        happened, lasted = happening.result()

    print(json.dumps({"events_a_second": round(happened / lasted), "quiet": quiet, "busy": busy, "main_thread_share": round(share, 3)}))
    assert happened == EVENTS_A_SECOND * SECONDS
    assert 2 <= busy["updates"] <= 2.5 * SECONDS, "expected what came to be drawn, together"
    assert busy["asked"] <= 2.5 * SECONDS
    assert share < 0.25, "expected the page to rest most of the time"
    assert busy["p95"] <= max(50, 2 * quiet["p95"]), "expected frames to come as when nothing happens"
    assert complaints.found == []


def _jobs_ended(count: int) -> list[Job]:
    owner: User = funded_researcher_make()
    return [job_cancel(job=job_make(owner)) for _ in range(count)]


def _events_happen(jobs: list[Job]) -> tuple[int, float]:
    """How many in how many seconds: each an end of one of these jobs, written and pushed as real ones are."""
    each = round(EVENTS_A_SECOND * PUSH_SECONDS)
    began = time.monotonic()
    happened = 0
    try:
        while happened < EVENTS_A_SECOND * SECONDS:
            time.sleep(max(0.0, began + happened / EVENTS_A_SECOND - time.monotonic()))  # the rate is what is measured at
            chosen = [jobs[(happened + place) % len(jobs)] for place in range(each)]
            JobEvent.objects.bulk_create([JobEvent(job=job, kind="job.cancelled") for job in chosen])
            happened += outbox_push()
    finally:
        connections.close_all()
    return happened, time.monotonic() - began


def _thread_seconds(devices: Any) -> float:
    """Processor time of the page's main thread: other work on this machine doesn't make it longer."""
    metrics = {one["name"]: one["value"] for one in devices.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])
