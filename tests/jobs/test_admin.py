"""The admin's pages of jobs: the page of a dispute, who gets to see it, and what stays off every page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client, override_settings
from django.utils import timezone

from jobs.blobs import blob_open
from jobs.models import ImageBreaker, Job, JobKind, Replica, Ruling
from jobs.services.outbox import outbox_push
from jobs.states import JobState
from ledger.services import account_of
from people.models import User
from people.moderation.models import Act
from people.notifications.mailing import mails_send
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make
from tests.factories.receipts import replica_lease
from tests.jobs.disputes.test_disputes import disputed_job, permitted
from tests.jobs.gateway.simulated_host import body_of

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\"'>"


def signed_in(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def dispute_page(job: Job) -> str:
    return f"/admin/jobs/job/{job.pk}/dispute/"


def test_the_page_has_all_that_a_ruling_needs() -> None:
    job, replicas = disputed_job(1, 2, None, quorum=2)
    response = signed_in(moderator_make()).get(dispute_page(job))
    text = response.content.decode()
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    assert job.dispute_deadline_at is not None
    assert f"{job.dispute_deadline_at:%Y-%m-%d %H:%M} UTC" in text
    for replica in replicas:
        assert replica.node is not None
        assert replica.node_owner is not None
        assert replica.node.name in text
        assert str(account_of(user=replica.node_owner).pk)[:8] in text
        assert replica.node_owner.username not in text
        assert f"/dispute/{replica.pk}/archive" in text
        assert f"/dispute/{replica.pk}/log" in text
    assert replicas[0].receipt.result_digest.removeprefix("sha256:")[:8] in text
    for shown in ("A and B", "disagree", "summary.json", "archive_refused", "(host)", "copies, quorum, at most"):
        assert shown in text
    assert text.count('type="radio"') == 3  # two valid results, and none


def test_a_ruling_is_given_by_the_form_and_on_record() -> None:
    job, (first, *_) = disputed_job(1, 2, 3)
    moderator = moderator_make()
    response = signed_in(moderator).post(dispute_page(job), {"canonical": str(first.pk), "reason": "The others had bad memory."})
    assert (response.status_code, response.headers["Location"]) == (302, f"/admin/jobs/job/{job.pk}/change/")
    job.refresh_from_db()
    assert (job.state, job.canonical_replica_id) == (JobState.COMPLETED, first.pk)
    assert Ruling.objects.get().by == moderator
    act = Act.objects.get()
    assert (act.by, act.kind, act.about_table, act.about_key) == (moderator, "dispute_ruled", "jobs.job", str(job.pk))
    assert (act.reason, act.detail) == ("The others had bad memory.", {"upheld": str(first.pk)})
    text = signed_in(moderator).get(dispute_page(job)).content.decode()
    assert f"{moderator.username} ruled" in text
    assert 'name="canonical"' not in text


def test_none_may_be_upheld() -> None:
    job, _ = disputed_job(1, 2, 3)
    signed_in(moderator_make()).post(dispute_page(job), {"canonical": "none", "reason": "It varies."})
    job.refresh_from_db()
    assert job.failure_code == "dispute_none_upheld"


@pytest.mark.parametrize("data", [{}, {"canonical": "none"}, {"canonical": "none", "reason": " "}, {"canonical": "x", "reason": "y"}])
def test_half_a_ruling_is_none(data: dict[str, str]) -> None:
    job, _ = disputed_job(1, 2, 3)
    response = signed_in(moderator_make()).post(dispute_page(job), data)
    assert response.status_code == 200
    assert 'class="wrong" role="alert"' in response.content.decode()
    assert not Ruling.objects.exists()
    assert not Act.objects.exists()


def test_an_invalid_result_is_not_among_the_choices() -> None:
    job, (_, _, invalid) = disputed_job(1, 2, None, quorum=2)
    response = signed_in(moderator_make()).post(dispute_page(job), {"canonical": str(invalid.pk), "reason": "This one."})
    assert response.status_code == 200
    assert not Ruling.objects.exists()


def test_a_ruling_needs_the_token_of_the_form() -> None:
    job, _ = disputed_job(1, 2, 3)
    client = signed_in(moderator_make(), enforce_csrf_checks=True)
    assert client.post(dispute_page(job), {"canonical": "none", "reason": "Forged."}).status_code == 403
    assert not Ruling.objects.exists()


def test_a_download_is_the_bytes_and_is_saved_not_shown() -> None:
    job, (first, *_) = disputed_job(1, 2, 3)
    client = signed_in(moderator_make())
    for name, digest in (("archive", first.receipt.archive_id), ("log", first.receipt.log_id)):
        response = client.get(f"{dispute_page(job)}{first.pk}/{name}")
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"].startswith("attachment;")
        with blob_open(str(digest)) as file:
            assert body_of(response) == file.read()


def test_a_replica_of_another_job_is_not_downloaded() -> None:
    job, _ = disputed_job(1, 2, 3)
    other = disputed_job(1, 2, 3)[1][0]
    assert signed_in(moderator_make()).get(f"{dispute_page(job)}{other.pk}/archive").status_code == 404


def _owner(job: Job, replicas: list[Replica]) -> User:
    User.objects.filter(pk=job.owner_id).update(is_staff=True)
    return permitted(job.owner)


def _host(job: Job, replicas: list[Replica]) -> User:
    owner = replicas[1].node_owner
    assert owner is not None
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    return permitted(owner)


@pytest.mark.parametrize("who", [_owner, _host])
def test_who_may_not_rule_sees_nothing_of_it(who: Any) -> None:
    job, replicas = disputed_job(1, 2, 3)
    client = signed_in(who(job, replicas))
    for path in (dispute_page(job), f"{dispute_page(job)}{replicas[0].pk}/archive", f"{dispute_page(job)}{replicas[0].pk}/log"):
        assert client.get(path).status_code == 403
    assert client.post(dispute_page(job), {"canonical": "none", "reason": "Mine."}).status_code == 403
    assert not Ruling.objects.exists()


def test_a_stranger_is_sent_to_sign_in() -> None:
    job, _ = disputed_job(1, 2, 3)
    assert "/admin/login/" in signed_in(user_make()).get(dispute_page(job)).headers["Location"]
    assert "/admin/login/" in Client().get(dispute_page(job)).headers["Location"]


def test_an_open_job_has_no_page_of_a_dispute() -> None:
    assert signed_in(moderator_make()).get(dispute_page(job_make())).status_code == 404


def test_hostile_text_is_text() -> None:
    job, (first, *_) = disputed_job(1, 2, 3)
    Job.objects.filter(pk=job.pk).update(label=HOSTILE)
    assert first.node is not None
    first.node.name = HOSTILE[:60]
    first.node.save(update_fields=["name"])
    assert "<script>alert" not in signed_in(moderator_make()).get(dispute_page(job)).content.decode()


def test_the_list_leads_to_the_page() -> None:
    job, _ = disputed_job(1, 2, 3)
    assert f'href="{dispute_page(job)}"' in signed_in(moderator_make()).get("/admin/jobs/job/").content.decode()


def test_open_jobs_of_interest_are_not_in_a_moderators_lists() -> None:
    moderator = moderator_make()
    job, stranger = job_make(), job_make()
    replica = replica_lease(job, node_make(moderator)[0])
    client = signed_in(moderator)
    for path, hidden, shown in (("job", job.pk, stranger.pk), ("replica", replica.pk, stranger.replicas.get().pk)):
        text = client.get(f"/admin/jobs/{path}/").content.decode()
        assert str(hidden) not in text
        assert str(shown) in text
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED)
    assert str(job.pk) in client.get("/admin/jobs/job/").content.decode()


def test_the_draw_is_on_the_page_of_a_concluded_job_only() -> None:
    job = job_make()
    Job.objects.filter(pk=job.pk).update(policy="spot", spot_chosen=True, copies=2, quorum=2)
    client = signed_in(moderator_make())
    address = f"/admin/jobs/job/{job.pk}/change/"
    assert "spot chosen" not in client.get(address).content.decode()
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED)
    assert "spot chosen" in client.get(address).content.decode()


def test_a_breaker_is_opened_and_that_is_on_record() -> None:
    job_make()
    now = timezone.now()
    until = now + timedelta(hours=1)
    JobKind.objects.update(closed_until=until)
    name = JobKind.objects.get().image_name
    breaker = ImageBreaker.objects.create(image_name=name, closed_at=now, closed_until=until, times=1, code="image_unavailable")
    response = signed_in(moderator_make()).post(f"/admin/jobs/imagebreaker/{breaker.pk}/do/open/", {"reason": "The registry is back."})
    assert response.status_code == 302
    assert not JobKind.objects.filter(closed_until__gt=timezone.now()).exists()
    assert (Act.objects.get().kind, Act.objects.get().about_name) == ("breaker_opened", name)


def test_moderators_without_an_interest_are_mailed_a_link_and_no_result() -> None:
    moderator = moderator_make()
    user_make()
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
        job, replicas = disputed_job(1, 2, 3)
        _owner(job, replicas)
        _host(job, replicas)
        outbox_push()
    mails_send()
    to_moderators = [message for message in mail.outbox if "waits for a ruling" in message.subject]
    assert [message.to for message in to_moderators] == [[moderator.email]]
    assert f"http://testserver{dispute_page(job)}" in to_moderators[0].body
    (to_owner,) = [message for message in mail.outbox if message.to == [job.owner.email]]
    assert "Without a ruling by" in to_owner.body
    for message in mail.outbox:
        for replica in replicas:
            assert replica.receipt.result_digest not in message.body
