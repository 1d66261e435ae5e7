"""Pages of joining and of nodes: whose they are, the token that is shown once, what acts do, hostile names, what is hidden."""

from __future__ import annotations

import html
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.hosting.selectors import Run, runs_before
from jobs.models import Replica
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from nodes.models import JoinToken, Node, NodeSample
from nodes.services import JOIN_TOKENS_PER_OWNER_MAX, join_token_create
from people.models import User
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make
from tests.factories.receipts import replica_lease, replica_report
from workers.protocol.join_tokens import join_token_decode

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>\"'"


def signed_in(user: User, **options: bool) -> Client:
    client = Client(**options)  # type: ignore[arg-type]  # django-stubs types the defaults only
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_a_node_is_there_for_its_owner_only() -> None:
    owner = user_make()
    node, _ = node_make(owner, name="my-machine")
    token, _ = join_token_create(owner=owner, lifetime_seconds=600, name="my-next-machine")
    paths = ["", "fragment/", "revoke/"]
    pages = [f"/nodes/{node.pk}/{path}" for path in paths] + [f"/nodes/join/{token.pk}/", f"/nodes/join/{token.pk}/fragment/"]
    mine = signed_in(owner)
    assert [mine.get(page).status_code for page in pages] == [200] * len(pages)
    assert "my-machine" in mine.get("/nodes/").content.decode()
    for stranger in (user_make(), moderator_make()):
        client = signed_in(stranger)
        assert [client.get(page).status_code for page in pages] == [404] * len(pages)
        acts = [f"/nodes/{node.pk}/{act}/" for act in ("pause", "drain", "resume", "revoke")]
        assert [client.post(act).status_code for act in acts] == [404] * len(acts)
        text = client.get("/nodes/").content.decode()
        assert "my-machine" not in text
        assert node.key_id not in text
    assert [Client().get(page).status_code for page in [*pages, "/nodes/", "/nodes/join/"]] == [302] * (len(pages) + 2)
    assert mine.get(f"/nodes/{uuid.uuid4()}/").status_code == 404
    node.refresh_from_db()
    assert node.state == "active"


def test_the_list_says_whether_a_node_is_there_and_why_it_got_no_work() -> None:
    owner = user_make()
    now = timezone.now()
    node_make(owner, name="here", last_seen_at=now)
    node_make(owner, name="away", last_seen_at=now - timedelta(hours=3), last_no_work={"code": "none_fits", "message": "Too small for it."})
    node_make(owner, name="held", state="quarantined", last_seen_at=now)
    node_make(owner, name="gone", state="revoked")
    text = signed_in(owner).get("/nodes/").content.decode()
    assert [word for word in ("online", "silent", "quarantined") if f'state-{word}">' in text] == ["online", "silent", "quarantined"]
    assert "Too small for it." in text
    assert "1 revoked" in text


def test_living_nodes_are_listed_newest_first_whatever_was_revoked_and_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.hosting.node_views.NODES_MAX", 3)
    monkeypatch.setattr("jobs.hosting.node_views.REVOKED_MAX", 2)
    owner = user_make()
    for number in range(4):
        node_make(owner, name=f"gone-{number}", state="revoked")
    for number in range(5):
        node_make(owner, name=f"here-{number}", last_seen_at=timezone.now())
    text = signed_in(owner).get("/nodes/").content.decode()
    assert re.findall(r'title="(here-\d)"', text) == ["here-4", "here-3", "here-2"]
    assert "3 of the newest 3 online" in text
    assert "2 older ones are not shown here" in text
    assert "4 revoked" in text
    assert re.findall(r">(gone-\d)<", text) == ["gone-3", "gone-2"]
    assert "and 2 older ones" in text


def test_a_node_with_older_software_than_recommended_is_pointed_at_the_way_to_upgrade(settings: Any) -> None:
    settings.NEXA_HOST_VERSION = "0.2"
    owner = user_make()
    old, _ = node_make(owner)
    new, _ = node_make(owner)
    Node.objects.filter(pk=new.pk).update(profile={**new.profile, "software_version": "0.2.0"})
    client = signed_in(owner)
    told = "Its host software is 0.1.0; 0.2 or later is recommended here."
    assert [told in client.get(f"/nodes/{node.pk}/{part}").content.decode() for node in (old, new) for part in ("", "fragment/")] == [
        True,
        True,
        False,
        False,
    ]
    assert 'href="/docs/host/#upgrading"' in client.get(f"/nodes/{old.pk}/").content.decode()


def test_a_node_whose_protocol_is_not_spoken_is_not_taken_for_switched_off() -> None:
    owner = user_make()
    node, _ = node_make(owner, last_no_work={"code": "protocol_unsupported", "message": "Expected protocol version 2; found 1."})
    text = signed_in(owner).get(f"/nodes/{node.pk}/").content.decode()
    assert "It asks for work in a protocol that is not spoken here. Expected protocol version 2; found 1." in text
    assert "start it on the machine" not in text


def test_without_nodes_the_list_says_how_to_join() -> None:
    assert "No machine of yours has joined yet." in signed_in(user_make()).get("/nodes/").content.decode()


def test_the_form_mints_a_token_with_the_name_and_shows_it_once() -> None:
    owner = user_make()
    client = signed_in(owner)
    response = client.post("/nodes/join/", {"name": "attic"})
    assert "no-store" in response.headers["Cache-Control"]
    found = re.findall(r"join (nexa-join1[^\s&]+)", html.unescape(response.content.decode()))
    assert len(set(found)) == 1, "each way has the same token"
    assert join_token_decode(found[0]).portal == "http://testserver"
    token = JoinToken.objects.get()
    assert (token.owner, token.name) == (owner, "attic")
    for path in ("/nodes/", "/nodes/join/", f"/nodes/join/{token.pk}/", f"/nodes/join/{token.pk}/fragment/"):
        assert found[0] not in client.get(path).content.decode()


@pytest.mark.parametrize(("name", "status"), [("taken", 409), ("a\x01b", 400), ("a\u202eb", 400), ("x" * 65, 400)])
def test_a_name_that_will_not_do_is_refused_at_its_field(name: str, status: int) -> None:
    owner = user_make()
    node_make(owner, name="taken")
    response = signed_in(owner).post("/nodes/join/", {"name": name})
    assert response.status_code == status
    assert 'id="id_name_wrong"' in response.content.decode()
    assert not JoinToken.objects.exists()


def test_minting_takes_a_session_and_a_csrf_token() -> None:
    assert Client().post("/nodes/join/").status_code == 302
    assert signed_in(user_make(), enforce_csrf_checks=True).post("/nodes/join/").status_code == 403
    assert JoinToken.objects.count() == 0


def test_too_many_tokens_are_refused_on_the_page() -> None:
    owner = user_make()
    expires_at = timezone.now() + timedelta(hours=1)
    JoinToken.objects.bulk_create(
        JoinToken(owner=owner, secret_sha256=number.to_bytes(32), expires_at=expires_at) for number in range(JOIN_TOKENS_PER_OWNER_MAX)
    )
    response = signed_in(owner).post("/nodes/join/")
    assert response.status_code == 409
    assert f"There are {JOIN_TOKENS_PER_OWNER_MAX} unused join tokens of yours" in response.content.decode()


def test_an_expired_token_says_so_and_asks_no_more() -> None:
    owner = user_make()
    token, _ = join_token_create(owner=owner, lifetime_seconds=600)
    fragment = f"/nodes/join/{token.pk}/fragment/"
    client = signed_in(owner)
    assert "hx-trigger" in client.get(fragment).content.decode()
    JoinToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    text = client.get(fragment).content.decode()
    assert "The token expired" in text
    assert "hx-trigger" not in text


def test_the_arrival_shows_the_first_job_and_the_first_credits() -> None:
    owner = user_make()
    node, key = node_make(owner)
    token, _ = join_token_create(owner=owner, lifetime_seconds=600)
    JoinToken.objects.filter(pk=token.pk).update(node=node, used_at=timezone.now())
    client, fragment = signed_in(owner), f"/nodes/join/{token.pk}/fragment/"
    assert "comes when one of its tier is queued" in client.get(fragment).content.decode()
    job = job_make(verification={"method": "exact", "copies": 1, "quorum": 1})
    replica_report(job, node=node, key=key)
    text = client.get(fragment).content.decode()
    assert "First job: <strong>" in text
    assert "state-delivered" in text
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    checkpoint_publish()
    text = client.get(fragment).content.decode()
    assert "First credits: <strong>" in text
    assert "of the public log" in text
    assert "hx-trigger" not in text


@pytest.mark.parametrize(("act", "state"), [("pause", "paused"), ("drain", "draining"), ("resume", "active")])
def test_acts_of_the_owner_lead_back_to_the_node(act: str, state: str) -> None:
    owner = user_make()
    node, _ = node_make(owner, state="paused" if act == "resume" else "active")
    client = signed_in(owner)
    assert client.get(f"/nodes/{node.pk}/{act}/").status_code == 405
    response = client.post(f"/nodes/{node.pk}/{act}/", follow=True)
    assert response.redirect_chain == [(f"/nodes/{node.pk}/", 302)]
    assert f'state-{state if state != "active" else "silent"}">' in response.content.decode()
    assert Node.objects.get().state == state
    assert client.post(f"/nodes/{node.pk}/explode/").status_code == 404


def test_a_quarantined_node_is_not_resumed_and_the_page_says_why() -> None:
    owner = user_make()
    node, _ = node_make(owner, state="quarantined")
    response = signed_in(owner).post(f"/nodes/{node.pk}/resume/", follow=True)
    assert "A moderator has quarantined this node" in response.content.decode()
    assert Node.objects.get().state == "quarantined"


def test_revoking_asks_first_and_gives_back_what_runs() -> None:
    owner = user_make()
    node, _ = node_make(owner)
    replica = replica_lease(job_make(), node)
    client = signed_in(owner)
    assert "1 run under way is lost" in client.get(f"/nodes/{node.pk}/revoke/").content.decode()
    node.refresh_from_db()
    assert node.state == "active"
    assert client.post(f"/nodes/{node.pk}/revoke/").status_code == 302
    node.refresh_from_db()
    replica.refresh_from_db()
    assert (node.state, replica.state) == ("revoked", "expired")


def test_of_a_job_the_host_s_owner_sees_what_the_order_said_and_no_more() -> None:
    owner = user_make()
    node, key = node_make(owner)
    job = job_make(job_id="secret-label", title="a secret title", verification={"method": "exact", "copies": 2, "quorum": 2})
    replica_report(job, node=node, key=key)
    other = job_make(job_id="another-label")
    replica_lease(other, node)
    text = "".join(signed_in(owner).get(path).content.decode() for path in ("/nodes/", f"/nodes/{node.pk}/"))
    assert job.job_type in text
    assert "state-delivered" in text
    for hidden in ("secret-label", "a secret title", "another-label", str(job.pk), str(other.pk), job.owner.username):
        assert hidden not in text


def test_charts_show_what_was_told_and_leave_gaps() -> None:
    owner = user_make()
    node, _ = node_make(owner)
    now = timezone.now().replace(second=0, microsecond=0)
    for minute in (1, 2, 3, 20, 21, 22):
        NodeSample.objects.create(node=node, minute_at=now - timedelta(minutes=minute), cpu_percent=50, cpu_celsius=61)
    text = signed_in(owner).get(f"/nodes/{node.pk}/").content.decode()
    assert text.count("<figure>") == 2, "nothing was told of memory and GPUs"
    assert text.count('<path class="line"') == 4
    assert "61 °C" in text
    assert "hx-trigger" in text
    assert text.count("<figure>") == signed_in(owner).get(f"/nodes/{node.pk}/?span=day").content.decode().count("<figure>")
    assert signed_in(owner).get(f"/nodes/{node.pk}/?span=%00&before=nothing").status_code == 200


def test_what_a_host_claims_is_shown_as_text() -> None:
    owner = user_make()
    node, _ = node_make(owner, name=HOSTILE, last_no_work={"code": HOSTILE, "message": HOSTILE})
    profile = {**node.profile, "gpus": [{"name": HOSTILE, "memory_bytes": 10**9}], "cpu_model": HOSTILE, "os": HOSTILE}
    profile["gpus"][0].update(index=0, uuid="GPU-1")
    Node.objects.filter(pk=node.pk).update(profile=profile)
    for path in ("/nodes/", f"/nodes/{node.pk}/", f"/nodes/{node.pk}/revoke/"):
        text = signed_in(owner).get(path).content.decode()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_the_history_goes_on_behind_a_run_though_many_were_leased_at_one_moment() -> None:
    owner = user_make()
    node, key = node_make(owner)
    replicas = [replica_report(job_make(), node=node, key=key) for _ in range(5)]
    Replica.objects.filter(node=node).update(leased_at=timezone.now())
    shown: list[Run] = []
    while page := runs_before(node=node, before=shown[-1].replica.pk if shown else None, limit=2):
        shown += page
    assert sorted(run.replica.pk for run in shown) == sorted(replica.pk for replica in replicas)
    assert runs_before(node=node, before=uuid.uuid4(), limit=9) == runs_before(node=node, limit=9)


def test_statements_do_not_grow_with_nodes_and_runs(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    owner = user_make()
    for _ in range(4):
        node, key = node_make(owner)
        replica_report(job_make(verification={"method": "exact", "copies": 1, "quorum": 1}), node=node, key=key)
        replica_lease(job_make(), node)
    client = signed_in(owner)
    with django_assert_max_num_queries(9):
        client.get("/nodes/")
    with django_assert_max_num_queries(11):
        client.get(f"/nodes/{node.pk}/")
