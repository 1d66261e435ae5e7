"""Researchers ask for images; moderators decide; everybody who asked is told."""

from __future__ import annotations

import pytest
from django.test import Client

from jobs.errors import ImageMalformedError, ImageRequestOpenError, ResearcherRequiredError
from jobs.models import ImageApproval, ImageRequest
from jobs.services.image_requests import OPEN_MAX, image_request, image_request_approve, image_request_decline
from jobs.submission.images import image_resolve
from people.errors import ActPointlessError, ModeratorInterestError, ModeratorRequiredError
from people.models import User
from people.moderation.models import Act
from people.notifications.models import Notification
from tests.factories.people import moderator_make, researcher_make, user_make

pytestmark = pytest.mark.django_db

NAME, IMAGE_ID = "example/tides:1.0", "sha256:" + "a" * 64


def asked(by: User | None = None, name: str = NAME) -> ImageRequest:
    return image_request(by=by or researcher_make(), name=name, purpose="Tides of the North Sea.")


def test_an_approval_answers_all_who_asked() -> None:
    one, other = asked(), asked()
    approval = image_request_approve(request=one, by=moderator_make(), pull="", image_id=IMAGE_ID, reason="Read its Dockerfile.")
    assert (approval.name, image_resolve(NAME).image_id) == (NAME, IMAGE_ID)
    for request in (one, other):
        request.refresh_from_db()
        assert (request.is_approved, request.reason) == (True, "Read its Dockerfile.")
        assert "approved" in Notification.objects.get(owner=request.asked_by).subject
    assert [act.kind for act in Act.objects.all()] == ["image_approved"]


def test_who_is_declined_reads_why_and_may_ask_again() -> None:
    request = asked()
    image_request_decline(request=request, by=moderator_make(), reason="It <b>mines</b>.")
    client = Client()
    client.force_login(request.asked_by, backend="django.contrib.auth.backends.ModelBackend")
    text = client.get("/jobs/images/").content.decode()
    assert "It &lt;b&gt;mines&lt;/b&gt;." in text
    assert client.post("/jobs/images/", {"name": NAME, "purpose": "Tides, and no mining at all."}).status_code == 302
    assert ImageRequest.objects.filter(is_approved=None).count() == 1
    assert not ImageApproval.objects.exists()


def test_a_decision_is_made_once_and_not_on_ones_own() -> None:
    request, moderator = asked(), moderator_make()
    own = asked(User.objects.get(pk=researcher_make(is_staff=True).pk))
    with pytest.raises(ModeratorInterestError):
        image_request_approve(request=own, by=own.asked_by, pull="", image_id=IMAGE_ID, reason="Mine.")
    with pytest.raises(ModeratorRequiredError):
        image_request_decline(request=request, by=user_make(), reason="Mine.")
    image_request_decline(request=request, by=moderator, reason="No.")
    with pytest.raises(ActPointlessError):
        image_request_approve(request=request, by=moderator, pull="", image_id=IMAGE_ID, reason="Yes.")


def test_what_is_no_request() -> None:
    researcher = researcher_make()
    with pytest.raises(ResearcherRequiredError):
        asked(user_make())
    with pytest.raises(ImageMalformedError):
        asked(researcher, name="UPPER")
    asked(researcher)
    with pytest.raises(ImageRequestOpenError, match="already"):
        asked(researcher)
    for number in range(OPEN_MAX - 1):
        asked(researcher, name=f"example/tides:{number + 2}.0")
    with pytest.raises(ImageRequestOpenError, match="Wait"):
        asked(researcher, name="example/more:1.0")


def test_the_page_says_what_is_wrong_and_keeps_what_was_written() -> None:
    client = Client()
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    assert "Apply to be one" in client.get("/jobs/images/").content.decode()
    answer = client.post("/jobs/images/", {"name": NAME, "purpose": "Tides of the North Sea."})
    assert answer.status_code == 400
    assert not ImageRequest.objects.exists()
