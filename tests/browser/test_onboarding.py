"""A contributor gets a token on the page, a host joins with it over HTTP, and the page shows it arrive, work and earn, without a reload."""

from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.db import connections
from playwright.sync_api import Browser, expect

from jobs.services.outbox import outbox_push
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from nodes.models import Node
from tests.browser.looking import Complaints, context_open, session_cookie
from tests.client.live_portal import LivePortal
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import profile_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_report
from workers.home import NodeHome
from workers.joining import coordinator_check, node_join
from workers.protocol.join_tokens import join_token_decode

SECONDS = 20_000
"""What playwright waits at most, in its milliseconds. The page is told by its socket; without it, it asks every 5 seconds."""


def events_push() -> None:
    """As the control worker does; in a thread, because playwright keeps a loop in this one."""

    def push() -> None:
        outbox_push()
        connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(push).result()


def test_a_host_that_joins_is_seen_arriving(portal: LivePortal, browser: Browser, tmp_path: Path) -> None:
    with portal.database():
        cookie = session_cookie(user_make())
    context = context_open(browser, portal.origin, cookie=cookie)
    page = context.new_page()
    complaints = Complaints(page)
    page.goto("/nodes/join/")
    page.get_by_label("Name").fill("attic")
    page.get_by_role("button", name="Get a one-time token").click()
    expect(page.locator("#live-note")).to_contain_text("Live", timeout=SECONDS)
    page.get_by_label("As a service").check()
    command = page.locator("#c-systemd").get_attribute("data-text") or ""
    expect(page.locator("#c-systemd")).to_be_visible()
    expect(page.locator("#c-shell")).to_be_hidden()
    found = re.search(r"nexa join (\S+)", html.unescape(command))
    assert found
    page.evaluate("window.wasHere = true")

    token, home = join_token_decode(found.group(1)), NodeHome(tmp_path / "home")
    answer = node_join(home, token=token, coordinator=coordinator_check(token), name=None, profile=profile_make())
    assert answer.name == "attic", "the name came with the token"
    arrived = page.locator(".arrived")
    expect(arrived).to_contain_text("attic", timeout=SECONDS)
    expect(arrived).to_contain_text("8 cores, 64 GB")
    expect(arrived.locator("svg.glyph").first).to_be_visible()

    with portal.database():
        node = Node.objects.get(pk=answer.node_id)
        job = job_make(verification={"method": "exact", "copies": 1, "quorum": 1})
        replica_report(job, node=node, key=home.key())
        events_push()
    expect(arrived).to_contain_text(f"First job: {job.job_type}", timeout=SECONDS)
    with portal.database():
        job_check(job_id=job.pk)
        job_settle(job_id=job.pk)
        checkpoint_publish()
        events_push()
    expect(arrived).to_contain_text("of the public log", timeout=SECONDS)
    assert page.evaluate("window.wasHere"), "without a reload"
    assert complaints.found == []
    context.close()
