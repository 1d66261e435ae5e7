"""The front page, and what holds for every page: policy, errors, sign-in, no script or style in the markup."""

from __future__ import annotations

import re

import pytest
from django.template.loader import render_to_string
from django.test import Client, override_settings
from pytest_django import DjangoAssertNumQueries

from jobs.models import Job
from jobs.selectors import jobs_decided_newest
from jobs.services.closing import job_fail
from jobs.services.settlement import job_settle
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, researcher_make, user_make
from tests.factories.receipts import replica_report

PUBLIC = ("/", "/ledger/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")
PRIVATE = ("/jobs/", "/nodes/")


def signed_in(user: object) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")  # type: ignore[arg-type]
    return client


def completed_job() -> Job:
    job = job_make(verification={"method": "exact", "copies": 2, "quorum": 2}, job_id="secret-target", title="secret title", type="docking")
    for _ in range(2):
        replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    return job


@pytest.mark.django_db
@pytest.mark.parametrize("path", PUBLIC)
def test_public_pages_are_for_everybody(path: str) -> None:
    for client in (Client(), signed_in(user_make()), signed_in(moderator_make())):
        response = client.get(path)
        signs_in = path.startswith("/accounts/") and "reset" not in path and "sessionid" in client.cookies
        assert response.status_code == (302 if signs_in else 200)


@pytest.mark.django_db
@pytest.mark.parametrize("path", PRIVATE)
def test_private_pages_are_for_those_signed_in(path: str) -> None:
    assert Client().get(path).headers["Location"] == f"/accounts/login/?next={path}"
    for user in (user_make(), researcher_make(), moderator_make()):
        response = signed_in(user).get(path)
        assert response.status_code == 200
        assert "private" in response.headers["Cache-Control"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", [*PUBLIC, *PRIVATE, "/jobs/{job}/", "/ledger/0/"])
def test_pages_hold_nothing_that_the_policy_would_block(path: str) -> None:
    job = completed_job()
    node_make(job.owner)
    client = Client() if path.startswith("/accounts/") else signed_in(job.owner)
    response = client.get(path.format(job=job.pk))
    policy = response.headers["Content-Security-Policy"]
    for directive in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert directive in policy
    assert "unsafe" not in policy
    text = response.content.decode()
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", text)
    assert not any(re.findall(r"<script(?![^>]*application/json)[^>]*>(.*?)</script>", text, re.DOTALL))  # data is no script
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)


@pytest.mark.django_db
def test_home_shows_the_newest_conclusion_without_names() -> None:
    job = completed_job()
    text = Client().get("/").content.decode()
    assert "2 of 2 replicas agree, exactly." in text
    assert "docking" in text
    for private in ("secret-target", "secret title", str(job.pk), job.owner.username):
        assert private not in text
    for replica in job.replicas.select_related("node"):
        assert replica.node is not None
        assert f">{replica.node.name}<" not in text


@pytest.mark.django_db
def test_home_of_an_empty_portal_says_what_to_do() -> None:
    text = Client().get("/").content.decode()
    assert "No job has been concluded yet." in text
    assert "none has joined" in text
    assert "no entry yet" in text
    assert "nexa join TOKEN" in text
    assert "nexa submit examples/folding/job.json" in text


@pytest.mark.django_db
def test_home_takes_a_bounded_number_of_statements(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(3):
        completed_job_owner = funded_researcher_make()
        job_make(completed_job_owner)
    with django_assert_max_num_queries(13):
        Client().get("/")


@pytest.mark.django_db
def test_unknown_addresses_answer_a_page_that_helps() -> None:
    response = Client().get("/nothing/here/")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


@pytest.mark.parametrize("name", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html"])
def test_error_pages_need_no_request_and_no_database(name: str) -> None:
    assert "To the start" in render_to_string(name)


@pytest.mark.django_db
def test_a_person_signs_up_and_in_with_these_forms() -> None:
    client = Client()
    words = {"email": "eve@example.org", "username": "eve", "password1": "a long enough phrase", "password2": "a long enough phrase"}
    with override_settings(ACCOUNT_EMAIL_VERIFICATION="none"):
        assert client.post("/accounts/signup/", words).status_code == 302
        assert "Sign out" in client.get("/").content.decode()
        client.post("/accounts/logout/")
        assert "Sign out" not in client.get("/").content.decode()
        wrong = client.post("/accounts/login/", {"login": "eve", "password": "wrong"})
        assert 'role="alert"' in wrong.content.decode()
        assert client.post("/accounts/login/", {"login": "eve", "password": words["password1"]}).status_code == 302


@pytest.mark.django_db
def test_sign_out_takes_a_token_of_ours() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    response = client.post("/accounts/logout/")
    assert response.status_code == 403
    assert "too old" in response.content.decode()


@pytest.mark.django_db
def test_whoever_asks_again_at_once_has_no_job_counted_again(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """Counting takes longer the more jobs there are, and these pages are for everybody."""
    completed_job()
    first = [Client().get(path).content for path in ("/", "/status")]
    with django_assert_num_queries(5) as captured:
        assert Client().get("/").content == first[0]
    assert not [query["sql"] for query in captured.captured_queries if "count(" in query["sql"].lower() and "jobs_job" in query["sql"]]
    with django_assert_num_queries(0):
        assert Client().get("/status").content == first[1]


@pytest.mark.django_db
def test_the_newest_jobs_of_the_front_page_are_found_by_what_happened(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """By an index of conclusions, newest first: there is none of all jobs by when they were concluded."""
    jobs = [job_make(), completed_job(), job_make()]
    job_fail(job=jobs[0], code="x", message="why")
    with django_assert_num_queries(3) as captured:
        assert jobs_decided_newest(limit=8) == [jobs[0], jobs[1]]
    assert all("jobs_jobevent" in query["sql"] for query in captured.captured_queries[:2])
    assert 'WHERE "jobs_job"."id" IN' in captured.captured_queries[2]["sql"]
    assert jobs_decided_newest(limit=1) == [jobs[0]]
