"""The wall's pages: what strangers see of whom."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from ledger.checkpoints import checkpoint_publish
from ledger.services import account_of, payment_of, reservation_of, reversal_post
from nodes.wall.asking import PAGE_ROWS
from nodes.wall.recording import JudgedWork, work_record
from nodes.wall.summing import standings_sum
from people.models import Team, TeamMember, User
from tests.factories.jobs import credits_grant
from tests.factories.ledger import entry_post, payment_make
from tests.factories.people import user_make

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\"'"


def contributor_make(work: int = 1_000_000, *, science: str = "folding", days_ago: int = 0, **fields: Any) -> User:
    user = user_make(**fields)
    account_of(user=user)
    at = timezone.now() - timedelta(days=days_ago)
    work_record([JudgedWork(user.pk, science, is_accepted=True, work_micro=work, paid_micro=work)], at=at)
    standings_sum(today=timezone.now().date())
    return user


def text_of(path: str, **query: str) -> str:
    response = Client().get(path, query)
    assert response.status_code == 200
    return str(response.content.decode())


def test_an_empty_wall_says_how_to_be_the_first() -> None:
    assert "No work has been accepted yet." in text_of("/wall/")
    assert "Nobody has work accepted" in text_of("/wall/", period="7")
    assert "No team has work accepted" in text_of("/wall/", by="team")


def test_who_is_not_public_has_no_name_no_team_and_no_page() -> None:
    hidden = contributor_make(username="hidden-hypatia", display_name="Hypatia", about="of Alexandria")
    team = Team.objects.create(name="Library")
    TeamMember.objects.create(user=hidden, team=team, is_lead=True)
    text = text_of("/wall/")
    assert "a contributor" in text
    answer = Client().get("/api/v1/wall").json()
    assert (answer["rows"][0]["name"], answer["rows"][0]["team"]) == (None, None)
    assert answer["rows"][0]["account_id"] == str(account_of(user=hidden).pk)
    for shown in (text, json.dumps(answer)):
        assert not [word for word in ("hidden-hypatia", "Hypatia", "Alexandria", "Library") if word in shown]
    assert [Client().get(f"/wall/{name}/").status_code for name in ("hidden-hypatia", "Hypatia", "nobody")] == [404, 404, 404]


def test_who_is_public_has_a_name_a_team_and_a_page_and_a_pseudonym_hides_the_username() -> None:
    user = contributor_make(username="maria", display_name="Night Owl", about="two desktops", is_public=True)
    TeamMember.objects.create(user=user, team=Team.objects.create(name="Owls"), is_lead=True)
    text = text_of("/wall/")
    assert 'href="/wall/Night%20Owl/"' in text
    assert "Owls" in text
    page = text_of("/wall/night owl/")
    assert "two desktops" in page
    assert "maria" not in text + page
    assert Client().get("/wall/maria/").status_code == 404
    assert Client().get("/api/v1/wall").json()["rows"][0]["name"] == "Night Owl"


def test_a_person_who_was_deactivated_shows_nothing() -> None:
    contributor_make(username="gone", is_public=True, is_active=False)
    assert "gone" not in text_of("/wall/")
    assert Client().get("/wall/gone/").status_code == 404


@pytest.mark.parametrize("name", [HOSTILE, "a/b", "50% off", "?x=1", "#top", "é ü 漢字"])
def test_names_are_text_and_lead_to_their_page(name: str) -> None:
    user = contributor_make(display_name=name, about=HOSTILE, is_public=True, science=HOSTILE)
    TeamMember.objects.create(user=user, team=Team.objects.create(name=HOSTILE), is_lead=True)
    text = text_of("/wall/")
    [href] = re.findall(r'<a href="/wall/([^"]+)"', text)
    pages = [text, text_of("/wall/", by="team"), text_of("/wall/", science=HOSTILE), text_of(f"/wall/{html.unescape(href)}")]
    assert not [page for page in pages if "<script>alert" in page]
    assert f"<title>{name}" in pages[-1] or "&lt;script&gt;" in pages[-1]


def test_the_page_lists_payments_with_their_leaves() -> None:
    user, researcher = contributor_make(is_public=True, username="lise"), user_make()
    credits_grant(researcher)
    payment = payment_make(account_of(user=user), 40)
    job_id = payment.replica_id
    entry_post(reservation_of(account=account_of(user=researcher), job_id=job_id, amount_micro=100))
    entry = entry_post(payment_of(job_id=job_id, payment=payment, formula={}))
    assert "soon" in text_of("/wall/lise/")
    checkpoint_publish()
    entry.item.refresh_from_db()
    text = text_of("/wall/lise/")
    assert f'href="/ledger/{entry.item.leaf.index}/"' in text
    assert "reversed" not in text
    reversal_post(entry=entry, reason="a mistake")
    assert "reversed" in text_of("/wall/lise/")
    assert "Nothing was paid before that" in text_of("/wall/lise/", before="1")
    assert "1 accepted, 1 TFLOP-hours" in text


def test_filters_show_their_part_and_what_is_unknown_shows_all() -> None:
    contributor_make(3_000_000, science="folding", display_name="Early", is_public=True, days_ago=20)
    contributor_make(2_000_000, science="climate", display_name="Late", is_public=True)
    found = {
        query: [name for name in ("Early", "Late") if f"<strong>{name}</strong>" in text_of(f"/wall/?{query}")]
        for query in ("period=7", "period=30", "science=folding", "science=climate&period=7", "science=none", "period=nonsense&by=x&from=y")
    }
    assert found == {
        "period=7": ["Late"],
        "period=30": ["Early", "Late"],
        "science=folding": ["Early"],
        "science=climate&period=7": ["Late"],
        "science=none": [],
        "period=nonsense&by=x&from=y": ["Early", "Late"],
    }


def test_pages_follow_each_other_and_keep_the_filter() -> None:
    for place in range(PAGE_ROWS + 2):
        contributor_make(1_000 - place)
    text = text_of("/wall/", period="7")
    assert f'href="?period=7&amp;from={PAGE_ROWS + 1}"' in text
    second = text_of("/wall/", period="7", **{"from": str(PAGE_ROWS + 1)})
    assert second.count("a contributor</span>") == 2
    assert 'href="?period=7"' in second
    assert "Nobody has place 999" in text_of("/wall/", **{"from": "999"})
    first = Client().get("/api/v1/wall?limit=40").json()
    rest = Client().get("/api/v1/wall", {"limit": "40", "from": first["next_from"]}).json()
    assert [row["rank"] for row in first["rows"] + rest["rows"]] == list(range(1, PAGE_ROWS + 3))
    assert rest["next_from"] is None


@pytest.mark.parametrize("query", ["period=8", "by=planet", "from=0", "from=1000001", "limit=0", "limit=201", "science=" + "x" * 65])
def test_a_query_of_the_api_that_is_not_valid_is_named(query: str) -> None:
    response = Client().get(f"/api/v1/wall?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "request_invalid")


def test_statements_do_not_grow_with_contributors(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for place in range(12):
        contributor_make(place + 1, display_name=f"Person {place}", is_public=True)
    for path in ("/wall/", "/wall/?by=team"):
        with django_assert_num_queries(3):  # rows, totals, sciences
            Client().get(path)
    with django_assert_num_queries(5):
        Client().get("/wall/Person 3/")
