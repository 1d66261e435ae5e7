"""The jobs list and a job's page in a real browser: found, chosen, cancelled, and followed without a reload."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from pytest_django import DjangoDbBlocker

from jobs.models import Job
from jobs.services.disputes import dispute_rule
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from people.models import User
from tests.browser.hands import pushed
from tests.browser.looking import Complaints, context_open, session_cookie
from tests.client.live_portal import LivePortal
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make
from tests.factories.receipts import replica_report

TWO = {"method": "exact", "copies": 2, "quorum": 2}
LIVE_MS = 20_000


@pytest.fixture(scope="session")
def own_portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortal]:
    """These tests change jobs, which the scene of the others doesn't stand."""
    live = LivePortal(django_db_blocker)
    try:
        live.start(tmp_path_factory.mktemp("portal") / "uvicorn.log")
        yield live
    finally:
        live.stop()


@pytest.fixture
def owner(own_portal: LivePortal) -> User:
    return own_portal.researcher()[0]


@pytest.fixture
def page(own_portal: LivePortal, owner: User, browser: Browser) -> Iterator[Page]:
    """Signed in as the owner; at the end it has nothing to complain about."""
    with own_portal.database():
        cookie = session_cookie(owner)
    context = context_open(browser, own_portal.origin, cookie=cookie)
    opened = context.new_page()
    complaints = Complaints(opened)
    yield opened
    assert complaints.found == []
    context.close()


@pytest.fixture
def quiet_page(own_portal: LivePortal, owner: User, browser: Browser) -> Iterator[Page]:
    """Signed in as the owner, whatever its console says of refused requests."""
    with own_portal.database():
        cookie = session_cookie(owner)
    context = context_open(browser, own_portal.origin, cookie=cookie)
    yield context.new_page()
    context.close()


def jobs_make(portal: LivePortal, owner: User, *labels: str, **overrides: object) -> list[Job]:
    with portal.database():
        return [job_make(User.objects.get(pk=owner.pk), job_id=label, **overrides) for label in labels]


def test_jobs_are_found_by_words_type_and_state(own_portal: LivePortal, owner: User, page: Page) -> None:
    jobs_make(own_portal, owner, "chignolin-1", "chignolin-2", type="folding", title="Fold of a small protein")
    jobs_make(own_portal, owner, "storm-1", type="weather")
    page.goto("/jobs/")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("label or title").fill("small prot")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("label or title").fill("")
    page.get_by_label("type").select_option("weather")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="disputed").click()
    expect(page.get_by_text("None of your jobs is like that.")).to_be_visible()
    page.get_by_role("link", name="Show all of them.").click()
    expect(page.locator("tbody tr")).to_have_count(3)


def test_chosen_jobs_are_cancelled_and_archived(own_portal: LivePortal, owner: User, page: Page) -> None:
    jobs_make(own_portal, owner, "keep-me", "drop-1", "drop-2")
    page.goto("/jobs/")
    cancel = page.get_by_role("button", name="Cancel…")
    expect(cancel).to_be_disabled()
    page.get_by_label("choose all on this page").check()
    expect(page.get_by_text("3 of 3 chosen.")).to_be_visible()
    page.get_by_label("choose keep-me").uncheck()
    cancel.click()
    expect(page.get_by_role("heading", name="Cancel 2 jobs?")).to_be_visible()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.get_by_text("2 jobs cancelled")).to_be_visible()
    expect(page.locator("tbody .state-cancelled")).to_have_count(2)
    page.get_by_label("choose drop-1").check()
    page.get_by_role("button", name="Archive").click()
    expect(page.get_by_text("drop-1 put into the archive.")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="The archive").click()
    expect(page.get_by_text("drop-1")).to_be_visible()


def test_a_row_follows_its_job_and_stays_chosen(own_portal: LivePortal, owner: User, page: Page) -> None:
    [job, other] = jobs_make(own_portal, owner, "followed", "other", verification=TWO)
    page.goto("/jobs/")
    page.evaluate("window.unbroken = true")
    page.get_by_label("choose followed").check()
    shown = page.locator(f"#job-{job.pk}")
    expect(shown.locator(".state")).to_have_text("queued")
    own_portal.job_complete(str(job.pk))
    expect(shown.locator(".state")).to_have_text("completed", timeout=LIVE_MS)
    expect(shown.get_by_text("2 of 2 replicas agree, exactly.")).to_be_visible()
    expect(page.get_by_label("choose followed")).to_be_checked()
    expect(page.locator(f"#job-{other.pk} .state")).to_have_text("queued")
    assert page.evaluate("window.unbroken") is True


def test_what_happens_while_the_page_is_fetched_is_shown_without_waiting_for_the_poll(
    own_portal: LivePortal, owner: User, page: Page
) -> None:
    [job] = jobs_make(own_portal, owner, "raced", verification=TWO)
    earlier = page.request.get(f"/jobs/{job.pk}/fragment/").text()
    assert "state-queued" in earlier
    held: list[Route] = []

    def answer(route: Route) -> None:
        """The first answer was made before anything happened, and arrives late."""
        if held:
            route.continue_()
        else:
            held.append(route)

    page.add_init_script("window.setInterval = () => 0")  # no poll: what is shown, an event has brought
    page.route("**/fragment/", answer)
    with page.expect_websocket() as opened, page.expect_request("**/fragment/"):
        page.goto(f"/jobs/{job.pk}/")
    with opened.value.expect_event("framereceived", lambda frame: "job.completed" in str(frame)):
        own_portal.job_complete(str(job.pk))
        with own_portal.database():
            pushed()
    held[0].fulfill(body=earlier, content_type="text/html")
    expect(page.locator(".title-line .state").first).to_have_text("completed", timeout=LIVE_MS)


def test_rare_acts_are_behind_one_button_and_stay_open_when_the_page_is_drawn_again(
    own_portal: LivePortal, owner: User, page: Page
) -> None:
    [job] = jobs_make(own_portal, owner, "acts", verification=TWO)
    page.goto(f"/jobs/{job.pk}/")
    clone = page.get_by_role("link", name="Clone")
    expect(clone).to_be_hidden()
    page.locator("#job-more summary").click()
    expect(clone).to_be_visible()
    own_portal.job_complete(str(job.pk))
    expect(page.locator(".title-line .state").first).to_have_text("completed", timeout=LIVE_MS)
    expect(clone).to_be_visible()
    page.get_by_role("button", name="Archive").click()
    expect(page.get_by_text("In your archive.")).to_be_visible()


def test_a_disputed_job_waits_for_its_ruling_and_shows_it(own_portal: LivePortal, owner: User, page: Page) -> None:
    [job] = jobs_make(own_portal, owner, "disputed", verification=TWO)
    with own_portal.database():
        Job.objects.filter(pk=job.pk).update(replicas_max=2)
        first, _ = replica_report(job), replica_report(job, {"summary.json": b'{"energy":-9.0}'})
        job_check(job_id=job.pk)
        job_settle(job_id=job.pk)
        pushed()
    page.goto(f"/jobs/{job.pk}/")
    expect(page.locator("#live-note")).to_have_text("Waits for a ruling; this page shows it.")
    with own_portal.database():
        dispute_rule(job=job, by=moderator_make(), canonical=first, reason="The other host has bad memory.")
        checkpoint_publish()
        pushed()
    expect(page.locator(".title-line .state").first).to_have_text("completed", timeout=LIVE_MS)
    expect(page.get_by_text("The other host has bad memory.")).to_be_visible()
    expect(page.locator("#live-note")).to_have_text("Concluded; nothing more will change.")


def test_a_payment_becomes_a_link_when_it_is_in_the_log(own_portal: LivePortal, owner: User, page: Page) -> None:
    [job] = jobs_make(own_portal, owner, "paid", verification=TWO)
    with own_portal.database():
        replica_report(job), replica_report(job)
        job_check(job_id=job.pk)
        job_settle(job_id=job.pk)
    page.goto(f"/jobs/{job.pk}/")
    expect(page.locator("#live-note")).to_have_text("Concluded; its payments enter the log in a moment.")
    expect(page.locator(".replica a[href^='/ledger/']")).to_have_count(0)
    with own_portal.database():
        checkpoint_publish()
    expect(page.locator(".replica a[href^='/ledger/']")).to_have_count(2, timeout=LIVE_MS)
    expect(page.locator("#live-note")).to_have_text("Concluded; nothing more will change.")


def test_a_job_s_page_says_that_one_is_signed_out_and_goes_on_afterwards(own_portal: LivePortal, owner: User, quiet_page: Page) -> None:
    [job] = jobs_make(own_portal, owner, "signed-out")
    quiet_page.goto(f"/jobs/{job.pk}/")
    note = quiet_page.locator("#live-note")
    expect(note).to_contain_text("Live")
    quiet_page.context.clear_cookies(name="sessionid")
    expect(note).to_have_text("You are signed out, so this page stands still. Sign in")
    expect(note.get_by_role("link")).to_have_attribute("href", f"/accounts/login/?next=/jobs/{job.pk}/")
    with own_portal.database():
        cookie = session_cookie(owner)
    quiet_page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": own_portal.origin}])
    expect(note).to_have_text("Live: this page follows the job.")


def test_who_is_signed_out_is_led_to_sign_in_and_back_where_a_part_of_a_page_was_asked_for(
    own_portal: LivePortal, owner: User, quiet_page: Page
) -> None:
    jobs_make(own_portal, owner, "polled")
    quiet_page.goto("/jobs/?q=polled")
    expect(quiet_page.locator("tbody tr")).to_have_count(1)
    quiet_page.context.clear_cookies(name="sessionid")
    quiet_page.wait_for_url("**/accounts/login/?next=/jobs/%3Fq%3Dpolled")
    expect(quiet_page.get_by_role("heading", name="Sign in")).to_have_count(1)
