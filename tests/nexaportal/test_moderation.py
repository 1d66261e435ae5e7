"""Moderators' pages as a whole: what can't be done on them by anybody, what each act does from its form, the desk, and strangers' names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.core.serializers import serialize
from django.db import connection
from django.db.models import Model
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from jobs.models import ImageApproval, ImageBreaker, ImageRequest, Job, Replica, Ruling
from jobs.services.disputes import dispute_rule
from jobs.services.image_requests import image_request
from ledger.checkpoints import checkpoint_publish
from ledger.models import Account, CoordinatorSuccession, Entry
from ledger.services import account_of, grant_post
from nexaportal.moderation.desk import SHOWN, desk_read
from nodes.models import JoinToken, Node, NodeKey
from nodes.moderation import node_quarantine, node_release
from nodes.services import join_token_create
from people.invitations.models import Invitation
from people.invitations.services import person_invite
from people.models import ResearcherApplication, Scope, Team, User
from people.moderation.models import Act
from people.moderation.pages import BoundedPaginator, LookAdmin
from people.services import application_submit, researcher_approve, token_mint
from people.team_services import team_create
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, operator_make, user_make
from tests.jobs.disputes.test_disputes import disputed_job

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\"'><img src=x>"
WHO = pytest.mark.parametrize("who", [moderator_make, operator_make], ids=["moderator", "operator"])


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def path_of(model: type[Model], name: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def invited(email: str) -> Invitation:
    return person_invite(email=email, by=moderator_make(), reason="A colleague.")[0]


@pytest.fixture
def life() -> None:
    """A row at least in every table that the site has."""
    moderator, person = moderator_make(), user_make()
    researcher_approve(user=person, approved_by=moderator)
    token_mint(owner=person, name="laptop", scopes=Scope.values)
    team_create(lead=person, name="Alvarez")
    invited("sofia@example.edu")
    image_request(by=person, name="example/asked:1.0", purpose="Sums, for the course.")
    join_token_create(owner=person, lifetime_seconds=60)
    application_submit(applicant=user_make(), full_name="L. Meitner", affiliation="KWI", purpose="Fission.", link="")
    job, replicas = disputed_job(1, 2, 3)
    assert replicas[0].node is not None
    node_quarantine(node=replicas[0].node, by=moderator, reason="Odd results.")
    dispute_rule(job=job, by=moderator, canonical=replicas[0], reason="This one.")
    disputed_job(1, 2, 3)
    now = timezone.now()
    ImageBreaker.objects.create(image_name="example/sum:1.0", code="image_unavailable", times=1, closed_at=now, closed_until=now)
    CoordinatorSuccession.objects.create(key_id="sha256:a", public_key=b"k", successor_key_id="sha256:b", envelope=b"e")
    checkpoint_publish()


def rows() -> Iterator[tuple[type[Model], Model]]:
    for model in admin.site._registry:
        row = model._default_manager.first()
        assert row is not None, f"{model._meta.label} has no row to try it on: add one to `life`"
        yield model, row


def everything() -> dict[str, str]:
    """All rows of all tables of the site."""
    return {model._meta.label: serialize("json", model._default_manager.order_by("pk")) for model in admin.site._registry}


# --- what nobody can do ----------------------------------------------------------------------------------------------


def test_the_site_has_our_tables_only_and_all_of_them_are_to_look_at() -> None:
    assert admin.site._registry
    for model, page in admin.site._registry.items():
        assert isinstance(page, LookAdmin), model
        assert model._meta.app_label in {"people", "ledger", "nodes", "jobs"}


@WHO
def test_no_row_of_any_table_is_added_changed_or_deleted_by_a_form(who: Any, life: None) -> None:
    client = client_of(who())
    before = everything()
    for model, row in rows():
        fields = {field.attname: "1" for field in model._meta.concrete_fields} | {"_save": "Save"}
        changed = path_of(model, "change", row.pk)
        assert client.get(path_of(model, "add")).status_code == 403
        assert client.post(path_of(model, "add"), fields).status_code == 403
        assert client.get(changed).status_code == 200
        assert client.post(changed, fields).status_code == 403
        for method in (client.put, client.patch, client.delete):
            assert method(changed).status_code in {403, 405, 200}
        assert client.get(path_of(model, "delete", row.pk)).status_code == 403
        assert client.post(path_of(model, "delete", row.pk), {"post": "yes"}).status_code == 403
        for action in ("delete_selected", "nodes_revoke", "researchers_approve"):
            client.post(path_of(model, "changelist"), {"action": action, "_selected_action": [str(row.pk)], "post": "yes", "index": "0"})
    assert everything() == before


def test_no_page_of_a_table_has_a_form_that_posts(life: None) -> None:
    client = client_of(operator_make())
    for model, row in rows():
        for path in (path_of(model, "changelist"), path_of(model, "change", row.pk)):
            main = client.get(path).content.decode().split("<main", 1)[1]
            assert 'method="post"' not in main, path


def test_the_ledger_and_the_evidence_have_no_act_but_a_reversal() -> None:
    acts = {model._meta.label: [act.name for act in page.acts] for model, page in admin.site._registry.items()}  # type: ignore[attr-defined]
    kept = ("ledger.Account", "ledger.Checkpoint", "ledger.CoordinatorSuccession", "people.Act", "jobs.Ruling", "jobs.Replica", "jobs.Job")
    assert [acts[label] for label in kept] == [[]] * len(kept)
    assert acts["ledger.Entry"] == ["reverse"]


# --- the acts, from their forms ------------------------------------------------------------------------------------------


def act_paths() -> list[tuple[str, str]]:
    """(label of the table, name of the act), all of them."""
    return [(model._meta.label, act.name) for model, page in admin.site._registry.items() for act in page.acts]  # type: ignore[attr-defined]


FORMS: dict[tuple[str, str], dict[str, str]] = {
    ("people.User", "grant"): {"credits": "1.5", "act_id": str(uuid4())},
    ("people.Team", "rename"): {"name": "Team 7"},
    ("people.Invitation", "invite"): {"email": "emmy@example.edu"},
    ("jobs.ImageRequest", "approve"): {"image_id": "sha256:" + "b" * 64},
    ("jobs.ImageApproval", "approve"): {"name": "example/new:1.0", "image_id": "sha256:" + "a" * 64},
}
"""What the forms ask for beside the reason."""


ROWS: dict[tuple[str, str], Callable[[], Model | None]] = {
    ("people.User", "reopen"): lambda: user_make(is_active=False),
    ("people.User", "dismiss"): moderator_make,
    ("people.Invitation", "invite"): lambda: None,
    ("people.Invitation", "withdraw"): lambda: invited(f"{uuid4()}@example.edu"),
    ("jobs.ImageRequest", "approve"): lambda: ImageRequest.objects.create(name="example/more:1.0", asked_by=user_make(), purpose="Sums."),
    ("jobs.ImageRequest", "decline"): lambda: ImageRequest.objects.create(name="example/other:1.0", asked_by=user_make(), purpose="Sums."),
    ("nodes.Node", "release"): lambda: Node.objects.filter(state="quarantined").first(),
    ("nodes.Node", "quarantine"): lambda: Node.objects.filter(state="active").first(),
    ("jobs.ImageApproval", "approve"): lambda: None,
    ("ledger.Entry", "reverse"): lambda: grant_post(
        to=account_of(user=user_make()), amount_micro=5, reason="test", idempotency_key=f"prepared:{uuid4()}"
    ),
}
"""A row on which the act has a point, where the first of the table may have none; None for an act that makes one."""


def prepared(label: str, name: str) -> Model | None:
    if (label, name) in ROWS:
        return ROWS[label, name]()
    if label == "people.User":
        return user_make()
    return next(model for model in admin.site._registry if model._meta.label == label)._default_manager.first()


def path_of_act(label: str, name: str, row: Model | None) -> str:
    base = f"admin:{label.lower().replace('.', '_')}_{name}"
    return reverse(base) if row is None else reverse(base, args=[row.pk])


def test_every_act_is_done_from_its_page_once_and_is_in_the_trail(life: None) -> None:
    operator = operator_make()
    client = client_of(operator)
    for label, name in act_paths():
        row = prepared(label, name)
        path = path_of_act(label, name, row)
        page = client.get(path)
        assert page.status_code == 200, path
        assert "no-store" in page.headers["Cache-Control"]
        before = Act.objects.count()
        form = FORMS.get((label, name), {})
        if (label, name) != ("people.ResearcherApplication", "approve"):  # an approval speaks for itself
            assert client.post(path, form).status_code == 400, f"{path} without a reason"
        assert Act.objects.count() == before
        answer = client.post(path, {**form, "reason": "Because."})
        assert answer.status_code == 302, f"{path}: {answer.content.decode()}"
        assert Act.objects.count() == before + 1, path
        if name == "approve" and label == "people.ResearcherApplication":
            application_submit(applicant=user_make(), full_name="L. Meitner", affiliation="KWI", purpose="Fission.", link="")
            ResearcherApplication.objects.filter(state="approved").delete()
    assert set(Act.objects.filter(by=operator).values_list("reason", flat=True)) == {"Because."}


@pytest.mark.parametrize("role", ["visitor", "contributor"])
def test_an_act_is_for_moderators(role: str, life: None) -> None:
    client = Client() if role == "visitor" else client_of(user_make())
    before = everything()
    for label, name in act_paths():
        path = path_of_act(label, name, prepared(label, name))
        changed = everything()
        for answer in (client.get(path), client.post(path, {**FORMS.get((label, name), {}), "reason": "Mine."})):
            assert answer.status_code == 302
            assert answer.headers["Location"].startswith("/admin/login/")
        assert everything() == changed
    assert set(before) == set(everything())


def test_who_moderates_is_the_operators_to_say(life: None) -> None:
    client = client_of(moderator_make())
    for name in ("appoint", "dismiss"):
        row = user_make() if name == "appoint" else moderator_make()
        path = path_of_act("people.User", name, row)
        assert path not in client.get(path_of(User, "change", row.pk)).content.decode()
        assert client.post(path, {"reason": "A friend."}).status_code == 403
    assert not Act.objects.filter(kind__startswith="moderator_").exists()


def test_an_act_needs_the_token_of_its_form(life: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(moderator_make(), backend="django.contrib.auth.backends.ModelBackend")
    path = path_of_act("people.User", "close", user_make())
    assert client.post(path, {"reason": "Forged."}).status_code == 403
    assert not Act.objects.filter(kind="account_closed").exists()


def test_what_a_service_refuses_is_said_on_the_page_with_what_was_written() -> None:
    moderator = moderator_make()
    path = path_of_act("people.User", "grant", user_make())
    form = {"credits": "999999", "act_id": str(uuid4()), "reason": "For the course."}
    answer = client_of(moderator).post(path, form)
    assert answer.status_code == 400
    text = answer.content.decode()
    assert "a moderator grants in 24 hours" in text
    assert "For the course." in text
    assert form["act_id"] in text


def test_a_row_that_is_gone_is_not_there(life: None) -> None:
    client = client_of(moderator_make())
    assert client.get(path_of(Node, "change", uuid4())).status_code == 404
    assert client.get(path_of_act("people.User", "close", User(pk=10**9))).status_code == 404
    assert client.get(path_of(Node, "change", "not an id")).status_code == 404


# --- the desk and the trail ------------------------------------------------------------------------------------------------


def test_the_desk_has_what_waits_and_the_newest_acts(life: None) -> None:
    text = client_of(moderator_make()).get("/admin/").content.decode()
    for shown in ("L. Meitner", "example/asked:1.0", "Odd results.", "This one.", "dispute ruled on"):
        assert shown in text
    job = Job.objects.get(state="disputed")
    assert reverse("admin:jobs_job_dispute", args=[job.pk]) in text


def test_a_moderator_without_a_second_factor_is_told_where_to_add_one(life: None) -> None:
    client = client_of(user_make(is_staff=True))
    node, before = Node.objects.get(state="quarantined"), everything()
    release = path_of(Node, "release", node.pk)
    dispute = reverse("admin:jobs_job_dispute", args=[Job.objects.filter(state="disputed").values_list("pk", flat=True)[0]])
    for path in (reverse("admin:index"), release, dispute):
        page = client.get(path).content.decode()
        assert "You can look, and not act." in page, path
        assert 'href="/accounts/2fa/"' in page
        assert 'name="reason"' not in page
    assert client.post(release, {"reason": "All is well."}).status_code == 400
    client.post(dispute, {"canonical": "none", "reason": "It varies."})
    assert everything() == before
    with override_settings(NEXA_MODERATOR_SECOND_FACTOR=False):
        assert 'name="reason"' in client.get(release).content.decode()
        assert "You can look" not in client.get(reverse("admin:index")).content.decode()


def test_a_list_counts_only_so_many_rows_and_says_that_there_are_more() -> None:
    class Few(BoundedPaginator):
        COUNTED_MAX = 3

    users = [user_make() for _ in range(5)]
    few = Few(User.objects.order_by("pk"), 2)
    assert (few.count, few.num_pages, few.has_more) == (3, 2, True)
    assert list(few.page(2).object_list) == [users[2]]
    whole = BoundedPaginator(User.objects.order_by("pk"), 2)
    assert (whole.count, whole.has_more) == (5, False)
    with CaptureQueriesContext(connection) as queries:
        client_of(moderator_make()).get(path_of(Job, "changelist"))
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"] and "jobs_job" in query["sql"]]
    assert len(counts) == 1
    assert f"LIMIT {BoundedPaginator.COUNTED_MAX + 1}" in counts[0]


def test_the_desk_shows_the_nodes_that_are_longest_in_quarantine_and_counts_the_rest() -> None:
    moderator = moderator_make()
    nodes = [
        node_quarantine(node=node_make(user_make(), name=f"node-{place}")[0], by=moderator, reason=f"Odd {place}.")
        for place in range(SHOWN + 2)
    ]
    node_release(node=nodes[0], by=moderator, reason="Mended.")
    node_quarantine(node=nodes[0], by=moderator, reason="Odd again.")
    before_the_trail = node_make(user_make(), name="unknown")[0]
    Node.objects.filter(pk=before_the_trail.pk).update(state="quarantined")
    desk = desk_read(moderator=moderator, now=timezone.now())
    queue = next(queue for queue in desk.queues if queue.key == "nodes")
    assert queue.count == SHOWN + 3
    assert [row.what for row in queue.rows] == [f"node-{place}" for place in range(1, SHOWN + 1)]
    assert queue.oldest_at == queue.rows[0].since
    assert queue.rows[0].about == "Odd 1."


def test_an_empty_desk_says_so() -> None:
    text = client_of(moderator_make()).get("/admin/").content.decode()
    for shown in ("Nothing waits for a moderator.", "Nobody waits for a decision", "No act was done yet."):
        assert shown in text


def test_a_dispute_in_which_one_has_an_interest_is_counted_for_others() -> None:
    job, _ = disputed_job(1, 2, 3)
    User.objects.filter(pk=job.owner_id).update(is_staff=True)
    text = client_of(User.objects.get(pk=job.owner_id)).get("/admin/").content.decode()
    assert "1 more in which you have an interest" in text
    assert str(job.pk) not in text


def test_the_desk_takes_as_many_statements_however_much_waits(life: None, django_assert_max_num_queries: Any) -> None:
    client = client_of(moderator_make())
    for number in range(12):
        application_submit(applicant=user_make(), full_name=f"P {number}", affiliation="KWI", purpose="Fission.", link="")
        node = Node.objects.filter(state="active").first()
        if node is not None:
            node_quarantine(node=node, by=moderator_make(), reason="Odd results.")
    with django_assert_max_num_queries(20):
        assert client.get("/admin/").status_code == 200


def test_a_list_takes_as_many_statements_however_long_it_is(life: None, django_assert_max_num_queries: Any) -> None:
    client = client_of(moderator_make())
    for model in admin.site._registry:
        with django_assert_max_num_queries(16):
            assert client.get(path_of(model, "changelist")).status_code == 200


def test_the_trail_is_filtered_and_leads_to_what_acts_were_about(life: None) -> None:
    client = client_of(moderator_make())
    text = client.get("/admin/people/act/?kind__exact=node_quarantined").content.decode()
    node = Node.objects.get(state="quarantined")
    assert path_of(Node, "change", node.pk) in text
    assert "This one." not in text
    assert "This one." in client.get("/admin/people/act/?q=This+one").content.decode()
    history = client.get(path_of(Node, "history", node.pk))
    assert "Odd results." in client.get(history.headers["Location"]).content.decode()


# --- strangers' names ----------------------------------------------------------------------------------------------------


def test_names_of_strangers_are_text_on_every_page(life: None) -> None:
    User.objects.update(display_name="", about=HOSTILE, email=f"{HOSTILE[:40]}@example.org")
    for number, user in enumerate(User.objects.all()):
        User.objects.filter(pk=user.pk).update(username=f"{HOSTILE}{number}", display_name=f"{HOSTILE}{number}"[:48], is_public=True)
    Node.objects.update(last_no_work={"code": HOSTILE, "message": HOSTILE}, profile={HOSTILE: HOSTILE})
    for number, node in enumerate(Node.objects.all()):
        Node.objects.filter(pk=node.pk).update(name=f"{HOSTILE}{number}")
    for number, job in enumerate(Job.objects.all()):
        Job.objects.filter(pk=job.pk).update(label=f"{HOSTILE}{number}", title=HOSTILE, job_type=HOSTILE, failure_message=HOSTILE)
    Replica.objects.update(failure_message=HOSTILE, cancel_reason=HOSTILE)
    ResearcherApplication.objects.update(full_name=HOSTILE, affiliation=HOSTILE, purpose=HOSTILE, link="javascript:alert(1)")
    Team.objects.update(name=HOSTILE)
    JoinToken.objects.update(name=HOSTILE)
    ImageBreaker.objects.update(image_name=HOSTILE)
    ImageRequest.objects.update(name=HOSTILE, purpose=HOSTILE)
    ImageApproval.objects.update(name=HOSTILE, pull=HOSTILE)
    node_quarantine(node=Node.objects.filter(state="active")[0], by=moderator_make(), reason=HOSTILE)
    client = client_of(operator_make())
    paths = ["/admin/", *(path_of(model, "changelist") for model in admin.site._registry)]
    paths += [path_of(model, "change", row.pk) for model, row in rows()]
    paths += [path_of_act(label, name, prepared(label, name)) for label, name in act_paths()]
    for path in paths:
        text = client.get(path).content.decode()
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
        assert 'href="javascript:' not in text, path
        assert "style=" not in text, path
        assert " onclick" not in text, path


def test_secrets_are_on_no_page(life: None) -> None:
    job = Job.objects.all()[0]
    Job.objects.filter(pk=job.pk).update(visibility="unlisted", link_secret="the-secret-of-the-link")
    client = client_of(operator_make())
    for path in (path_of(Job, "change", job.pk), path_of(Job, "changelist")):
        assert "the-secret-of-the-link" not in client.get(path).content.decode()
    key = NodeKey.objects.all()[0]
    assert "Public key" not in client.get(path_of(NodeKey, "change", key.pk)).content.decode()


def test_an_entry_leads_to_its_leaf_and_an_account_shows_its_balance(life: None) -> None:
    client = client_of(moderator_make())
    entry = Entry.objects.filter(kind="grant")[0]
    assert f"/ledger/{entry.item.leaf.index}/" in client.get(path_of(Entry, "change", entry.pk)).content.decode()
    account = Account.objects.get(kind="treasury")
    assert f"{account.balance_micro / 1e6:,.0f}" in client.get(path_of(Account, "change", account.pk)).content.decode()
    assert Ruling.objects.exists()
