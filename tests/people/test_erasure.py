"""Erasing a person: nothing of who they were is left in any table, and all that was signed still verifies."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress, EmailConfirmation
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from psycopg import sql

from jobs.blobs.references import is_wanted
from jobs.descriptor import Visibility, descriptor_parse
from jobs.models import Blob, Job, Receipt, Replica
from jobs.services.image_requests import image_request
from jobs.services.settlement import job_settle
from jobs.services.submission import job_cancel
from jobs.services.visibility import job_visibility_set
from jobs.states import JobState
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import coordinator_public_key
from ledger.services import account_of
from nodes.models import Node, NodeSample, NodeState
from nodes.services import join_token_create
from nodes.trouble import trouble_tell
from people.erasure.services import account_erase, account_erase_for, erasure_obstacles
from people.errors import ActPointlessError, ErasureRefusedError, ModeratorInterestError, NameTakenError
from people.invitations.services import invitation_use, person_invite
from people.models import Scope, Team, User
from people.moderation import services
from people.moderation.models import Act
from people.notifications.services import settings_set
from people.notifications.webhooks import webhook_set
from people.services import application_decide, application_submit, profile_change, token_mint
from people.team_services import team_create
from tests.factories.checking import job_check
from tests.factories.jobs import credits_grant, image_approve, job_make, upload_make
from tests.factories.nodes import node_make, profile_make
from tests.factories.people import moderator_make, operator_make, second_factor_add, user_make
from tests.factories.receipts import FILES, replica_report
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_open
from workers.protocol.keys import PublicKey

PASSWORD = "as calm as paper 1900"
WORDS = ("hedwig", "kohn")
"""In each address, name and text of the person of the scene, and nowhere else."""

ADVICE = "Cancel, or wait; what is disputed waits for its ruling."


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


def person_make() -> tuple[User, Client]:
    """Somebody with a row in every table that may know people, and the browser in which they are signed in."""
    secret = urlsplit(person_invite(email="hedwig@example.org", by=None, reason="For the course.")[1]).path.split("/")[2]
    user = User.objects.create_user("hedwig", email="hedwig@example.org", first_name="Hedwig", last_name="Kohn", password=PASSWORD)
    invitation_use(secret=secret, account=user)
    profile_change(user=user, display_name="H. Kohn", about="Flames, in Breslau: Hedwig's.", is_public=True)
    for address, is_first in (("hedwig@example.org", True), ("kohn@example.net", False)):
        kept = EmailAddress.objects.create(user=user, email=address, verified=True, primary=is_first)
        EmailConfirmation.create(kept)
    SocialAccount.objects.create(user=user, provider="lab", uid="kohn", extra_data={"name": "Hedwig Kohn"})
    client = Client()
    assert client.post("/accounts/login/", {"login": "hedwig", "password": PASSWORD}).status_code == 302
    second_factor_add(user)
    Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data={"name": "Hedwig's key"})
    moderator = moderator_make()
    application = application_submit(
        applicant=user, full_name="Hedwig Kohn", affiliation="Kohn's laboratory", purpose="Flames.", link="https://kohn.example/"
    )
    application_decide(application=application, decided_by=moderator, is_approved=True, reason="Known.")
    user.refresh_from_db()
    token_mint(owner=user, name="hedwig's laptop", scopes=[Scope.JOBS_READ])
    team_create(lead=user, name="Kohn and friends")
    settings_set(owner=user, wanted={"job.completed": ["mail"], "node.trouble": ["portal", "webhook"]})
    webhook_set(owner=user, url="https://1.1.1.1/kohn")
    return user, client


def node_of(user: User) -> tuple[Node, Any]:
    profile = profile_make(gpu_gb=24, hostname_hint="hedwig-desktop")
    node, key = node_make(user, name="hedwig-desktop", profile=profile)
    NodeSample.objects.create(node=node, minute_at=timezone.now())
    trouble_tell(node, about="quarantined:1", subject=f"{node.name} was quarantined", text="Kohn.")
    join_token_create(owner=user, lifetime_seconds=60, name="kohn-laptop")
    return node, key


def jobs_of(user: User) -> list[Job]:
    """One that two hosts agreed on, with an input; one that was cancelled."""
    image_approve()
    credits_grant(user)
    blob = upload_make(user, b"spectra")
    words = {"title": "Flames of Hedwig Kohn", "verification": {"method": "exact", "copies": 2, "quorum": 2}}
    done = job_make(user, job_id="kohn-1", inputs=[{"path": "a.txt", "digest": blob.digest}], **words)
    for _ in range(2):
        replica_report(done, FILES)
    job_check(job_id=done.pk)
    job_settle(job_id=done.pk)
    done.refresh_from_db()
    assert done.state == JobState.COMPLETED
    job_visibility_set(job=done, visibility=Visibility.PUBLIC)
    cancelled = job_cancel(job=job_make(user, job_id="kohn-2", **words))
    image_request(by=user, name="kohn/flames:1", purpose="Hedwig needs it.")
    return [done, cancelled]


def forms_of(word: str) -> set[str]:
    """How a word may stand in the text of a row: as it is, in bytes (which are shown as hex), in base64 (envelopes), and that in bytes."""
    plain = {word.encode(), word.capitalize().encode(), word.upper().encode()}
    # A word begins at any of three places of a group; its first and last characters also depend on what is around it.
    packed = {b64encode(b" " * gap + one)[(gap * 8 + 5) // 6 : (gap + len(one)) * 8 // 6] for one in plain for gap in range(3)}
    return {word, *(one.decode() for one in packed), *(one.hex() for one in plain | packed)}


def found_of(words: tuple[str, ...]) -> list[str]:
    """The tables in which any column of any row has one of these words, as text or as bytes, in any case."""
    sought = [form for word in words for form in forms_of(word)]
    found = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
        for (table,) in cursor.fetchall():
            query = sql.SQL("SELECT count(*) FROM {} t WHERE t::text ILIKE ANY (%s)").format(sql.Identifier(table))
            cursor.execute(query, [[f"%{word}%" for word in sought]])
            found += [table] * bool(cursor.fetchone()[0])
    packed = [str(session.get_decoded()).lower() for session in Session.objects.all()]
    return found + ["django_session"] * any(word in data for word in words for data in packed)


def test_the_search_finds_a_word_in_every_form(db: None) -> None:
    user = user_make()
    for text in (
        "a hedwig",
        "x" + b64encode(b"say Hedwig").decode(),
        b64encode(b"to HEDWIG, ").decode(),
        b64encode(b"of hedwig.").decode(),
    ):
        User.objects.filter(pk=user.pk).update(about=text)
        assert found_of(("hedwig",)) == ["people_user"], text
        User.objects.filter(pk=user.pk).update(about="")
        blob = Blob.objects.create(digest="sha256:x", size_bytes=1, data=text.encode())
        assert found_of(("hedwig",)) == ["jobs_blob"], text
        blob.delete()
    assert found_of(("hedwig",)) == []


# --- what goes and what stays --------------------------------------------------------------------------------------------


def test_nothing_of_the_person_is_left_in_any_table_and_what_was_signed_verifies(own_database: str) -> None:
    user, client = person_make()
    node, key = node_of(user)
    jobs = jobs_of(user)
    other = job_make(verification={"method": "exact", "copies": 1, "quorum": 1})
    replica_report(other, node=node, key=key)
    before = set(found_of(WORDS))
    assert before >= {
        "account_emailaddress", "django_session", "jobs_imagerequest", "jobs_job", "mfa_authenticator", "nodes_jointoken", "nodes_node",
        "people_apitoken", "people_invitation", "people_notification", "people_researcherapplication", "people_team", "people_user",
        "people_webhook", "socialaccount_socialaccount",
    }, "the search finds what is there"  # fmt: skip
    checkpoint_publish()
    balance = account_of(user=user).balance_micro

    account_erase(user=user)

    assert found_of(WORDS) == []
    account = account_of(user=user)
    assert (account.owner_id, account.balance_micro) == (user.pk, balance), "credits stay where they are"
    job_check(job_id=other.pk)
    job_settle(job_id=other.pk)
    account.refresh_from_db()
    assert account.balance_micro > balance, "what was delivered before is judged and paid"
    checkpoint_publish()
    out = StringIO()
    call_command("ledger_verify", stdout=out)
    assert "Database, log and files agree." in out.getvalue()
    for replica in Replica.objects.exclude(order_envelope=None):
        envelope_open(bytes(replica.order_envelope or b""), payload_type=PAYLOAD_TYPE_ORDER, key=coordinator_public_key())
    receipts = Receipt.objects.select_related("replica__node_key")
    assert len(receipts) == 3
    for receipt in receipts:
        assert receipt.replica.node_key is not None
        key = PublicKey(bytes(receipt.replica.node_key.public_key))
        envelope_open(bytes(receipt.envelope), payload_type=PAYLOAD_TYPE_STATEMENT, key=key)
    for job in jobs:
        job.refresh_from_db()
        assert (job.label, job.title, job.visibility) == (str(job.pk), "", "private")
        assert descriptor_parse(job.descriptor).job_id == str(job.pk), "what is left of a descriptor is one"
    assert client.get("/account/").status_code == 302


def test_what_others_see_afterwards_is_a_former_member(db: None) -> None:
    user, _ = person_make()
    node, _ = node_of(user)
    account_erase(user=user)
    user.refresh_from_db()
    assert str(user) == user.public_name == f"former member {user.pk}"
    assert (user.is_active, user.is_researcher, user.is_public, user.has_usable_password()) == (False, False, False, False)
    node.refresh_from_db()
    assert (node.state, node.name) == (NodeState.REVOKED, f"node-{node.key_id[7:15]}")
    assert (node.profile["hostname_hint"], node.profile["gpus"][0]["uuid"], node.profile["cores"]) == ("", "", 8)
    assert not Team.objects.exists()
    assert Client().get("/wall/H. Kohn/").status_code == 404
    with pytest.raises(NameTakenError):
        profile_change(user=user_make(), display_name="Former  Member 7", about="", is_public=True)


def test_inputs_and_results_are_wanted_by_nobody_any_more(db: None) -> None:
    user, _ = person_make()
    jobs_of(user)
    now = timezone.now() - timedelta(seconds=1)
    assert Blob.objects.filter(is_wanted(now=now)).count() > 2
    account_erase(user=user)
    assert not Blob.objects.filter(is_wanted(now=now)).exists()


# --- what is in the way --------------------------------------------------------------------------------------------------


def test_open_jobs_are_in_the_way_and_nothing_is_touched(db: None) -> None:
    user, _ = person_make()
    image_approve()
    credits_grant(user)
    first, second = job_make(user), job_make(user)
    with pytest.raises(ErasureRefusedError, match="2 jobs of this account have not ended"):
        account_erase(user=user)
    job_cancel(job=first)
    assert erasure_obstacles(person=user) == [f"1 job of this account has not ended. {ADVICE}"]
    user.refresh_from_db()
    assert user.username == "hedwig"
    assert EmailAddress.objects.filter(user=user).count() == 2
    job_cancel(job=second)
    account_erase(user=user)


@pytest.mark.parametrize("make", [moderator_make, operator_make])
def test_who_moderates_is_dismissed_first(make: Any, db: None) -> None:
    with pytest.raises(ErasureRefusedError, match="dismiss"):
        account_erase(user=make())


def test_acts_of_a_former_moderator_stay_in_the_trail_under_a_number(db: None) -> None:
    moderator = moderator_make("hedwig")
    services.account_close(user=user_make(), by=moderator, reason="Asked for it.")
    services.moderator_dismiss(user=moderator, by=operator_make(), reason="Moves on.")
    account_erase(user=moderator)
    act = Act.objects.select_related("by").get(kind="account_closed")
    assert str(act.by) == f"former member {moderator.pk}"
    assert found_of(("hedwig",)) == []


# --- who does it ---------------------------------------------------------------------------------------------------------


def test_people_delete_their_account_on_its_page_after_saying_again_that_it_is_they(
    db: None, django_capture_on_commit_callbacks: Any
) -> None:
    user = user_make("hedwig")
    user.set_password(PASSWORD)
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    assert "What stays" in client.get("/account/delete/").content.decode()
    asked = client.post("/account/delete/")
    assert (asked.status_code, urlsplit(asked.headers["Location"]).path) == (302, "/accounts/reauthenticate/")
    client.post("/accounts/reauthenticate/", {"password": "another"})
    assert client.post("/account/delete/").status_code == 302
    assert User.objects.get().erased_at is None
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    client.post("/accounts/reauthenticate/?next=/account/delete/", {"password": PASSWORD})
    mail.outbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        page = client.post("/account/delete/", follow=True)
    assert "Your account is deleted" in page.content.decode()
    assert not page.wsgi_request.user.is_authenticated
    assert [one.to for one in mail.outbox] == [["hedwig@example.org"]]
    client.post("/accounts/login/", {"login": "hedwig", "password": PASSWORD})
    assert "_auth_user_id" not in client.session


def test_the_page_says_what_is_in_the_way(db: None) -> None:
    user = user_make()
    user.set_password(PASSWORD)
    user.researcher_approved_at = timezone.now()
    user.save()
    image_approve()
    credits_grant(user)
    job_make(user)
    client = Client()
    client.post("/accounts/login/", {"login": user.username, "password": PASSWORD})
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    for answer, status in ((client.get("/account/delete/"), 200), (client.post("/account/delete/"), 409)):
        assert answer.status_code == status
        assert "1 job of this account has not ended" in answer.content.decode()
        assert "button-danger" not in answer.content.decode()


def test_a_moderator_erases_who_asks_and_the_trail_names_a_number(db: None) -> None:
    user, _ = person_make()
    moderator, client = moderator_make(), Client()
    client.force_login(moderator, backend="django.contrib.auth.backends.ModelBackend")
    answer = client.post(f"/admin/people/user/{user.pk}/do/erase/", {"reason": "Wrote from the address of the account."})
    assert answer.status_code == 302
    act = Act.objects.get(kind="account_erased")
    assert (act.by, act.about_name) == (moderator, f"account {user.pk}")
    assert found_of(WORDS) == []
    page = client.get(f"/admin/people/user/{user.pk}/change/").content.decode()
    assert f"former member {user.pk}" in page
    assert "/do/" not in page, "there is nothing more to do about nobody"


def test_nobody_is_erased_twice_or_let_in_again(db: None) -> None:
    user, moderator = user_make(), moderator_make()
    account_erase_for(user=user, by=moderator, reason="Asked for it.")
    with pytest.raises(ActPointlessError, match="erased before"):
        account_erase(user=user)
    with pytest.raises(ActPointlessError, match="nobody is there"):
        services.account_reopen(user=user, by=moderator, reason="A slip.")


def test_moderators_erase_others_and_leave_no_line_where_it_is_refused(db: None) -> None:
    moderator, other = moderator_make(), moderator_make()
    with pytest.raises(ModeratorInterestError):
        account_erase_for(user=moderator, by=moderator, reason="Me.")
    with pytest.raises(ErasureRefusedError):
        account_erase_for(user=other, by=moderator, reason="Them.")
    assert not Act.objects.filter(kind="account_erased").exists()


def test_browsers_that_were_signed_in_are_signed_out(db: None) -> None:
    user, client = person_make()
    assert Session.objects.filter(session_key=client.session.session_key).exists()
    key = client.session.session_key
    account_erase(user=user)
    assert not Session.objects.filter(session_key=key).exists()
