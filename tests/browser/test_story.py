"""The whole way, by hand: two people lend machines, a researcher is let in, submits, watches, sees the structure, and verifies it offline.

Everything is real: the stack's processes, hosts that run the command of the page, containers, mails. What a person would click is clicked.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from devstack.engine import engine_ensure
from devstack.stack import CHECKOUT, HOST_BIN, SERVER_BIN
from tests.acceptance.running_stack import SETTINGS, RunningStack, coordinator_running, images_make
from tests.browser.hands import PASSWORD, authenticator_add, email_confirm, file_drop, sign_in, sign_up
from tests.browser.looking import Complaints, context_open

pytestmark = [pytest.mark.acceptance, pytest.mark.docker, pytest.mark.timeout(600)]

FOLDING: Final = CHECKOUT / "examples" / "folding"
STAGES: Final = {"heating": 500, "annealing": 1500, "cooling": 1500}
"""Steps: a fifth of the example's, and the chain still collapses."""
HOST_MS: Final = 60_000
"""A host measures its machine before it joins, beside whatever else is running."""
RUN_MS: Final = 240_000
STATES_NOTE: Final = """() => {
  window.states = [];
  const live = document.getElementById("job-live");
  const note = () => {
    const state = live.querySelector(".title-line .state").textContent;
    if (window.states.at(-1) !== state) window.states.push(state);
  };
  note();
  new MutationObserver(note).observe(live, { childList: true, subtree: true });
}"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningStack]:
    engine = engine_ensure(report=print)
    images = images_make(engine, [FOLDING])
    with coordinator_running(tmp_path, engine=engine, images=images, owners=(), settings=SETTINGS) as found:
        yield found


class People:
    """Each in a browser profile of their own; at the end none of their pages may have complained."""

    def __init__(self, browser: Browser, running: RunningStack) -> None:
        self._browser = browser
        self._running = running
        self.mails = running.folder / "mail"
        self.complaints: list[Complaints] = []

    def page(self) -> Page:
        context = context_open(self._browser, self._running.stack.origin)
        context.set_default_timeout(HOST_MS)
        page = context.new_page()
        self.complaints.append(Complaints(page))
        return page

    def signed_up(self, name: str) -> Page:
        page = self.page()
        sign_up(page, self.mails, name)
        sign_in(page, name)
        return page

    def moderator(self, name: str) -> Page:
        """Made by the operator at a terminal, as the README says; their address is confirmed like everybody's."""
        settings = {**self._running.stack.manage_settings(), "DJANGO_SUPERUSER_PASSWORD": PASSWORD, "PATH": os.environ["PATH"]}
        command = [str(SERVER_BIN / "python"), str(CHECKOUT / "manage.py"), "createsuperuser", "--noinput"]
        who = ["--username", name, "--email", f"{name}@example.org"]
        subprocess.run([*command, *who], env=settings, capture_output=True, timeout=60, check=True)
        page = self.page()
        sign_in(page, name)
        email_confirm(page, self.mails)
        sign_in(page, name)
        authenticator_add(page)  # without it a moderator only looks
        return page


def machine_lend(page: Page, running: RunningStack, name: str, owner: str) -> None:
    """Gets a token and runs the page's command; the page, which stays open, shows who arrives."""
    page.goto("/nodes/")
    page.get_by_role("link", name="Lend a machine").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Get a one-time token").click()
    expect(page.locator("#live-note")).to_contain_text("Live")
    page.get_by_label("As a service").check()
    expect(page.locator("#c-systemd")).to_be_visible()
    expect(page.locator("#c-shell")).to_be_hidden()
    page.get_by_label("In a shell").check()
    expect(page.locator("#c-shell")).to_be_visible()
    page.evaluate("window.unbroken = true")
    running.machine_run(name, owner, page.locator("#c-shell").get_attribute("data-text") or "")


def machine_arrives(page: Page, running: RunningStack, name: str) -> None:
    arrived = page.locator(".arrived")
    try:
        expect(arrived).to_contain_text(name, timeout=HOST_MS)
        expect(arrived).to_contain_text("Asks for work")
    except AssertionError as error:
        raise AssertionError(running.process(name).log_tail()) from error
    expect(arrived).to_contain_text(f"{os.cpu_count()} cores")
    expect(arrived.locator("svg.glyph").first).to_be_visible()


def researcher_let_in(researcher: Page, moderator: Page) -> None:
    researcher.goto("/jobs/new/")
    researcher.get_by_role("link", name="Apply as a researcher").click()
    researcher.get_by_label("Your name").fill("Dorothy Hodgkin")
    researcher.get_by_label("Affiliation").fill("University of Oxford")
    researcher.get_by_label("What you want to compute").fill("How a small protein collapses: ten short runs of the folding example.")
    researcher.get_by_role("button", name="Apply").click()
    expect(researcher.get_by_role("heading", name="A moderator has your application")).to_be_visible()
    moderator.goto("/admin/people/researcherapplication/")
    moderator.get_by_role("link", name="Dorothy Hodgkin").first.click()
    moderator.get_by_role("link", name="Approve").click()
    moderator.get_by_label("To the applicant").fill("Welcome.")
    moderator.get_by_role("button", name="Approve").click()
    expect(moderator.get_by_text("approved; a mail tells them how to start")).to_be_visible()
    researcher.reload()
    expect(researcher.get_by_role("heading", name="Approved")).to_be_visible()


def job_submit(page: Page) -> None:
    """The example, its sequence as a chosen file, its parameters with fewer steps as a dropped one; one upload breaks off."""
    page.goto("/jobs/new/")
    page.get_by_role("link", name="folding").click()
    expect(page.locator('[name="/docker_image"]')).to_have_value("nexapod/folding:1.0")
    expect(page.locator(".upload-state").first).to_contain_text("not uploaded by you yet")
    lost: list[str] = []

    def lose_once(route: Route) -> None:
        """The connection is lost before the first piece arrives, and comes back."""
        if route.request.method == "PATCH" and not lost:
            lost.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/jobs/new/uploads/**", lose_once)
    page.set_input_files("#files", FOLDING / "inputs" / "chignolin.fasta")
    expect(page.locator("#transfers")).to_contain_text("uploaded: 75 bytes in")
    parameters = json.loads((FOLDING / "inputs" / "params.json").read_text())
    for stage in parameters["stages"]:
        stage["steps"] = STAGES[stage["name"]]
    file_drop(page, "params.json", json.dumps(parameters).encode())
    expect(page.locator("#transfers li").nth(1)).to_contain_text("uploaded:")
    expect(page.locator(".upload-state .state-passed")).to_have_count(2)
    assert len(lost) == 1
    page.locator('[name="/job_id"]').fill("chignolin-in-short")
    page.get_by_role("button", name="JSON").click()
    expect(page.locator("#f-text")).to_have_value(re.compile('"job_id": "chignolin-in-short"'))
    page.get_by_role("button", name="Form").click()
    expect(page.locator('[name="/job_id"]')).to_have_value("chignolin-in-short")
    expect(page.locator("#check")).to_contain_text("Nothing to correct")
    expect(page.locator("#check-line")).to_contain_text("0 to correct")
    # (1.8e12 / 3.6e15) * 1 = 0.0005 a replica, at worst 4 times that, 4 replicas at most.
    for words in ("1.8e12", "0.0005", "0.002", "4 replicas: 2 copies, up to 2 more", "0.008", "10.00", "9.992"):
        expect(page.locator("#check")).to_contain_text(words)
    page.locator("#submit-job").dblclick()
    page.wait_for_url("**/jobs/*-*-*-*-*/", wait_until="commit")
    expect(page.locator("h1")).to_have_text("chignolin-in-short")


def job_watch(page: Page) -> None:
    """Two replicas agree before the eyes of who submitted it; the page is never loaded again."""
    page.evaluate(STATES_NOTE)
    live = page.locator("#job-live")
    state = live.locator(".title-line .state").first
    expect(page.locator("#live-note")).to_contain_text("Live: this page follows the job.")
    expect(state).to_have_text("running")
    expect(live.get_by_role("heading", name="lise-attic")).to_be_visible()
    expect(live.get_by_role("heading", name="emmy-shed")).to_be_visible()
    expect(live.get_by_text("could copy it, you included").first).to_be_visible()
    expect(state).to_have_text("completed", timeout=RUN_MS)
    expect(live.locator(".verdict")).to_contain_text("2 of 2 replicas agree")
    expect(live.locator(".replica .state-accepted")).to_have_count(2)
    expect(page.locator("#live-note")).to_contain_text("Concluded; nothing more will change.")
    expect(live.get_by_text("measuring").first).to_be_visible()  # in the log, which is there by now
    expect(live.get_by_role("link", name="proof.json").first).to_be_visible()
    seen = page.evaluate("window.states")
    assert seen in (["queued", "running", "completed"], ["running", "completed"]), "without a reload, and in order"


def structure_look(page: Page) -> None:
    page.get_by_role("link", name="See the results").click()
    page.get_by_role("link", name="final.pdb", exact=True).first.click()
    page.wait_for_selector("#structure[data-ready=yes]")
    expect(page.locator("#structure-canvas")).to_be_visible()
    page.get_by_role("link", name="chignolin-in-short").click()


def bundle_verify(page: Page, folder: Path) -> None:
    """Downloads the bundle and runs the page's command beside it, where there is no Django, no configuration and no portal."""
    with page.expect_download() as begun:
        page.get_by_role("link", name="Download the bundle").click()
    file = folder / begun.value.suggested_filename
    begun.value.save_as(file)
    with page.expect_download() as evidence:
        page.get_by_role("link", name="receipt.json").first.click()
    assert json.loads(evidence.value.path().read_text())["payloadType"] == "application/vnd.in-toto+json"
    command = shlex.split(page.locator("#c-verify").get_attribute("data-text") or "")
    bare = {"PATH": f"{HOST_BIN}{os.pathsep}{os.environ['PATH']}", "HOME": "/nonexistent"}
    verified = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert verified.returncode == 0, verified.stderr
    assert "2 accepted replicas, quorum 2" in verified.stdout
    assert "payments proved under the ledger's checkpoint" in verified.stdout
    assert collapse_of(file) < 0.8, "expected the chain to have collapsed"


def collapse_of(bundle: Path) -> float:
    """The last radius of gyration over the first."""
    with zipfile.ZipFile(bundle) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith("archive.tar")]
        with opened.open(name) as archive, tarfile.open(fileobj=archive) as members:
            (member,) = [one for one in members if one.name.endswith("summary.json")]
            found = members.extractfile(member)
            assert found is not None
            summary = json.load(found)
    return float(summary["radius_of_gyration_final_nm"] / summary["radius_of_gyration_start_nm"])


def test_from_three_sign_ups_to_a_structure_that_anybody_can_verify(running: RunningStack, browser: Browser, tmp_path: Path) -> None:
    people = People(browser, running)
    lenders = {}
    for owner, machine in (("lise", "lise-attic"), ("emmy", "emmy-shed")):
        lenders[machine] = people.signed_up(owner)
        machine_lend(lenders[machine], running, machine, owner)
    researcher = people.signed_up("dorothy")
    researcher_let_in(researcher, people.moderator("grace"))
    for machine, page in lenders.items():
        machine_arrives(page, running, machine)

    job_submit(researcher)
    job_watch(researcher)

    for page in lenders.values():
        expect(page.locator(".arrived")).to_contain_text("First job: protein_folding")
        expect(page.locator(".arrived")).to_contain_text("of the public log")
        assert page.evaluate("window.unbroken"), "without a reload"
    structure_look(researcher)
    bundle_verify(researcher, tmp_path)
    found = [text for one in people.complaints for text in one.found if "ERR_CONNECTION_RESET" not in text]
    assert found == []
