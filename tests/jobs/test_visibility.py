"""Who else may see a job, and how much of it."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.descriptor import Visibility
from jobs.models import Job
from jobs.services.visibility import job_visibility_set
from nodes.models import Node
from people.models import User
from tests.factories.jobs import job_make, upload_make
from tests.factories.people import moderator_make, user_make
from tests.jobs.test_views import HOSTILE, completed_job, signed_in

pytestmark = pytest.mark.django_db


def test_a_descriptor_says_it_first() -> None:
    assert job_make().visibility == Visibility.PRIVATE
    public, unlisted, other = job_make(visibility="public"), job_make(visibility="unlisted"), job_make(visibility="unlisted")
    assert (public.visibility, public.link_secret) == (Visibility.PUBLIC, "")
    assert (unlisted.visibility, len(unlisted.link_secret)) == (Visibility.UNLISTED, 43)
    assert unlisted.link_secret != other.link_secret


def test_a_link_works_while_the_job_is_unlisted_and_never_again() -> None:
    job = job_visibility_set(job=job_make(), visibility=Visibility.UNLISTED)
    first = f"/jobs/shared/{job.link_secret}/"
    assert Client().get(first).status_code == 200
    assert job_visibility_set(job=job, visibility=Visibility.UNLISTED).link_secret == job.link_secret
    job_visibility_set(job=job, visibility=Visibility.PUBLIC)
    assert Client().get(first).status_code == 404
    again = job_visibility_set(job=job, visibility=Visibility.UNLISTED)
    assert again.link_secret != job.link_secret
    assert Client().get(first).status_code == 404


def test_a_public_job_is_shown_to_anybody_and_its_owner_sees_all_of_it() -> None:
    job = completed_job(visibility="public", title="Folding of villin")
    for client in (Client(), signed_in(user_make()), signed_in(moderator_make())):
        text = client.get(f"/jobs/{job.pk}/").content.decode()
        assert "Folding of villin" in text
        assert "2 of 2 replicas agree, exactly." in text
        assert 'id="job-live"' not in text
    assert 'id="job-live"' in signed_in(job.owner).get(f"/jobs/{job.pk}/").content.decode()


def test_private_and_unlisted_jobs_are_answered_like_none() -> None:
    private, unlisted = job_make(), job_make(visibility="unlisted")
    for pk in (private.pk, unlisted.pk, uuid4()):
        assert Client().get(f"/jobs/{pk}/").headers["Location"] == f"/accounts/login/?next=/jobs/{pk}/"
        assert signed_in(user_make()).get(f"/jobs/{pk}/").status_code == 404
    for secret in ("x", str(private.pk), str(unlisted.pk), "A" * 43, "é", "a" * 5000):
        assert Client().get(f"/jobs/shared/{secret}/").status_code == 404


def test_a_shared_page_holds_nothing_else() -> None:
    blob = upload_make(owner := completed_job().owner, b"lattice")
    job = completed_job_with_input(owner, blob.digest)
    text = Client().get(f"/jobs/shared/{job.link_secret}/").content.decode()
    hidden = [job.label, "secret-lattice.json", blob.digest, owner.username, job.descriptor_digest, "SECRET", "energies.csv"]
    for replica in job.replicas.select_related("node", "receipt"):
        assert replica.node is not None
        hidden += [replica.node.name, str(replica.node_key_id), replica.receipt.result_digest]
    for value in hidden:
        assert str(value) not in text
        assert str(value).removeprefix("sha256:")[:8] not in text


def completed_job_with_input(owner: User, digest: str) -> Job:
    job = completed_job(
        owner=owner,
        job_id="my-own-label",
        title="Shown",
        visibility="unlisted",
        inputs=[{"path": "secret-lattice.json", "digest": digest}],
        environment={"TOKEN": "SECRET"},
    )
    Job.objects.filter(pk=job.pk).update(failure_message="SECRET message", failure_code="SECRET_code")
    return Job.objects.get(pk=job.pk)


def test_a_failure_of_a_public_job_is_told_without_its_message() -> None:
    job = job_make(visibility="public")
    Job.objects.filter(pk=job.pk).update(state="failed", failure_code="exit_nonzero", failure_message="no file /inputs/secret")
    text = Client().get(f"/jobs/{job.pk}/").content.decode()
    assert "no result was accepted" in text
    assert "/inputs/secret" not in text


def test_hostile_titles_and_types_are_shown_as_text() -> None:
    job = completed_job(visibility="public", title=HOSTILE)
    Job.objects.filter(pk=job.pk).update(job_type=HOSTILE[:64])
    Node.objects.update(name=HOSTILE[:64])
    text = Client().get(f"/jobs/{job.pk}/").content.decode()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_an_unlisted_page_is_not_for_search_engines() -> None:
    unlisted, public = job_make(visibility="unlisted"), job_make(visibility="public")
    assert Client().get(f"/jobs/shared/{unlisted.link_secret}/").headers["X-Robots-Tag"] == "noindex, nofollow"
    assert "X-Robots-Tag" not in Client().get(f"/jobs/{public.pk}/").headers


def test_the_owner_sets_it_on_a_page_and_is_given_the_link() -> None:
    job = job_make()
    client = signed_in(job.owner)
    address = f"/jobs/{job.pk}/visibility/"
    assert "The link to give away" not in client.get(address).content.decode()
    answer = client.post(address, {"visibility": "unlisted"})
    assert (answer.status_code, answer.headers["Location"]) == (302, address)
    job.refresh_from_db()
    assert f"http://testserver/jobs/shared/{job.link_secret}/" in client.get(address).content.decode()
    client.post(address, {"visibility": "everybody"})
    job.refresh_from_db()
    assert job.visibility == "unlisted"


def test_nobody_else_sets_it() -> None:
    job = job_make(visibility="public")
    address = f"/jobs/{job.pk}/visibility/"
    for stranger in (user_make(), moderator_make()):
        assert signed_in(stranger).get(address).status_code == 404
        assert signed_in(stranger).post(address, {"visibility": "private"}).status_code == 404
    assert Client().post(address, {"visibility": "private"}).status_code == 302
    job.refresh_from_db()
    assert job.visibility == "public"


def test_a_shared_page_takes_few_statements(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    job = completed_job(visibility="public")
    with django_assert_max_num_queries(4):
        assert Client().get(f"/jobs/{job.pk}/").status_code == 200
