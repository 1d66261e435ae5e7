"""The life of jobs, nodes and people, each step by the database user that does it in production."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.management import call_command
from django.test import Client, override_settings
from django.utils import timezone

from devstack.stack import APPLICATION_ROLE, VERIFY_ROLE
from jobs.checking.claims import batches_claim, batches_release
from jobs.models import Job, Receipt
from jobs.services.disputes import disputes_rule
from jobs.services.leases import leases_reap, queue_deadlines_enforce
from jobs.services.outages import portal_alive_record
from jobs.services.outbox import outbox_push
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from jobs.services.uploads import uploads_sweep
from jobs.states import JobState
from ledger.checkpoints import checkpoint_publish
from ledger.models import Account, Entry, LogItem
from ledger.services import account_of
from nodes.clones import clone_record, clones_tell
from nodes.moderation import node_quarantine, node_release
from nodes.services import join_token_mint, node_pause, node_resume, node_revoke
from people.erasure.services import account_erase
from people.models import Scope, User
from people.services import researcher_approve, token_mint, token_revoke
from tests.database_users import connected_as
from tests.factories.checking import job_check
from tests.factories.jobs import image_approve, job_make
from tests.factories.nodes import node_make, registration_make, signed_post
from tests.factories.people import moderator_make, user_make
from tests.factories.receipts import FILES, replica_lease, replica_report
from tests.jobs.gateway.simulated_host import SimulatedHost
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey

TWO = {"method": "exact", "copies": 2, "quorum": 2}


@pytest.fixture
def granted(own_database: str) -> None:
    call_command("database_roles")


def settled(job: Job) -> JobState:
    """Checked by a verify worker, settled by a conclude worker."""
    with connected_as(VERIFY_ROLE):
        job_check(job_id=job.pk)
    with connected_as(APPLICATION_ROLE):
        job_settle(job_id=job.pk)
        job.refresh_from_db()
        return JobState(job.state)


def receipts_make(job: Job, *contents: bytes) -> None:
    with connected_as(APPLICATION_ROLE):
        for content in contents:
            replica_report(job, {**FILES, "summary.json": content})


def submitted(**fields: Any) -> Job:
    with connected_as(APPLICATION_ROLE):
        return job_make(verification=TWO, **fields)


def test_job_is_submitted_computed_verified_paid_and_logged(granted: None) -> None:
    job = submitted()
    receipts_make(job, b"{}", b"{}")
    with connected_as(APPLICATION_ROLE):
        batches = batches_claim(now=timezone.now())
        assert len(batches) == 1
    assert settled(job) == JobState.COMPLETED
    with connected_as(APPLICATION_ROLE):
        batches_release(batches)
        checkpoint = checkpoint_publish()
        assert outbox_push() > 0
    assert checkpoint is not None
    assert checkpoint.size == LogItem.objects.count()
    assert Entry.objects.filter(kind="payment").count() == 2
    assert Account.objects.get(kind="escrow").balance_micro == 0


def test_jobs_that_end_otherwise_get_their_reservation_back(granted: None) -> None:
    disputed, cancelled, unwanted, invalid = submitted(), submitted(), submitted(), submitted()
    for number in range(disputed.replicas_max):
        receipts_make(disputed, f'{{"energy":{number}}}'.encode())
        state = settled(disputed) if number else None
    assert state == JobState.DISPUTED
    with connected_as(APPLICATION_ROLE):
        assert disputes_rule(now=disputed.dispute_deadline_at) == 1  # type: ignore[arg-type]  # a dispute has one
        replica_lease(cancelled)
        job_cancel(job=cancelled)
        Job.objects.filter(pk=unwanted.pk).update(queue_deadline_at=timezone.now())
        assert queue_deadlines_enforce(now=timezone.now() + timedelta(seconds=1)) == 1
    for number in range(invalid.replicas_max):
        with connected_as(APPLICATION_ROLE):
            replica_report(invalid, archive_bytes=lambda data: data[:-1])
        state = settled(invalid) if number else None
    assert state == JobState.FAILED
    found = {job.pk: job.state for job in Job.objects.all()}
    assert found == {
        disputed.pk: JobState.FAILED,
        cancelled.pk: JobState.CANCELLED,
        unwanted.pk: JobState.FAILED,
        invalid.pk: JobState.FAILED,
    }
    assert Account.objects.get(kind="escrow").balance_micro == 0


def test_host_is_served_over_http_and_its_silence_noticed(granted: None) -> None:
    job = submitted()
    with connected_as(APPLICATION_ROLE):
        host, silent = SimulatedHost(), SimulatedHost()
        assert host.report(host.order()).status_code in (200, 201)
        silent.order()
        later = timezone.now() + timedelta(hours=1)
        portal_alive_record(now=later)
        assert leases_reap(now=later + timedelta(hours=1)) == 1
        portal_alive_record(now=later)
        uploads_sweep(now=later + timedelta(days=30))
        clone_record(node=host.node, now=timezone.now())
        assert clones_tell(now=timezone.now()) == 1
    assert Receipt.objects.filter(replica__job=job).count() == 1


def test_contributor_joins_pauses_and_leaves(granted: None) -> None:
    with connected_as(APPLICATION_ROLE):
        owner, key = user_make(), PrivateKey.generate()
        token = join_token_decode(join_token_mint(owner=owner, lifetime_seconds=60))
        answer = signed_post(Client(), "/api/v1/nodes", registration_make(secret=token.secret, key=key), key)
        assert answer.status_code == 201, answer.content
        (node,) = owner.nodes.all()
        moderator = moderator_make()
        for change in (node_pause, node_resume):
            change(node=node)
        for act in (node_quarantine, node_release):
            act(node=node, by=moderator, reason="Tried.")
        node_revoke(node=node)


def test_person_signs_up_and_in_mints_a_token_lends_a_node_has_a_job_and_is_erased(granted: None) -> None:
    """The row, the account and its entries stay, nameless."""
    words = {"email": "eve@example.org", "username": "eve", "password1": "a long enough phrase", "password2": "a long enough phrase"}
    with connected_as(APPLICATION_ROLE), override_settings(ACCOUNT_EMAIL_VERIFICATION="none"):
        client = Client()
        assert client.post("/accounts/signup/", words).status_code == 302
        client.post("/accounts/logout/")
        assert client.post("/accounts/login/", {"login": "eve", "password": words["password1"]}).status_code == 302
        eve = User.objects.get(username="eve")
        token, secret = token_mint(owner=eve, name="test", scopes=list(Scope))
        assert Client().get("/api/v1/account", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        token_revoke(token=token)
        researcher_approve(user=eve, approved_by=moderator_make())
        eve.refresh_from_db()
        image_approve()
        node_make(eve)
        job_cancel(job=job_make(eve))
        account_erase(user=eve)
    assert account_of(user=eve).balance_micro > 0
    assert not User.objects.filter(username="eve").exists()
    assert not EmailAddress.objects.exists()
