"""The page for new jobs: who may what, the same errors as the API, one job for two submissions, hostile text, how many statements."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.descriptor import DescriptorInvalidError, descriptor_parse
from jobs.descriptor.form import fields_of
from jobs.models import Job, Upload
from jobs.services.submission import job_submit
from jobs.views.submission import PLAIN_FILE_BYTES_MAX
from ledger.selectors import balance_micro_of
from people.models import User
from tests.factories.jobs import descriptor_make, funded_researcher_make, image_approve, job_make, upload_make
from tests.factories.people import moderator_make, researcher_make, user_make
from workers.protocol.digests import digest_of
from workers.protocol.problems import ProblemError

pytestmark = pytest.mark.django_db
FOLDING = json.loads((Path(__file__).parents[3] / "examples" / "folding" / "job.json").read_text())
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
PART = {"HX-Request": "true"}


def signed_in(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def as_form(**overrides: Any) -> dict[str, str]:
    return {"tab": "form", **fields_of(descriptor_make(**overrides))}


def as_json(document: Any) -> dict[str, str]:
    return {"tab": "json", "text": document if isinstance(document, str) else json.dumps(document)}


def text_of(response: Any) -> str:
    return html.unescape(response.content.decode())


def faults_in(response: Any) -> list[tuple[str, str]]:
    """(field, code) of each fault that the check lists."""
    return re.findall(r'<li data-field="([^"]*)" data-code="([^"]*)"', response.content.decode())


class TestWhoMayWhat:
    @pytest.mark.parametrize("path", ["/jobs/new/", "/jobs/new/?from=blank", "/jobs/{}/clone/"])
    def test_anonymous_is_sent_to_sign_in(self, path: str) -> None:
        response = Client().get(path.format(job_make().pk))
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/accounts/login/?next=/jobs/")

    @pytest.mark.parametrize("path", ["/jobs/new/", "/jobs/new/check/", "/jobs/new/edit/"])
    def test_anonymous_posts_nothing(self, path: str) -> None:
        response = Client().post(path, as_form())
        assert (response.status_code, Job.objects.count()) == (302, 0)

    @pytest.mark.parametrize("path", ["/jobs/new/", "/jobs/new/check/", "/jobs/new/edit/"])
    def test_another_sites_form_is_refused(self, path: str) -> None:
        response = signed_in(funded_researcher_make(), enforce_csrf_checks=True).post(path, as_form())
        assert (response.status_code, Job.objects.count()) == (403, 0)

    def test_a_clone_of_anothers_job_is_not_there_whatever_the_role(self) -> None:
        job = job_make()
        for stranger in (user_make(), researcher_make(), moderator_make()):
            assert signed_in(stranger).get(f"/jobs/{job.pk}/clone/").status_code == 404
        assert signed_in(job.owner).get(f"/jobs/{job.pk}/clone/").status_code == 200

    def test_who_is_not_approved_reads_why_and_can_check_but_not_submit(self) -> None:
        image_approve()
        client = signed_in(user_make())
        text = text_of(client.get("/jobs/new/?from=blank"))
        assert "Your account may not submit jobs yet." in text
        assert 'id="submit-job"' not in text
        assert 'type="file"' not in text
        response = client.post("/jobs/new/", as_form())
        assert (response.status_code, Job.objects.count()) == (403, 0)
        assert ("", "researcher_required") in faults_in(response)
        assert "Ask the operator to approve you as a researcher." in text_of(response)


class TestStarts:
    def test_the_choice_names_each_example_and_a_blank_form(self) -> None:
        text = text_of(signed_in(funded_researcher_make()).get("/jobs/new/"))
        assert "?from=folding" in text
        assert "?from=blank" in text
        assert FOLDING["title"] in text

    def test_an_example_fills_the_form(self) -> None:
        text = text_of(signed_in(funded_researcher_make()).get("/jobs/new/?from=folding"))
        for value in (FOLDING["docker_image"], FOLDING["inputs"][0]["digest"], "/opt/folding/fold.py", "1.8e12"):
            assert value in text
        assert "not uploaded by you yet" in text
        assert "Inputs, command, environment and outputs lie in plain on the hosts" in text

    def test_an_unknown_example_is_not_there(self) -> None:
        assert signed_in(funded_researcher_make()).get("/jobs/new/?from=../secrets").status_code == 404

    def test_a_clone_runs_again_under_the_next_label(self) -> None:
        job = job_make(job_id="fold", environment={"A": "1"}, priority=3)
        client = signed_in(job.owner)
        for label in ("fold-2", "fold-3"):
            text = text_of(client.get(f"/jobs/{job.pk}/clone/"))
            assert f'name="/job_id" value="{label}"' in text
            document = {**job.descriptor, "job_id": label}
            assert client.post("/jobs/new/", {"tab": "form", **fields_of(document)}).status_code == 302
        assert sorted(Job.objects.values_list("label", flat=True)) == ["fold", "fold-2", "fold-3"]
        assert Job.objects.get(label="fold-3").descriptor == {**job.descriptor, "job_id": "fold-3"}


class TestSubmitting:
    @pytest.mark.parametrize("posted", [as_form, lambda **document: as_json(descriptor_make(**document))])
    def test_both_tabs_submit_what_the_api_would(self, posted: Any) -> None:
        owner = funded_researcher_make()
        response = signed_in(owner).post("/jobs/new/", posted(job_id="one", command=["a", "", "b\nc"], environment={"A": ""}))
        job = Job.objects.get()
        assert response.headers["Location"] == f"/jobs/{job.pk}/"
        same, created = job_submit(
            owner=owner,
            descriptor=descriptor_parse(descriptor_make(job_id="one", command=["a", "", "b\nc"], environment={"A": ""})),
        )
        assert (same.pk, created) == (job.pk, False)

    def test_twice_is_one_job_and_one_reservation(self) -> None:
        owner = funded_researcher_make()
        client = signed_in(owner)
        posted = as_form(job_id="once")
        first, second = client.post("/jobs/new/", posted), client.post("/jobs/new/", posted)
        job = Job.objects.get()
        assert first.headers["Location"] == second.headers["Location"] == f"/jobs/{job.pk}/"
        assert balance_micro_of(user_id=owner.pk) == 10_000_000 - job.reserved_micro
        assert "This job was submitted before" in text_of(client.get(f"/jobs/{job.pk}/"))

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"tier": 7}, "/tier"),
            ({"job_id": "no spaces"}, "/job_id"),
            ({"estimated_flops": "lots"}, "/estimated_flops"),
            ({"verification": {"copies": 1, "quorum": 2}}, "/verification/quorum"),
            ({"environment": {"NEXA_X": "1"}}, "/environment/0/value"),
            ({"outputs": [{"path": "a"}, {"path": "A"}]}, "/outputs/1/path"),
            ({"docker_image": "not/approved:1"}, "/docker_image"),
            ({"docker_image": "NOT AN IMAGE"}, "/docker_image"),
            ({"tier": 1, "requirements": {"vram_gb": 500}}, "/requirements/vram_gb"),
            ({"inputs": [{"path": "a", "digest": digest_of(b"a")}]}, "/inputs/0"),
            ({"input_files": ["a"]}, "/input_files/0"),
            ({"input_uri": "s3://bucket/", "input_files": ["a"]}, "/input_uri"),
            ({"input_uri": "https://elsewhere.example/", "input_files": ["a"]}, "/input_uri"),
            ({"estimated_flops": 1e20}, ""),
        ],
    )
    def test_a_refusal_is_the_apis_own_at_its_field_checked_or_submitted(self, changes: dict[str, Any], field: str) -> None:
        owner = funded_researcher_make()
        document = descriptor_make(**changes)
        with pytest.raises(ProblemError) as caught:
            job_submit(owner=owner, descriptor=descriptor_parse(document))
        message = caught.value.faults[0].message if isinstance(caught.value, DescriptorInvalidError) else caught.value.detail
        client = signed_in(owner)
        posted = {"tab": "form", **fields_of(document)}
        for response in (client.post("/jobs/new/check/", posted, headers=PART), client.post("/jobs/new/", posted)):
            assert field in [name for name, _ in faults_in(response)]
            # What an answer of the API says of several faults at once is said of each here.
            assert message in text_of(response) or caught.value.extra["errors"][0]["message"] in text_of(response)
        assert not Job.objects.exists()

    def test_another_content_under_a_label_is_told_at_the_label(self) -> None:
        job = job_make(job_id="taken")
        response = signed_in(job.owner).post("/jobs/new/", as_form(job_id="taken", priority=1))
        assert response.status_code == 409
        assert ("/job_id", "label_conflict") in faults_in(response)

    def test_malformed_json_stays_as_it_was_typed(self) -> None:
        client = signed_in(funded_researcher_make())
        response = client.post("/jobs/new/", as_json('{"job_id": '))
        assert response.status_code == 422
        assert "<textarea" in response.content.decode()
        assert '{"job_id": </textarea>' in text_of(response)
        assert faults_in(response) == [("text", "json_malformed")]


class TestEditing:
    def test_the_tabs_are_in_step_both_ways(self) -> None:
        client = signed_in(funded_researcher_make())
        document = descriptor_make(title="both ways", outputs=[{"path": "a.csv"}])
        shown = client.post("/jobs/new/edit/", {"tab": "form", **fields_of(document), "do": "show json"}, headers=PART)
        written = re.search(r"<textarea[^>]*>(.*?)</textarea>", shown.content.decode(), re.DOTALL)
        assert written
        assert json.loads(html.unescape(written[1])) == document
        back = text_of(client.post("/jobs/new/edit/", {**as_json(document), "do": "show form"}, headers=PART))
        assert 'name="/title" value="both ways"' in back
        assert 'name="/outputs/0/path" value="a.csv"' in back

    @pytest.mark.parametrize("written", ['{"tpye": 1}', "[1]", "{", '{"title": {}}'])
    def test_what_the_form_cant_show_stays_json_and_says_why(self, written: str) -> None:
        response = signed_in(funded_researcher_make()).post("/jobs/new/edit/", {**as_json(written), "do": "show form"}, headers=PART)
        assert f"{written}</textarea>" in text_of(response)
        assert faults_in(response)

    def test_rows_come_and_go_without_javascript_too(self) -> None:
        client = signed_in(funded_researcher_make())
        added = text_of(client.post("/jobs/new/edit/", {**as_form(), "do": "add /outputs"}))
        assert 'name="/outputs/0/path"' in added
        assert "<h1>New job</h1>" in added
        posted = as_form(outputs=[{"path": "a"}, {"path": "b"}])
        removed = text_of(client.post("/jobs/new/edit/", {**posted, "do": "remove /outputs/0"}))
        assert 'name="/outputs/0/path"' not in removed
        assert 'name="/outputs/1/path" value="b"' in removed

    @pytest.mark.parametrize("do", ["", "add", "add /nowhere", "remove", "remove /", "show", "show elsewhere", "drop table", "attach"])
    def test_an_edit_that_means_nothing_changes_nothing(self, do: str) -> None:
        response = signed_in(funded_researcher_make()).post("/jobs/new/edit/", {**as_form(title="kept"), "do": do}, headers=PART)
        assert response.status_code == 200
        assert 'value="kept"' in text_of(response)

    @pytest.mark.parametrize("tab", [as_form, lambda **document: as_json(descriptor_make(**document))])
    def test_an_upload_takes_the_place_of_the_input_of_its_name_or_a_new_one(self, tab: Any) -> None:
        owner = funded_researcher_make()
        blob = upload_make(owner, b"data")
        posted = {**tab(inputs=[{"path": "a", "digest": digest_of(b"old")}]), "do": "attach", "digest": blob.digest, "size_bytes": "4"}
        client = signed_in(owner)
        for path, gone in (("a", True), ("b", False)):
            text = text_of(client.post("/jobs/new/edit/", {**posted, "path": path}, headers=PART))
            assert blob.digest in text
            assert (digest_of(b"old") not in text) is gone

    def test_a_form_with_more_fields_than_it_shows_is_answered_and_goes_on_as_json(self) -> None:
        rows = {f"/input_files/{number}": f"f{number}" for number in range(1200)}
        response = signed_in(funded_researcher_make()).post(
            "/jobs/new/edit/", {**as_form(), **rows, "do": "add /input_files"}, headers=PART
        )
        assert response.status_code == 200
        assert "The form shows up to 900 fields" in text_of(response)
        assert 'name="text"' in text_of(response)


class TestFilesWithoutJavaScript:
    def test_files_become_uploads_and_inputs(self) -> None:
        owner = funded_researcher_make()
        files = [io.BytesIO(b"one"), io.BytesIO(b"")]
        files[0].name, files[1].name = "one.txt", "empty.txt"
        response = signed_in(owner).post("/jobs/new/edit/", {**as_form(), "do": "upload", "file": files})
        text = text_of(response)
        assert 'name="/inputs/0/path" value="one.txt"' in text
        assert digest_of(b"one") in text
        assert Upload.objects.filter(user=owner, committed_at__isnull=False).count() == 2
        assert faults_in(response) == []

    def test_no_file_is_told(self) -> None:
        response = signed_in(funded_researcher_make()).post("/jobs/new/edit/", {**as_form(), "do": "upload"})
        assert "No file was chosen" in text_of(response)

    def test_an_unapproved_account_uploads_nothing(self) -> None:
        file = io.BytesIO(b"data")
        file.name = "a"
        response = signed_in(user_make()).post("/jobs/new/edit/", {**as_form(), "do": "upload", "file": file})
        assert ("/inputs", "researcher_required") in faults_in(response)
        assert not Upload.objects.exists()

    def test_a_file_beyond_the_limit_is_refused_and_the_limit_told(self) -> None:
        file = io.BytesIO(bytes(PLAIN_FILE_BYTES_MAX + 1))
        file.name = "large.bin"
        response = signed_in(funded_researcher_make()).post("/jobs/new/edit/", {**as_form(), "do": "upload", "file": file})
        assert f"Expected at most {PLAIN_FILE_BYTES_MAX} bytes" in text_of(response)
        assert not Upload.objects.exists()

    @pytest.mark.parametrize("announced", [str(64 * 2**20), "9" * 30, "-1", "many"])
    def test_a_body_beyond_the_limit_is_not_even_read(self, announced: str) -> None:
        response = signed_in(funded_researcher_make()).generic(
            "POST", "/jobs/new/edit/", b"", content_type="multipart/form-data; boundary=x", CONTENT_LENGTH=announced
        )
        assert response.status_code == 413
        assert "Without JavaScript" in text_of(response)


def _hostile_document() -> dict[str, Any]:
    text = HOSTILE
    return {
        **dict.fromkeys(("schema_version", "job_id", "type", "docker_image", "title", "input_uri", "visibility", "estimated_flops"), text),
        **dict.fromkeys(("tier", "tolerance", "credit_rate", "priority", "queue_deadline_seconds"), text),
        **{name: [text] for name in ("command", "arguments", "input_files")},
        "environment": {text: text},
        "inputs": [{"path": text, "digest": text, "size_bytes": text}],
        "outputs": [{"path": text, "required": text, "media_type": text}],
        "requirements": dict.fromkeys(("gpu", "gpu_count", "vram_gb", "ram_gb", "cores", "disk_gb"), text),
        "limits": dict.fromkeys(("wall_seconds", "memory_mb", "cpus", "pids", "disk_mb", "output_mb"), text),
        "verification": {
            **dict.fromkeys(("method", "policy", "spot_share", "copies", "quorum"), text),
            "files": [{"path": text, "key": [text], "columns": {text: {"absolute": text}}}],
        },
    }


@pytest.mark.parametrize("path", ["/jobs/new/", "/jobs/new/check/", "/jobs/new/edit/"])
@pytest.mark.parametrize("tab", ["form", "json"])
def test_hostile_text_in_every_field_stays_text(path: str, tab: str) -> None:
    document = _hostile_document()
    fields = {"tab": "form", **fields_of(document)}
    assert sum(text == HOSTILE for text in fields.values()) > 35
    posted = fields if tab == "form" else as_json(document)
    raw = signed_in(funded_researcher_make()).post(path, posted).content.decode()
    assert "<script>alert" not in raw
    assert "<img src=x" not in raw
    assert "&lt;img src=x onerror" in raw


def test_the_statements_are_bounded_whatever_is_written(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    owner = funded_researcher_make()
    inputs = [{"path": f"f{number}", "digest": upload_make(owner, f"{number}".encode()).digest} for number in range(30)]
    client = signed_in(owner)
    client.get("/jobs/new/")
    # Session, user; label, image, uploads, their blobs, once a minute what is stored for them (two), balance twice, queues, nodes; with a
    # form also the states of its inputs.
    with django_assert_num_queries(12):
        client.post("/jobs/new/check/", as_form(inputs=inputs), headers=PART)
    with django_assert_num_queries(11):
        client.post("/jobs/new/edit/", {**as_form(inputs=inputs), "do": ""}, headers=PART)


@pytest.mark.parametrize("named", ["example/other:2.0", "example/other:2.0@sha256:" + "cd" * 32])
def test_an_image_that_is_not_approved_can_be_asked_for_from_there(named: str) -> None:
    client = signed_in(funded_researcher_make())
    checked = client.post("/jobs/new/check/", as_form(docker_image=named))
    assert faults_in(checked)[0][1] == "image_not_approved"
    [path] = re.findall(r'href="(/jobs/images/[^"]*)"', text_of(checked))
    assert path == "/jobs/images/?name=example%2Fother%3A2.0#h-ask"
    assert 'value="example/other:2.0"' in text_of(client.get(path.partition("#")[0]))
    assert "/jobs/images/" not in text_of(client.post("/jobs/new/check/", as_form()))
