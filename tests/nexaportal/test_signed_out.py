"""A page whose session has ended: its scripts are told so and where to sign in, and nobody is led anywhere else."""

from __future__ import annotations

import uuid

import pytest
from django.test import AsyncClient, Client

from tests.factories.people import user_make

pytestmark = pytest.mark.django_db
HERE = "http://testserver"
FRAGMENTS = [f"/nodes/{uuid.UUID(int=1)}/fragment/", "/nodes/join/1/fragment/", f"/jobs/{uuid.UUID(int=1)}/fragment/", "/jobs/rows/"]


def asked(path: str, current: str = "") -> tuple[int, str]:
    """The status, and where signing in leads."""
    answer = Client().get(path, headers={"HX-Request": "true", **({"HX-Current-URL": current} if current else {})})
    return answer.status_code, answer.headers.get("HX-Redirect", "")


@pytest.mark.parametrize("path", FRAGMENTS)
def test_a_part_of_a_page_is_refused_and_leads_back_to_its_page(path: str) -> None:
    assert asked(path, f"{HERE}/nodes/?span=day#charts") == (401, "/accounts/login/?next=/nodes/%3Fspan%3Dday")
    assert Client().get(path).status_code == 302


def test_an_edit_of_a_draft_is_refused_as_a_problem() -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"{HERE}/jobs/new/?from=blank"}
    answer = Client().post("/jobs/new/edit/", {"tab": "form", "do": "add /inputs"}, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/problem+json")
    assert answer.json()["code"] == "not_authenticated"
    assert answer.json()["detail"].startswith("You are signed out.")
    assert answer.headers["HX-Redirect"] == "/accounts/login/?next=/jobs/new/%3Ffrom%3Dblank"


@pytest.mark.parametrize(
    "current",
    [
        "",
        "https://elsewhere.example/a",
        "//elsewhere.example/",
        f"{HERE}//elsewhere.example/",
        f"{HERE}/\\elsewhere.example",
        "javascript:alert(1)",
    ],
)
def test_a_page_that_is_not_ours_is_never_led_to(current: str) -> None:
    assert asked(FRAGMENTS[0], current) == (401, "/accounts/login/?next=/")


def test_other_redirects_and_other_callers_are_left_alone() -> None:
    client = Client()
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    answer = client.post("/accounts/logout/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


async def test_it_stands_in_asynchronous_chains_too() -> None:
    answer = await AsyncClient().get(FRAGMENTS[0], headers={"HX-Request": "true"})
    assert answer.status_code == 401
