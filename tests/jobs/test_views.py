"""Pages of jobs: who sees them, what stays hidden, hostile names, how many statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.models import Job, JobKind, Replica
from jobs.services.disputes import dispute_rule
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from jobs.states import ReplicaState
from jobs.views.job_list import PAGE_JOBS
from ledger.checkpoints import checkpoint_publish
from nodes.models import Node
from people.models import User
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.people import moderator_make, researcher_make, user_make
from tests.factories.receipts import replica_lease, replica_report

TWO = {"method": "exact", "copies": 2, "quorum": 2}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def page_of(job: Job) -> str:
    response = signed_in(job.owner).get(f"/jobs/{job.pk}/")
    assert response.status_code == 200
    return str(response.content.decode())


def completed_job(owner: User | None = None, **overrides: Any) -> Job:
    job = job_make(owner, verification=TWO, **overrides)
    for _ in range(2):
        replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    return job


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/jobs/", "/jobs/{}/", "/jobs/{}/fragment/"])
def test_anonymous_is_sent_to_sign_in_and_back(path: str) -> None:
    address = path.format(job_make().pk)
    response = Client().get(address)
    assert (response.status_code, response.headers["Location"]) == (302, f"/accounts/login/?next={address}")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/jobs/{}/", "/jobs/{}/fragment/"])
def test_strangers_get_404_whatever_their_role(path: str) -> None:
    job = job_make()
    for stranger in (user_make(), researcher_make(), moderator_make()):
        assert signed_in(stranger).get(path.format(job.pk)).status_code == 404
    assert signed_in(job.owner).get(path.format(job.pk)).status_code == 200
    assert signed_in(job.owner).get("/jobs/00000000-0000-0000-0000-000000000000/").status_code == 404


@pytest.mark.django_db
def test_the_list_holds_own_jobs_only_and_is_not_cached() -> None:
    mine, other = job_make(), job_make()
    response = signed_in(mine.owner).get("/jobs/")
    text = response.content.decode()
    assert str(mine.pk) in text
    assert str(other.pk) not in text
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_what_a_host_delivered_is_hidden_until_the_conclusion() -> None:
    job = job_make(verification=TWO)
    first = replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    first.refresh_from_db()
    text = page_of(job)
    assert first.verdict == "undecided"
    for secret in (first.receipt.result_digest, first.receipt.digest, first.receipt.archive_id, "undecided", "checks</summary>"):
        assert str(secret) not in text
    assert "hidden until the job is concluded" in text
    assert "shown at the conclusion" in text
    replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    text = page_of(job)
    for shown in (first.receipt.result_digest, first.receipt.digest, "2 of 2 replicas agree, exactly."):
        assert shown in text
    assert "hidden until" not in text


@pytest.mark.django_db
def test_a_dispute_shows_no_result_before_the_ruling() -> None:
    job = job_make(verification=TWO)
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    one, other = replica_report(job), replica_report(job, {"summary.json": b'{"energy":-9.0}'})
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    assert job.state == "disputed"
    text = page_of(job)
    assert one.receipt.result_digest not in text
    assert other.receipt.result_digest not in text
    assert "a moderator" in text
    assert 'data-follows="ruling"' in text


@pytest.mark.django_db
def test_a_completed_job_offers_bundle_verify_command_and_ledger_entry() -> None:
    job = completed_job()
    checkpoint_publish()
    text = page_of(job)
    assert f'href="/api/v1/jobs/{job.pk}/bundle"' in text
    assert f"nexa verify {job.label}.nexa.zip --coordinator sha256:" in text
    assert text.count('href="/ledger/') >= 3  # the menu's, and one for each payment
    answer = signed_in(job.owner).get(f"/api/v1/jobs/{job.pk}/bundle")
    answer.close()
    assert answer.status_code == 200


@pytest.mark.django_db
def test_an_open_job_has_no_bundle_and_says_where_its_socket_is() -> None:
    job = job_make(verification=TWO)
    text = page_of(job)
    assert "/bundle" not in text
    assert f'data-follows="yes" data-socket="/ws/jobs/{job.pk}/" data-fragment="/jobs/{job.pk}/fragment/"' in text


@pytest.mark.django_db
def test_the_fragment_is_the_live_part_alone() -> None:
    job = completed_job()
    text = signed_in(job.owner).get(f"/jobs/{job.pk}/fragment/").content.decode()
    assert '<div id="job-live" data-follows="log"' in text
    assert "<html" not in text


@pytest.mark.django_db
def test_a_concluded_job_is_followed_until_its_payments_are_in_the_log() -> None:
    job = completed_job()
    assert 'data-follows="log"' in page_of(job)
    checkpoint_publish()
    assert 'data-follows="no"' in page_of(job)
    assert 'data-follows="no"' in page_of(job_cancel(job=job_make()))


@pytest.mark.django_db
def test_running_replica_shows_its_progress() -> None:
    job = job_make(verification=TWO)
    replica = replica_lease(job)
    replica.progress = {"stage": "running", "progress": 0.42, "message": HOSTILE, "elapsed_seconds": 187}
    replica.save(update_fields=["progress"])
    text = page_of(job)
    assert '<progress max="100" value="42"' in text
    assert "42 %, 3 min 7 s" in text
    assert "<script>alert" not in text


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["leased", "running"])
def test_a_report_without_a_figure_has_no_bar(state: str) -> None:
    job = job_make(verification=TWO)
    replica = replica_lease(job)
    Replica.objects.filter(pk=replica.pk).update(state=state, progress={"stage": "pulling", "progress": None})
    text = page_of(job)
    assert "<progress" not in text
    assert "pulling" in text


@pytest.mark.django_db
def test_hostile_text_of_strangers_is_shown_as_text() -> None:
    job = completed_job(title=HOSTILE)
    Job.objects.filter(pk=job.pk).update(label=HOSTILE, job_type=HOSTILE[:64], failure_code=HOSTILE[:64])
    Node.objects.filter(replicas__job=job).update(name=HOSTILE[:64])
    Replica.objects.filter(job=job).update(failure_code=HOSTILE[:64], failure_message=HOSTILE)
    worst = {"file": HOSTILE, "place": HOSTILE, "difference": 0.004, "allowed": 0.01}
    Job.objects.filter(pk=job.pk).update(verdict_summary={"agreeing": 2, "reported": 2, "quorum": 2, "worst": worst})
    client = signed_in(job.owner)
    for address in (f"/jobs/{job.pk}/", "/jobs/", "/"):
        text = client.get(address).content.decode()
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "&lt;script&gt;alert(1)" in text


@pytest.mark.django_db
def test_failed_and_cancelled_jobs_say_why() -> None:
    job = job_make(verification=TWO)
    job_cancel(job=job)
    assert "Cancelled by its owner" in page_of(Job.objects.get(pk=job.pk))
    Job.objects.filter(pk=job.pk).update(state="failed", failure_code="queue_deadline_passed", failure_message="No host took it.")
    text = page_of(Job.objects.get(pk=job.pk))
    assert "No host took it." in text
    assert "queue_deadline_passed" in text


@pytest.mark.django_db
def test_pages_of_the_list_continue_and_filter() -> None:
    owner = funded_researcher_make()
    for number in range(PAGE_JOBS + 1):
        job_make(owner, job_id=f"numbered-{number:02}", estimated_flops=1e9)
    client = signed_in(owner)
    first = client.get("/jobs/").content.decode()
    assert "numbered-50" in first
    assert "numbered-00" not in first
    following = first.split('href="?before=')[1].split('"')[0]
    second = client.get(f"/jobs/?before={following}").content.decode()
    assert "numbered-00" in second
    assert "numbered-50" not in second
    assert "None of your jobs is disputed." in client.get("/jobs/?state=disputed").content.decode()
    assert "numbered-50" in client.get("/jobs/?state=%3Cscript%3E&before=nonsense").content.decode()


@pytest.mark.django_db
def test_empty_lists_say_what_to_do_next() -> None:
    assert "may not submit jobs yet" in signed_in(user_make()).get("/jobs/").content.decode()
    assert "nexa submit examples/folding/job.json" in signed_in(researcher_make()).get("/jobs/").content.decode()


@pytest.mark.django_db
def test_statements_do_not_grow_with_jobs_or_replicas(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    job = completed_job()
    for _ in range(5):
        job_make(job.owner)
    client = signed_in(job.owner)
    with django_assert_max_num_queries(7):  # the bar asks for balance and unread notifications
        client.get("/jobs/")
    with django_assert_max_num_queries(11):
        client.get(f"/jobs/{job.pk}/")
    assert Replica.objects.filter(job=job, state=ReplicaState.ACCEPTED).count() == 2


@pytest.mark.django_db
def test_pages_are_read_only() -> None:
    job = job_make()
    for address in ("/jobs/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}/fragment/"):
        assert signed_in(job.owner).post(address).status_code == 405


@pytest.mark.django_db
def test_a_dispute_says_till_when_and_a_ruling_why() -> None:
    job = job_make(verification=TWO)
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    first, _ = replica_report(job), replica_report(job, {"summary.json": b'{"energy":-9.0}'})
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    assert job.dispute_deadline_at is not None
    assert f"Without a ruling by {job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC" in page_of(job)
    dispute_rule(job=job, by=moderator_make(), canonical=first, reason="The other host has <b>bad</b> memory.")
    text = page_of(job)
    assert "A moderator ruled" in text
    assert "The other host has &lt;b&gt;bad&lt;/b&gt; memory." in text
    assert "A moderator upheld one of 2 results that did not agree; 1 accepted." in text
    assert "Without a ruling by" not in text


@pytest.mark.django_db
def test_a_job_whose_image_is_closed_says_till_when() -> None:
    job = job_make()
    until = timezone.now() + timedelta(hours=1)
    JobKind.objects.update(closed_until=until)
    assert f"Its image failed on many hosts; it is tried again at {until:%Y-%m-%d %H:%M} UTC." in page_of(job)
    JobKind.objects.update(closed_until=timezone.now())
    assert "Its image failed" not in page_of(job)


@pytest.mark.django_db
def test_the_draw_is_on_the_page_of_a_concluded_job_only() -> None:
    job = job_make()
    Job.objects.filter(pk=job.pk).update(policy="spot", spot_share=0.1, spot_chosen=True, copies=2, quorum=2)
    assert "spot check" not in page_of(job)
    assert "1 asked for, 1 must agree" in page_of(job)
    Job.objects.filter(pk=job.pk).update(state="completed", concluded_at=timezone.now())
    text = page_of(job)
    assert "chosen to run twice, since no key could be used" in text
    assert "2 asked for, 2 must agree" in text
