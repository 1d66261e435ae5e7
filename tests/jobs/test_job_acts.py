"""What an owner does to jobs: cancel, archive, run again; one or many; and nobody else."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.errors import JobOpenError, LabelConflictError, LabelInvalidError
from jobs.models import Job
from jobs.services.chosen import jobs_archive, jobs_cancel, jobs_unarchive
from jobs.services.retry import job_retry, label_free
from ledger.selectors import balance_micro_of
from tests.factories.jobs import credits_grant, funded_researcher_make, job_make, upload_make
from tests.factories.people import moderator_make, user_make
from tests.jobs.test_views import completed_job, signed_in

pytestmark = pytest.mark.django_db


def test_cancelling_many_ends_those_that_can_be_and_says_of_the_others_why() -> None:
    owner = funded_researcher_make()
    open_ones = [job_make(owner), job_make(owner)]
    done = completed_job(owner)
    outcome = jobs_cancel(jobs=[*open_ones, done])
    assert [job.state for job in outcome.done] == ["cancelled", "cancelled"]
    [(refused, error)] = outcome.refused
    assert (refused.pk, error.code) == (done.pk, "job_concluded")


def test_only_ended_jobs_go_into_the_archive_and_come_back() -> None:
    owner = funded_researcher_make()
    open_one, done = job_make(owner), completed_job(owner)
    outcome = jobs_archive(jobs=[open_one, done])
    assert [job.pk for job in outcome.done] == [done.pk]
    [(refused, error)] = outcome.refused
    assert (refused.pk, type(error), error.code) == (open_one.pk, JobOpenError, "job_open")
    assert list(Job.objects.filter(is_archived=True)) == [done]
    jobs_unarchive(jobs=[done])
    assert not Job.objects.filter(is_archived=True).exists()


def test_chosen_jobs_are_cancelled_after_a_question() -> None:
    owner = funded_researcher_make()
    jobs = [job_make(owner, job_id=f"ask-{number}") for number in range(3)]
    before = balance_micro_of(user_id=owner.pk)
    client = signed_in(owner)
    chosen = {"act": "cancel", "job": [str(jobs[0].pk), str(jobs[1].pk)], "back": "state=queued"}
    question = client.post("/jobs/act/", chosen)
    assert question.status_code == 200
    assert "Cancel 2 jobs?" in question.content.decode()
    assert not Job.objects.filter(state="cancelled").exists()
    answer = client.post("/jobs/act/", {**chosen, "confirmed": "yes"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/jobs/?state=queued")
    assert {job.label for job in Job.objects.filter(state="cancelled")} == {"ask-0", "ask-1"}
    assert balance_micro_of(user_id=owner.pk) == before + 2 * jobs[0].reserved_micro
    assert "2 jobs cancelled: reservations went back" in client.get("/jobs/").content.decode()


def test_a_question_about_ended_jobs_offers_no_button() -> None:
    done = completed_job()
    text = signed_in(done.owner).post("/jobs/act/", {"act": "cancel", "job": str(done.pk)}).content.decode()
    assert "Nothing to cancel" in text
    assert 'name="confirmed"' not in text


def test_the_archive_hides_from_the_list_and_nothing_else() -> None:
    done = completed_job()
    client = signed_in(done.owner)
    answer = client.post("/jobs/act/", {"act": "archive", "job": str(done.pk), "from": "job"})
    assert answer.headers["Location"] == f"/jobs/{done.pk}/"
    assert "Nothing was deleted" in client.get(f"/jobs/{done.pk}/").content.decode()
    assert str(done.pk) not in client.get("/jobs/").content.decode()
    assert str(done.pk) in client.get("/jobs/?archived=yes").content.decode()
    client.post("/jobs/act/", {"act": "unarchive", "job": str(done.pk)})
    assert str(done.pk) in client.get("/jobs/").content.decode()
    open_one = job_make(done.owner)
    client.post("/jobs/act/", {"act": "archive", "job": str(open_one.pk)})
    assert "It stays in your list until it has ended" in client.get("/jobs/").content.decode()


@pytest.mark.parametrize("act", ["cancel", "archive", "unarchive", "delete", ""])
def test_nobody_acts_on_jobs_of_others(act: str) -> None:
    victim = completed_job() if act == "archive" else job_make()
    for stranger in (user_make(), funded_researcher_make(), moderator_make()):
        answer = signed_in(stranger).post("/jobs/act/", {"act": act, "job": str(victim.pk), "confirmed": "yes", "from": "job"})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/jobs/")
    anonymous = Client().post("/jobs/act/", {"act": act, "job": str(victim.pk), "confirmed": "yes"})
    assert anonymous.headers["Location"].startswith("/accounts/login/")
    now = Job.objects.get(pk=victim.pk)
    assert (now.state, now.is_archived) == (victim.state, False)


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example/", "\r\nSet-Cookie: a=b", "#x", "q=a&state=failed"])
def test_it_leads_back_to_the_list_and_nowhere_else(back: str) -> None:
    job = completed_job()
    answer = signed_in(job.owner).post("/jobs/act/", {"act": "archive", "job": str(job.pk), "back": back})
    location = answer.headers["Location"]
    assert location == "/jobs/" or location.startswith("/jobs/?")
    assert "\n" not in location


def test_acting_needs_the_token_of_the_form() -> None:
    job = job_make()
    client = Client(enforce_csrf_checks=True)
    client.force_login(job.owner, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post("/jobs/act/", {"act": "cancel", "job": str(job.pk), "confirmed": "yes"}).status_code == 403
    assert client.get("/jobs/act/").status_code == 405


def test_a_retry_is_a_new_job_of_the_same_descriptor() -> None:
    owner = funded_researcher_make()
    blob = upload_make(owner, b"lattice")
    job = job_make(owner, job_id="quench", title="Quench", inputs=[{"path": "lattice.json", "digest": blob.digest}])
    made, created = job_retry(job=job, by=owner, label="quench-retry2")
    assert created
    assert {**made.descriptor, "job_id": "quench"} == job.descriptor
    assert (made.label, made.state, made.title, made.inputs.get().blob_id) == ("quench-retry2", "queued", "Quench", blob.digest)


def test_a_retry_needs_a_label_that_is_one_and_is_free() -> None:
    job = job_make(job_id="quench")
    for label in ("", "-x", "a b", "x" * 129, "<script>"):
        with pytest.raises(LabelInvalidError):
            job_retry(job=job, by=job.owner, label=label)
    job_make(job.owner, job_id="taken", estimated_flops=1e9)
    for label in ("quench", "taken"):
        with pytest.raises(LabelConflictError):
            job_retry(job=job, by=job.owner, label=label)


def test_a_retry_that_is_asked_for_twice_is_one_job() -> None:
    job = job_make(job_id="quench")
    client = signed_in(job.owner)
    answers = [client.post(f"/jobs/{job.pk}/retry/", {"label": "again"}) for _ in range(2)]
    made = Job.objects.exclude(pk=job.pk).get()
    assert [(answer.status_code, answer.headers.get("Location")) for answer in answers] == [(302, f"/jobs/{made.pk}/")] * 2
    assert "This job was submitted before" in client.get(f"/jobs/{made.pk}/").content.decode()


def test_the_label_that_is_proposed_is_free() -> None:
    owner = funded_researcher_make()
    first = job_make(owner, job_id="quench")
    assert label_free(job=first) == "quench-retry2"
    second, _ = job_retry(job=first, by=owner, label="quench-retry2")
    assert label_free(job=first) == label_free(job=second) == "quench-retry3"
    long = job_make(owner, job_id="x" * 128)
    assert job_retry(job=long, by=owner, label=label_free(job=long))[0].label.endswith("-retry2")


def test_the_page_submits_again_or_says_why_not() -> None:
    job = job_make(job_id="quench")
    client = signed_in(job.owner)
    address = f"/jobs/{job.pk}/retry/"
    assert 'value="quench-retry2"' in client.get(address).content.decode()
    answer = client.post(address, {"label": "quench-retry2"})
    made = Job.objects.get(label="quench-retry2")
    assert answer.headers["Location"] == f"/jobs/{made.pk}/"
    refused = client.post(address, {"label": "<script>alert(1)</script>"})
    assert refused.status_code == 422
    assert "<script>alert" not in refused.content.decode()
    assert "Expected 1 to 128 letters" in refused.content.decode()
    taken = client.post(address, {"label": "quench"})
    assert (taken.status_code, "Choose another label" in taken.content.decode()) == (409, True)
    dear = job_make(job.owner, job_id="dear", estimated_flops=4e15)
    assert balance_micro_of(user_id=job.owner.pk) < dear.reserved_micro
    assert client.post(f"/jobs/{dear.pk}/retry/", {"label": "dear-2"}).status_code == 402
    job.owner.researcher_approved_at = None
    job.owner.save()
    refused = client.post(address, {"label": "third"})
    assert (refused.status_code, "approve you as a researcher" in refused.content.decode()) == (403, True)


def test_nobody_runs_anothers_job_again() -> None:
    job = job_make()
    stranger = funded_researcher_make()
    credits_grant(stranger)
    for client in (signed_in(stranger), signed_in(moderator_make())):
        assert client.get(f"/jobs/{job.pk}/retry/").status_code == 404
        assert client.post(f"/jobs/{job.pk}/retry/", {"label": "mine-now"}).status_code == 404
    assert Client().post(f"/jobs/{job.pk}/retry/", {"label": "mine-now"}).status_code == 302
    assert Job.objects.count() == 1


def test_rows_are_given_again_only_where_they_have_changed() -> None:
    owner = funded_researcher_make()
    one, other = job_make(owner), job_make(owner)
    client = signed_in(owner)
    page = client.get("/jobs/").content.decode()
    named = [part.split('"')[0] for part in page.split('name="row" value="')[1:]]
    assert len(named) == 2
    question = "/jobs/rows/?" + "&".join(f"row={name}" for name in named)
    assert client.get(question).status_code == 204
    jobs_cancel(jobs=[one])
    answer = client.get(f"{question}&job={one.pk}")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert f'<tr id="job-{one.pk}" hx-swap-oob="true">' in text
    assert "checked" in text
    assert str(other.pk) not in text
    jobs_cancel(jobs=[other])
    assert client.get(question).status_code == 286


@pytest.mark.parametrize("row", ["", "x", "x:y", ":", "00000000-0000-0000-0000-000000000000:1"])
def test_rows_that_are_none_are_answered_with_none(row: str) -> None:
    answer = signed_in(user_make()).get("/jobs/rows/", {"row": row})
    assert (answer.status_code, answer.content.strip()) == (286, b"")


def test_rows_of_others_are_none() -> None:
    job = job_make()
    assert str(job.pk) not in signed_in(user_make()).get(f"/jobs/rows/?row={job.pk}:0").content.decode()
    assert Client().get(f"/jobs/rows/?row={job.pk}:0").status_code == 302


def test_rows_take_the_same_statements_however_many(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    owner = funded_researcher_make()
    jobs = [job_make(owner, estimated_flops=1e9) for _ in range(6)]
    client = signed_in(owner)
    with django_assert_max_num_queries(4):
        client.get("/jobs/rows/?" + "&".join(f"row={job.pk}:0" for job in jobs))
