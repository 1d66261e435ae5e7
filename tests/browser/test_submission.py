"""The form that jobs are submitted through: uploads that break off or are cancelled, what it says while one writes, and on a phone.

A whole submission of the folding example with its files is in test_story.py.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from playwright.sync_api import Browser, Page, Route, expect

from jobs.models import Upload
from people.models import User
from tests.browser.hands import PASSWORD, file_drop
from tests.browser.looking import context_open, session_cookie
from tests.client.live_portal import LivePortal
from tests.factories.jobs import funded_researcher_make, image_approve
from workers.protocol.digests import digest_of

FOLDING = Path(__file__).parents[2] / "examples" / "folding"
PIECE_BYTES = 2**20


@pytest.fixture
def researcher(portal: LivePortal) -> User:
    with portal.database():
        image_approve("nexapod/folding:1.0")
        return funded_researcher_make(f"r-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def page(portal: LivePortal, browser: Browser, researcher: User) -> Iterator[Page]:
    with portal.database():
        cookie = session_cookie(researcher)
    context = context_open(browser, portal.origin, cookie=cookie)
    yield context.new_page()
    context.close()


def test_an_upload_that_a_reload_broke_off_goes_on_where_it_stopped_and_the_draft_is_still_there(
    portal: LivePortal, page: Page, researcher: User, tmp_path: Path
) -> None:
    data = bytes(range(256)) * (3 * PIECE_BYTES // 256) + b"the rest"
    file = tmp_path / "trajectory.bin"
    file.write_bytes(data)
    page.goto("/jobs/new/?from=blank")
    page.locator('[name="/job_id"]').fill("kept-draft")
    sent: list[int] = []

    def hold_the_third(route: Route) -> None:
        if route.request.method == "PATCH":
            offset = int(route.request.headers["upload-offset"])
            if offset == 2 * PIECE_BYTES and len(sent) == 2:
                return  # never answered: the reload comes first
            sent.append(offset)
        route.continue_()

    page.route("**/jobs/new/uploads/**", hold_the_third)
    page.set_input_files("#files", file)
    expect(page.locator("#transfers")).to_contain_text("sending: 2 MiB of 3 MiB")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    expect(page.locator('[name="/job_id"]')).to_have_value("kept-draft")
    expect(page.locator("#draft-note")).to_contain_text("Your draft from before is here again")
    expect(page.locator("#transfers")).to_contain_text("was interrupted (3 MiB). Choose the same file again")
    page.unroute("**/jobs/new/uploads/**")
    resumed: list[int] = []
    page.on("request", lambda request: resumed.append(int(request.headers["upload-offset"])) if request.method == "PATCH" else None)
    page.set_input_files("#files", file)
    expect(page.locator("#transfers")).to_contain_text("uploaded: 3 MiB in")
    assert (sent, resumed) == ([0, PIECE_BYTES], [2 * PIECE_BYTES, 3 * PIECE_BYTES])
    with portal.database():
        upload = Upload.objects.get(user=researcher)
        assert upload.committed_at is not None
        assert upload.digest == digest_of(data)


def test_a_draft_outlives_a_submission_that_the_portal_did_not_take_and_goes_with_the_one_it_took(
    portal: LivePortal, page: Page, researcher: User
) -> None:
    page.goto("/jobs/new/?from=folding")
    page.locator('[name="/job_id"]').fill("an-hour-of-writing")
    page.locator('[name="/environment/0/value"]').fill("7")
    for file in sorted((FOLDING / "inputs").iterdir()):
        file_drop(page, file.name, file.read_bytes())
        expect(page.locator("#transfers li", has_text=file.name)).to_contain_text("uploaded:")
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    with portal.database():
        researcher.set_password(PASSWORD)
        researcher.save()
        EmailAddress.objects.create(user=researcher, email=researcher.email, verified=True, primary=True)
    page.get_by_label("Username or e-mail").fill(researcher.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("A job that you wrote was not submitted.")).to_be_visible()
    page.get_by_role("link", name="Go on with it").click()
    expect(page.locator('[name="/job_id"]')).to_have_value("an-hour-of-writing")
    expect(page.locator('[name="/environment/0/value"]')).to_have_value("7")
    page.route(
        "**/jobs/new/", lambda route: route.fulfill(status=503, body="away") if route.request.method == "POST" else route.continue_()
    )
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_text("away")).to_be_visible()
    page.unroute("**/jobs/new/")
    page.goto("/jobs/new/?from=folding")
    expect(page.locator('[name="/job_id"]')).to_have_value("an-hour-of-writing")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("heading", name="an-hour-of-writing")).to_be_visible()
    page.goto("/jobs/new/")
    expect(page.get_by_role("heading", name="An example")).to_be_visible()
    expect(page.get_by_text("A job that you wrote was not submitted.")).to_be_hidden()
    page.goto("/jobs/new/?from=folding")
    expect(page.locator('[name="/job_id"]')).not_to_have_value("an-hour-of-writing")


def test_a_cancelled_upload_leaves_nothing(portal: LivePortal, page: Page, researcher: User, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(b"x" * (2 * PIECE_BYTES))
    page.goto("/jobs/new/?from=blank")
    page.route("**/jobs/new/uploads/*/", lambda route: None if route.request.method == "PATCH" else route.continue_())
    page.set_input_files("#files", file)
    expect(page.locator("#transfers")).to_contain_text("sending: 0 bytes of 2 MiB")
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        page.get_by_role("button", name="Cancel the upload of large.bin").click()
    assert deleted.value.status == 204
    expect(page.locator("#transfers")).to_contain_text("cancelled; nothing is kept")
    with portal.database():
        assert not Upload.objects.filter(user=researcher).exists()


def test_an_upload_that_could_not_be_put_into_the_form_holds_up_no_other(page: Page) -> None:
    page.goto("/jobs/new/?from=blank")
    rows = page.locator("#transfers li")
    lost: list[str] = []

    def lose(route: Route) -> None:
        """Both requests about one file (the second is answered, by a refusal), the first about another."""
        about = [name for name in ("lost.txt", "late.txt") if name in (route.request.post_data or "")]
        if about == ["lost.txt"] and len(lost) < 2:
            lost.append("lost")
            route.abort() if len(lost) == 1 else route.fulfill(status=503, body="away")
        elif about == ["late.txt"] and "late" not in lost:
            lost.append("late")
            route.abort()
        else:
            route.continue_()

    page.route("**/jobs/new/edit/", lose)
    for name in ("lost.txt", "late.txt", "last.txt"):
        file_drop(page, name, name.encode())
    expect(rows.nth(0)).to_contain_text("uploaded, but not put into the form: choose it again")
    expect(rows.nth(1)).to_contain_text("uploaded: 8 bytes in")
    expect(rows.nth(2)).to_contain_text("uploaded: 8 bytes in")
    inputs = page.locator('[name^="/inputs/"][name$="/path"]')
    expect(inputs).to_have_count(2)
    assert [one.input_value() for one in inputs.all()] == ["late.txt", "last.txt"]
    file_drop(page, "lost.txt", b"lost.txt")
    expect(inputs).to_have_count(3)


@pytest.mark.parametrize("has_script", [True, False], ids=["with a script", "without one"])
def test_on_a_phone_what_is_to_correct_the_cost_and_the_button_stay_in_sight(
    has_script: bool, portal: LivePortal, browser: Browser, researcher: User
) -> None:
    with portal.database():
        cookie = session_cookie(researcher)
    context = browser.new_context(base_url=portal.origin, viewport={"width": 360, "height": 740}, java_script_enabled=has_script)
    context.add_cookies([{"name": "sessionid", "value": cookie, "url": portal.origin}])
    page = context.new_page()
    page.goto("/jobs/new/?from=folding")
    foot = page.locator(".submission-foot")
    expect(page.get_by_role("button", name="Submit the job")).to_be_in_viewport(ratio=1)
    expect(foot).to_contain_text("2 to correct")
    expect(foot).to_contain_text("0.008 credits")
    page.locator('[name="/credit_rate"]').fill("10")
    expect(page.get_by_role("button", name="Submit the job")).to_be_in_viewport(ratio=1)
    if not has_script:
        page.get_by_role("button", name="Check", exact=True).last.click()
    expect(foot).to_contain_text("0.08 credits")
    page.locator('[name="/limits/pids"]').focus()
    field, bar = page.locator('[name="/limits/pids"]').bounding_box(), foot.bounding_box()
    assert field is not None
    assert bar is not None
    assert field["y"] + field["height"] <= bar["y"], "expected the bar to hide nothing that has the focus"
    foot.get_by_role("link", name="2 to correct").click()
    expect(page.get_by_role("heading", name="Check", exact=True)).to_be_in_viewport()
    context.close()


def test_what_is_wrong_is_said_at_the_field_while_one_types(page: Page) -> None:
    page.goto("/jobs/new/?from=folding")
    field = page.locator('[name="/verification/quorum"]')
    field.fill("9")
    expect(page.locator('[id="w/verification/quorum"]')).to_have_text("Expected at most copies, 2; found 9. Raise copies or lower quorum.")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("document.activeElement.name") == "/verification/quorum"
    field.fill("2")
    expect(page.locator('[id="w/verification/quorum"]')).to_be_empty()


def test_hostile_text_stays_text_in_every_place(page: Page) -> None:
    """The form, the messages that a script puts beside it, and the list of uploads."""
    hostile = "<img src=x onerror=window.broken=1>\"'"
    page.goto("/jobs/new/?from=folding")
    for name in ("/job_id", "/docker_image", "/environment/0/name", "/outputs/0/path", "/limits/pids", "/input_files/0"):
        page.locator(f'[name="{name}"]').fill(hostile)
    expect(page.locator('[id="w/limits/pids"]')).to_contain_text("<img src=x")
    page.get_by_role("button", name="Add outputs").click()
    expect(page.locator('[name="/job_id"]')).to_have_value(hostile)
    file_drop(page, hostile, b"data")
    expect(page.locator("#transfers")).to_contain_text(hostile)
    assert page.evaluate("[window.broken, document.querySelectorAll('main img').length]") == [None, 0]


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 2**16 + 7])
def test_the_browsers_digest_is_sha256(page: Page, size: int) -> None:
    page.goto("/jobs/new/?from=blank")
    found: Any = page.evaluate(
        """async (size) => {
            const { Sha256 } = await import("/static/jobs/sha256.js");
            const data = Uint8Array.from({ length: size }, (_, place) => (place * 7) % 256);
            const whole = new Sha256().update(data).hex();
            const pieces = new Sha256();
            for (let at = 0; at < size; at += 37) pieces.update(data.subarray(at, at + 37));
            return [whole, pieces.hex()];
        }""",
        size,
    )
    assert found == [hashlib.sha256(bytes(place * 7 % 256 for place in range(size))).hexdigest()] * 2
