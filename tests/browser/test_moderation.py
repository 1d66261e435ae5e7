"""A moderator signs in with two factors, finds a dispute on the desk, looks at how the results differ, and rules: the job is concluded, who
was right is paid, the trail says who ruled and why."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from allauth.account.models import EmailAddress
from playwright.sync_api import Browser, expect

from jobs.models import Job
from jobs.states import JobState
from ledger.checkpoints import checkpoint_publish
from ledger.selectors import balance_micro_of
from people.moderation.models import Act
from tests.browser.hands import PASSWORD, totp
from tests.browser.looking import Complaints, context_open, page_load
from tests.client.live_portal import LivePortal
from tests.factories.people import SECOND_FACTOR_SECRET, moderator_make
from tests.jobs.disputes.test_disputes import disputed_job

SECONDS = 20_000
"""What playwright waits at most for a page, in its milliseconds."""
REASON = "B and C ran on a machine whose memory is broken; A repeats an earlier result."


def test_a_moderator_settles_a_dispute(portal: LivePortal, browser: Browser) -> None:
    with portal.database():
        moderator = moderator_make("barbara")
        moderator.set_password(PASSWORD)
        moderator.save()
        EmailAddress.objects.create(user=moderator, email=moderator.email, verified=True, primary=True)
        job, replicas = disputed_job(1, 2, 3)
        owners = [replica.node_owner_id for replica in replicas]
        reserved = balance_micro_of(user_id=job.owner_id)
    context = context_open(browser, portal.origin)
    page = context.new_page()
    complaints = Complaints(page)

    page_load(page, "/admin/", complaints)
    page.get_by_label("Username or e-mail").fill("barbara")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code").fill(totp(SECOND_FACTOR_SECRET, time.time()))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Desk")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("You can look, and not act")).to_have_count(0)

    page.locator("#q-disputes").get_by_role("link", name=job.label, exact=True).click()
    expect(page.get_by_role("heading", name=f"Dispute over {job.label}")).to_be_visible(timeout=SECONDS)
    first = page.locator(".deviations").first
    expect(first).to_contain_text("A and B", timeout=SECONDS)
    expect(first).to_contain_text("disagree", timeout=SECONDS)
    expect(first).to_contain_text("summary.json", timeout=SECONDS)
    page.get_by_text("A and B, file by file").click()
    expect(page.locator("details[open] .deviations")).to_contain_text("summary.json", timeout=SECONDS)

    page.get_by_label("A (").check()
    page.get_by_role("button", name="Rule", exact=True).click()
    assert page.get_by_label("Why").evaluate("field => field.validity.valueMissing"), "a ruling without a reason is not sent"
    page.get_by_label("Why").fill(REASON)
    page.get_by_role("button", name="Rule", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The dispute is ended.", timeout=SECONDS)
    expect(page.locator("dl.facts")).to_contain_text("completed", timeout=SECONDS)
    expect(page.locator("table.acts")).to_contain_text(REASON, timeout=SECONDS)

    with portal.database():
        settled = Job.objects.get(pk=job.pk)
        assert (settled.state, settled.canonical_replica_id) == (JobState.COMPLETED, replicas[0].pk)
        paid = [balance_micro_of(user_id=owner) for owner in owners if owner is not None]
        assert paid == [1000, 0, 0]
        assert balance_micro_of(user_id=job.owner_id) == reserved + job.reserved_micro - 1000
        checkpoint_publish()
        act = Act.objects.get(kind="dispute_ruled", about_key=str(job.pk))
        assert (act.by, act.reason) == (moderator, REASON)

    page.get_by_role("link", name="Trail", exact=True).click()
    assert urlsplit(page.url).path == "/admin/people/act/"
    row = page.locator("tr", has_text=REASON)
    expect(row).to_contain_text("dispute ruled on", timeout=SECONDS)
    expect(row).to_contain_text("barbara", timeout=SECONDS)
    row.get_by_role("link", name=job.label).click()
    expect(page.get_by_role("heading", name=job.label)).to_be_visible(timeout=SECONDS)
    assert complaints.found == []
    context.close()
