"""Pages and downloads of a result: who gets them, what strangers' bytes can't do there, how many statements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.models import Job, Replica
from jobs.results.views import PAGE_FILES
from jobs.services.closing import job_fail
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from jobs.states import JobState, ReplicaState
from nodes.models import Node
from people.models import User
from tests.browser.scene_results import FOLDING_FILES
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make, researcher_make, user_make
from tests.factories.receipts import archive_make, replica_report
from tests.jobs.gateway.simulated_host import body_of

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
HOSTILE_NAME = "<img src=x onerror=alert(3)>\"'&.txt"
FILES: Mapping[str, bytes] = {
    **FOLDING_FILES,
    HOSTILE_NAME: HOSTILE.encode(),
    "hostile.csv": f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",y\n1,2\n3,4\n"{HOSTILE.replace(chr(34), chr(34) * 2)}",4\n'.encode(),
    "hostile.json": b'{"' + HOSTILE.replace('"', '\\"').encode() + b'": "' + HOSTILE.replace('"', '\\"').encode() + b'"}',
    "hostile.pdb": f'REMARK {HOSTILE}\nMODEL\nHETATM    1 <b"> <i> <   1       0.000   0.000   0.000  {HOSTILE}\n'.encode(),
    "hostile.cif": b"data_a\nloop_\n_atom_site.label_asym_id\n_atom_site.label_comp_id\n_atom_site.label_atom_id\n_atom_site.cartn_x\n"
    b"_atom_site.cartn_y\n_atom_site.cartn_z\n_atom_site.pdbx_pdb_model_num\n"
    b"<b> <i> <script> 0 0 0 <script>alert(1)</script>\nA G C 1 1 1 2\n",
    "hostile.html": HOSTILE.encode(),
    "hostile.svg": f"<svg xmlns='http://www.w3.org/2000/svg'>{HOSTILE}</svg>".encode(),
    "claims.png": f"<svg xmlns='http://www.w3.org/2000/svg'>{HOSTILE}</svg>".encode(),
}
VIEWS = (
    "results/",
    "results/archive/",
    "results/files/final.pdb",
    "results/bytes/final.pdb",
    "results/image/maps/contacts.png",
    "results/atoms/final.pdb",
)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def concluded_job(files: Mapping[str, bytes] = FILES, **overrides: Any) -> Job:
    job = job_make(**overrides)
    replica_report(job, files)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    assert job.state == JobState.COMPLETED
    return job


def got(job: Job, path: str) -> Any:
    return signed_in(job.owner).get(f"/jobs/{job.pk}/{path}")


def status_of(job: Job, path: str) -> int:
    """The answer's status, after its stream, if it has one, was read to its end."""
    answer = got(job, path)
    body_of(answer)
    return int(answer.status_code)


def text_of(job: Job, path: str) -> str:
    response = got(job, path)
    assert response.status_code == 200
    return str(response.content.decode())


# --- who ------------------------------------------------------------------------------------------------------------------


def test_owner_gets_all_of_it_and_nobody_else_any() -> None:
    job = concluded_job()
    contributor = Node.objects.get(replicas__job=job).owner
    for path in VIEWS:
        assert status_of(job, path) == 200, path
        for other in (user_make(), researcher_make(), moderator_make(), contributor):
            assert signed_in(other).get(f"/jobs/{job.pk}/{path}").status_code == 404, path
        anonymous = Client().get(f"/jobs/{job.pk}/{path}")
        assert (anonymous.status_code, anonymous.headers["Location"].split("?")[0]) == (302, "/accounts/login/")
        assert signed_in(job.owner).post(f"/jobs/{job.pk}/{path}").status_code == 405


def test_answers_are_not_stored_by_caches() -> None:
    job = concluded_job()
    for path in VIEWS:
        answer = got(job, path)
        body_of(answer)
        assert "no-store" in answer.headers["Cache-Control"], path


def test_open_job_has_no_result_even_if_a_host_delivered_one() -> None:
    job = job_make()
    replica_report(job, FILES)
    assert "There is no result yet." in text_of(job, "results/")
    for path in VIEWS[1:]:
        assert status_of(job, path) == 404, path


@pytest.mark.parametrize("state", [state for state in JobState if state not in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}])
def test_canonical_result_of_a_job_that_is_not_concluded_is_not_shown(state: JobState) -> None:
    job = concluded_job()
    Job.objects.filter(pk=job.pk).update(state=state)
    for path in VIEWS[1:]:
        assert status_of(job, path) == 404, path
    assert "final.pdb" not in text_of(job, "results/")


@pytest.mark.parametrize("state", [ReplicaState.REPORTED, ReplicaState.CANCELLED, ReplicaState.EXPIRED])
def test_result_that_was_never_judged_is_not_shown(state: ReplicaState) -> None:
    job = concluded_job()
    Replica.objects.filter(job=job).update(state=state)
    assert "final.pdb" not in text_of(job, "results/")
    assert got(job, "results/bytes/final.pdb").status_code == 404


def test_job_without_a_result_says_why_and_where_to_look() -> None:
    failed, cancelled = job_make(), job_make()
    job_fail(job=failed, code="exit_nonzero", message="The container ended with exit code 3.")
    job_cancel(job=cancelled)
    assert "concluded without" in text_of(failed, "results/")
    assert "cancelled before it had" in text_of(cancelled, "results/")
    assert "The program wrote no files." in text_of(concluded_job({}), "results/")


@pytest.mark.parametrize("path", ["nothing.txt", "maps", "maps/", "../final.pdb", "..%2f..%2fetc/passwd", "%00", "a" * 3000])
def test_what_is_not_in_the_archive_is_not_there(path: str) -> None:
    job = concluded_job()
    for view in ("files", "bytes", "image", "atoms"):
        assert got(job, f"results/{view}/{path}").status_code == 404


# --- what is shown ---------------------------------------------------------------------------------------------------------


def test_list_has_every_file_with_its_digest_and_links_that_work() -> None:
    job = concluded_job()
    page = text_of(job, "results/")
    for link in map(unescape, re.findall(r'href="(/jobs/[^"]*/results/files/[^"]*)"', page)):
        assert signed_in(job.owner).get(link).status_code == 200, link
    assert len(re.findall(r"/results/bytes/", page)) == len(FILES)
    assert len(re.findall(r'data-copy="sha256:', page)) == len(FILES) + 1


def test_list_of_many_files_has_pages() -> None:
    job = concluded_job({f"{number:04}": b"" for number in range(PAGE_FILES + 1)})
    first, second = text_of(job, "results/"), text_of(job, f"results/?from={PAGE_FILES}")
    assert (first.count("/results/bytes/"), second.count("/results/bytes/")) == (PAGE_FILES, 1)
    assert "Files after" in first
    assert "Files before" in second
    assert "There are no more files." in text_of(job, "results/?from=99999")
    assert "0000" in text_of(job, "results/?from=-1%00")


def test_each_file_is_shown_in_each_of_its_ways() -> None:
    job = concluded_job()
    for path in FILES:
        page = text_of(job, f"results/files/{quote(path)}")
        ways = re.findall(r'<a href="\?as=(\w+)"', page.split("results-look")[0])
        assert ways, path
        for way in ways:
            assert "<section" in text_of(job, f"results/files/{quote(path)}?as={way}")


def test_file_is_read_as_the_descriptor_says() -> None:
    rule = {"path": "energies.out", "format": "csv", "header": False}
    job = concluded_job(
        {"energies.out": b"1,2\n3,4\n"},
        outputs=[{"path": "energies.out", "required": True}],
        verification={"method": "numeric", "files": [rule]},
    )
    page = text_of(job, "results/files/energies.out")
    assert "2 rows." in page


def test_file_that_is_not_what_its_name_says_is_shown_as_text_and_the_reason_told() -> None:
    job = concluded_job({"a.json": b"{'a': 1}", "b.pdb": b"no atoms\n", "c.npy": b"\x93NUMPY no"})
    assert "expected JSON" in text_of(job, "results/files/a.json")
    assert "expected atoms, found none" in text_of(job, "results/files/b.pdb")
    assert "93 4e 55 4d" in text_of(job, "results/files/c.npy")
    answer = got(job, "results/atoms/b.pdb")
    assert (answer.status_code, "expected atoms" in answer.json()["detail"]) == (422, True)


def test_columns_are_chosen_without_a_script() -> None:
    job = concluded_job()
    page = text_of(job, "results/files/energies.csv?as=plot&x=row&y=2")
    assert page.count("plot-drawing") == 1
    assert "temperature_k over row" in page


# --- what strangers' bytes can't do ---------------------------------------------------------------------------------------


def test_no_file_or_name_gets_markup_into_a_page() -> None:
    job = concluded_job()
    pages = ["results/", "results/files/hostile.csv?as=plot&x=1&y=1", "results/files/hostile.pdb?model=<script>alert(1)</script>"]
    for path in FILES:
        if "hostile" in path or path in {HOSTILE_NAME, "report.svg", "claims.png"}:
            pages += [f"results/files/{quote(path)}?as={way}" for way in ("structure", "table", "plot", "tree", "image", "text", "hex")]
    for path in pages:
        page = text_of(job, path)
        assert not re.search(r"<script(?! src=\"/static/)|<img src=x|onerror=alert\(\d\)>(?!&|\")|<b>|<i>", page), path


def test_name_stands_escaped_in_the_list_and_on_its_page() -> None:
    job = concluded_job()
    for path in ("results/", f"results/files/{quote(HOSTILE_NAME)}"):
        page = text_of(job, path)
        assert "&lt;img src=x onerror=alert(3)&gt;" in page
        assert "<img src=x" not in page


@pytest.mark.parametrize(
    "path", ["hostile.html", "hostile.svg", "report.svg", "claims.png", "final.pdb", "maps/contacts.png", HOSTILE_NAME]
)
def test_download_is_an_attachment_that_no_browser_runs(path: str) -> None:
    job = concluded_job()
    answer = got(job, f"results/bytes/{quote(path)}")
    assert body_of(answer) == FILES[path]
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "\n" not in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Length"] == str(len(FILES[path]))


def test_image_is_served_as_its_bytes_are_and_markup_never() -> None:
    job = concluded_job()
    answer = got(job, "results/image/maps/contacts.png")
    assert (answer.headers["Content-Type"], answer.content) == ("image/png", FILES["maps/contacts.png"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    for path in ("claims.png", "hostile.svg", "report.svg", "hostile.html", "energies.csv"):
        assert got(job, f"results/image/{path}").status_code == 404


def test_atoms_are_numbers_and_letters_of_ours() -> None:
    job = concluded_job()
    answer = got(job, "results/atoms/hostile.cif")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert set(answer.json()["colours"]) <= set("hcnospxmq")
    assert "<" not in answer.content.decode()


def test_archive_is_what_the_host_delivered() -> None:
    job = concluded_job()
    answer = got(job, "results/archive/")
    assert body_of(answer) == archive_make(FILES)[0]
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job.label}.tar"'


def test_damaged_or_lost_archive_is_said_to_be_so(settings: Any) -> None:
    settings.NEXA_BLOB_INLINE_BYTES = 0
    job = concluded_job({"a.txt": b"content"})
    assert job.canonical_replica is not None
    ending = str(job.canonical_replica.receipt.archive_id)[-20:]
    [stored] = [path for path in Path(settings.NEXA_BLOB_ROOT).rglob("*") if path.name.endswith(ending)]
    whole = stored.read_bytes()
    stored.chmod(0o600)
    try:
        stored.write_bytes(whole.replace(b"content", b"contend"))
        assert "another digest" in text_of(job, "results/files/a.txt")
        stored.write_bytes(whole[:700])
        assert "The stored archive is damaged" in text_of(job, "results/")
        assert got(job, "results/bytes/a.txt").status_code == 404
        stored.unlink()
        assert "The stored archive is gone" in text_of(job, "results/")
        assert got(job, "results/archive/").status_code == 404
    finally:
        stored.write_bytes(whole)


# --- how many statements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["results/", "results/files/final.pdb", "results/files/energies.csv?as=plot"])
def test_page_takes_few_statements_however_many_files(path: str, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    job = concluded_job()
    client = signed_in(job.owner)
    client.get(f"/jobs/{job.pk}/{path}")
    with django_assert_num_queries(6):
        client.get(f"/jobs/{job.pk}/{path}")
