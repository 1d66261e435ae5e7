"""Notifications: who is told of what and by which ways, and the pages, each for their owner alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client, override_settings
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.services.closing import job_fail
from jobs.services.outbox import outbox_push
from jobs.services.settlement import job_settle
from nodes.clones import clone_record, clones_tell
from nodes.models import Node
from nodes.moderation import node_quarantine
from nodes.trouble import SETTLED_AFTER, SILENT_AFTER, nodes_silent_tell
from people.models import User
from people.notifications.mailing import mails_send
from people.notifications.models import Notification, NotificationKind, NotificationSetting, Webhook, WebhookDelivery
from people.notifications.selectors import unread_count
from people.notifications.services import WAYS, Draft, notifications_read, notifications_write, settings_set
from people.notifications.webhooks import webhook_set
from tests.factories.checking import job_check
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make
from tests.factories.receipts import replica_report

pytestmark = pytest.mark.django_db
HOOK = "https://hooks.example.org/x"


@pytest.fixture(autouse=True)
def _memory_layer() -> Any:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
        yield


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def told(owner: User, number: int = 1, subject: str = "fold-1: failed") -> Notification:
    draft = Draft(owner.pk, NotificationKind.JOB_FAILED, f"job:{number}", subject, "/jobs/", "No host took it.")
    return notifications_write([draft])[0]


def test_owners_are_told_how_jobs_ended_one_notification_a_state() -> None:
    owner = funded_researcher_make()
    done, *failed = [job_make(owner) for _ in range(3)]
    replica_report(done)
    job_check(job_id=done.pk)
    job_settle(job_id=done.pk)
    for job in failed:
        job_fail(job=job, code="no_eligible_host", message="No host took it.")
    outbox_push()
    outbox_push()
    completed, gone = Notification.objects.filter(owner=owner).order_by("kind")
    assert (completed.kind, completed.subject, completed.path) == ("job.completed", f"{done.label}: completed", f"/jobs/{done.pk}/")
    assert (gone.kind, gone.subject, gone.path) == ("job.failed", "2 jobs: failed", "/jobs/")
    assert [job["code"] for job in gone.data["jobs"]] == ["no_eligible_host"] * 2


def test_what_was_written_is_not_written_again_and_each_owner_has_their_own() -> None:
    one, other = user_make(), user_make()
    drafts = [Draft(user.pk, NotificationKind.JOB_FAILED, "job:1", "x", "/jobs/") for user in (one, other, one)]
    assert len(notifications_write(drafts)) == 2
    assert notifications_write(drafts) == []
    assert notifications_write([]) == []


@pytest.mark.parametrize("way", ["portal", "mail", "webhook"])
def test_people_are_told_by_the_ways_that_they_chose(way: str) -> None:
    owner = funded_researcher_make()
    webhook_set(owner=owner, url=HOOK)
    settings_set(owner=owner, wanted={NotificationKind.JOB_FAILED: [way]})
    job_fail(job=job_make(owner), code="x", message="why")
    outbox_push()
    assert mails_send() == (way == "mail")
    assert unread_count(owner=owner) == (way == "portal")
    assert len(mail.outbox) == (way == "mail")
    assert WebhookDelivery.objects.count() == (way == "webhook")


def test_node_trouble_is_told_to_its_owner() -> None:
    now = timezone.now()
    node, _ = node_make(user_make())
    node_quarantine(node=node, by=moderator_make(), reason="Odd results.")
    node.refresh_from_db()
    clone_record(node=node, now=now)
    assert clones_tell() == 1
    assert mails_send() == 1
    assert mail.outbox[0].subject == "[NEXAPod] 2 notifications about nodes that are silent, quarantined or copied"
    found = {one.data["about"] for one in Notification.objects.filter(owner=node.owner, kind=NotificationKind.NODE_TROUBLE)}
    assert found == {"quarantined", "clone"}
    assert Notification.objects.count() == 2


def test_clone_mail_is_kept_from_those_who_want_none() -> None:
    node, _ = node_make(user_make())
    settings_set(owner=node.owner, wanted={NotificationKind.NODE_TROUBLE: ["portal"]})
    clone_record(node=node, now=timezone.now())
    assert clones_tell() == 1
    assert mails_send() == 0
    assert Notification.objects.count() == 1


def test_a_silent_node_is_told_of_once_a_silence() -> None:
    now = timezone.now()
    silent, _ = node_make(user_make(), last_seen_at=now - SILENT_AFTER - timedelta(minutes=1))
    for ago in (timedelta(minutes=59), timedelta(days=3)):
        node_make(user_make(), last_seen_at=now - ago)
    assert nodes_silent_tell(now=now, heard_since=None) == 1
    assert nodes_silent_tell(now=now, heard_since=None) == 0
    assert Notification.objects.filter(owner=silent.owner).count() == 1
    Node.objects.filter(pk=silent.pk).update(last_seen_at=now)
    assert nodes_silent_tell(now=now + SILENT_AFTER + timedelta(minutes=1), heard_since=now - timedelta(days=1)) >= 1
    assert Notification.objects.filter(owner=silent.owner).count() == 2


def test_nobody_is_told_that_nodes_are_silent_while_they_come_back_after_an_outage_of_the_portal() -> None:
    now = timezone.now()
    node, _ = node_make(user_make(), last_seen_at=now - SILENT_AFTER - timedelta(minutes=5))
    assert nodes_silent_tell(now=now, heard_since=now - timedelta(minutes=4)) == 0
    later = now + SETTLED_AFTER
    assert nodes_silent_tell(now=later, heard_since=now - timedelta(minutes=4)) == 1, "it did not come back"
    assert Notification.objects.get().owner_id == node.owner_id


def test_what_waits_for_moderators_is_chosen_by_moderators_alone() -> None:
    moderator, other = moderator_make(), user_make()
    for user in (moderator, other):
        settings_set(owner=user, wanted={})
        assert 'name="moderation:mail"' not in signed_in(other).get("/notifications/settings/").content.decode()
    assert 'name="moderation:mail"' in signed_in(moderator).get("/notifications/settings/").content.decode()
    assert not NotificationSetting.objects.filter(owner=other, kind=NotificationKind.MODERATION).exists(), "who is appointed later is told"
    assert not NotificationSetting.objects.get(owner=moderator, kind=NotificationKind.MODERATION).mail


def test_the_page_shows_ones_own_and_counts_what_is_unread() -> None:
    owner = user_make()
    told(owner, subject="<b>mine</b>")
    told(user_make(), subject="another's")
    text = signed_in(owner).get("/notifications/").content.decode()
    assert "&lt;b&gt;mine" in text
    assert "another" not in text
    assert '<span class="count">1' in text
    assert "Nothing to tell you yet." in signed_in(user_make()).get("/notifications/").content.decode()


def test_older_ones_are_on_further_pages() -> None:
    owner = user_make()
    for number in range(51):
        told(owner, number, f"number {number:02}")
    client = signed_in(owner)
    first = client.get("/notifications/").content.decode()
    assert "number 01" in first
    assert "number 00" not in first
    before = first.partition('href="?before=')[2].partition('"')[0]
    assert "number 00" in client.get(f"/notifications/?before={before}").content.decode()
    for strange in ("x", "9" * 5000):
        assert client.get("/notifications/", {"before": strange}).status_code == 200
        assert client.post("/notifications/read/", {"id": strange}).status_code == 302


def test_marking_as_read_is_for_ones_own() -> None:
    owner, other = user_make(), user_make()
    mine, second, theirs = told(owner), told(owner, 2), told(other)
    client = signed_in(owner)
    assert client.post("/notifications/read/", {"id": theirs.pk}).status_code == 302
    assert unread_count(owner=other) == 1
    client.post("/notifications/read/", {"id": mine.pk})
    assert unread_count(owner=owner) == 1
    client.post("/notifications/read/")
    assert unread_count(owner=owner) == 0
    assert notifications_read(owner=owner, ids=[second.pk]) == 0


def test_settings_are_saved_whole() -> None:
    owner = user_make()
    client = signed_in(owner)
    assert client.get("/notifications/settings/").content.decode().count(" checked>") == 3 * (len(NotificationKind.values) - 1) - 1
    client.post("/notifications/settings/save/", {"job.failed:mail": "on", "nonsense:mail": "on"})
    chosen = NotificationSetting.objects.filter(owner=owner)
    kept = {(one.kind, way) for one in chosen for way in WAYS if getattr(one, way)}
    assert kept == {("job.failed", "mail")}
    assert client.get("/notifications/settings/").content.decode().count(" checked>") == 1


def test_the_webhooks_secret_is_shown_once() -> None:
    owner = user_make()
    client = signed_in(owner)
    assert "nexa_whs_" in client.post("/notifications/webhook/", {"url": HOOK}).content.decode()
    told(owner)
    text = client.get("/notifications/settings/").content.decode()
    assert "nexa_whs_" not in text
    assert "waits" in text
    refused = client.post("/notifications/webhook/", {"url": "http://10.0.0.1/"})
    assert refused.status_code == 400
    assert "Expected https://host/path" in refused.content.decode()
    assert Webhook.objects.get().url == HOOK
    client.post("/notifications/webhook/remove/")
    assert not Webhook.objects.exists()


@pytest.mark.parametrize("path", ["/notifications/", "/notifications/settings/"])
def test_pages_are_for_those_signed_in(path: str) -> None:
    assert Client().get(path).headers["Location"] == f"/accounts/login/?next={path}"


@pytest.mark.parametrize("path", ["read/", "settings/save/", "webhook/", "webhook/remove/"])
def test_writes_are_posts_with_a_token_of_ours_by_those_signed_in(path: str) -> None:
    assert Client().post(f"/notifications/{path}").status_code == 302
    assert signed_in(user_make()).get(f"/notifications/{path}").status_code == 405
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(f"/notifications/{path}").status_code == 403


def test_the_page_takes_a_bounded_number_of_statements(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    owner = user_make()
    for number in range(5):
        told(owner, number)
    client = signed_in(owner)
    with django_assert_num_queries(5):
        client.get("/notifications/")
