"""Applications, teams and profiles: the services and what they refuse."""

from __future__ import annotations

import pytest
from django.core import mail
from django.test import Client

from people.errors import (
    ApplicationDecidedError,
    ApplicationOpenError,
    InvitationInvalidError,
    ModeratorRequiredError,
    NameInvalidError,
    NameTakenError,
    ReasonMissingError,
    ResearcherAlreadyError,
    TeamLeadRequiredError,
    TeamMemberAlreadyError,
    TeamMemberUnknownError,
)
from people.models import ResearcherApplication, Team, TeamMember, User
from people.notifications.mailing import mails_send
from people.notifications.selectors import notifications_of
from people.selectors import invitation_text, membership_of
from people.services import application_decide, application_submit, profile_change
from people.team_services import invitation_make, invitation_revoke, team_create, team_join, team_leave, team_member_remove, team_rename
from tests.factories.people import moderator_make, researcher_make, user_make

pytestmark = pytest.mark.django_db


def apply(user: User) -> ResearcherApplication:
    return application_submit(applicant=user, full_name="Marie S", affiliation="Sorbonne", purpose="decay chains", link="")


def link_of(team: Team, lead: User) -> str:
    text = invitation_text(team=invitation_make(team=team, by=lead))
    assert text is not None
    return text


def test_an_approved_applicant_is_a_researcher_and_told() -> None:
    user, moderator = user_make(), moderator_make()
    application = apply(user)
    with pytest.raises(ApplicationOpenError):
        apply(user)
    application_decide(application=application, decided_by=moderator, is_approved=True, reason="")
    assert mails_send() == 2
    user.refresh_from_db()
    assert user.is_researcher
    assert [one.to for one in mail.outbox] == [[moderator.email], [user.email]]
    assert [told.subject for told in notifications_of(owner=user, before=None, limit=5)] == ["You may submit jobs now"]
    with pytest.raises(ResearcherAlreadyError):
        apply(user)
    with pytest.raises(ApplicationDecidedError):
        application_decide(application=application, decided_by=moderator, is_approved=False, reason="second thoughts")


def test_a_declined_applicant_reads_why_and_may_apply_again() -> None:
    user, moderator = user_make(), moderator_make()
    application = apply(user)
    with pytest.raises(ReasonMissingError):
        application_decide(application=application, decided_by=moderator, is_approved=False, reason=" ")
    with pytest.raises(ModeratorRequiredError):
        application_decide(application=application, decided_by=researcher_make(), is_approved=True, reason="")
    client = Client()
    client.force_login(moderator, backend="django.contrib.auth.backends.ModelBackend")
    path = f"/admin/people/researcherapplication/{application.pk}/do/decline/"
    assert path in client.get(f"/admin/people/researcherapplication/{application.pk}/change/").content.decode()
    assert client.post(path, {"reason": "say <b>more</b>"}).status_code == 302
    mails_send()
    told = "You may apply again. The moderator wrote: say <b>more</b>"
    assert told in mail.outbox[-1].body
    assert [one.text for one in notifications_of(owner=user, before=None, limit=5)] == [told]
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    assert "say &lt;b&gt;more&lt;/b&gt;" in client.get("/account/research/").content.decode()
    apply(user)


def test_a_display_name_is_nobody_elses() -> None:
    first, second = user_make("marie"), user_make("pierre")
    profile_change(user=first, display_name="  Polonium   84 ", about="a\nb", is_public=True)
    assert (first.public_name, first.about, first.is_public) == ("Polonium 84", "a b", True)
    for name in ("polonium 84", "MARIE"):
        with pytest.raises(NameTakenError):
            profile_change(user=second, display_name=name, about="", is_public=False)
    for name in ("a\u202eb", "x" * 49):
        with pytest.raises(NameInvalidError):
            profile_change(user=second, display_name=name, about="", is_public=False)


def test_a_team_is_joined_by_its_newest_link_only() -> None:
    lead, friend, other = user_make(), user_make(), user_make()
    team = team_create(lead=lead, name="Alvarez")
    old, new = link_of(team, lead), link_of(team, lead)
    for text in (old, "x", new[:-1] + "?"):
        with pytest.raises(InvitationInvalidError):
            team_join(user=friend, invitation=text)
    assert team_join(user=friend, invitation=new) == team_join(user=friend, invitation=new) == team
    invitation_revoke(team=team, by=lead)
    with pytest.raises(InvitationInvalidError):
        team_join(user=other, invitation=new)
    with pytest.raises(NameTakenError):
        team_create(lead=other, name="ALVAREZ")
    with pytest.raises(NameInvalidError):
        team_create(lead=other, name=" ")


def test_a_person_is_in_one_team() -> None:
    lead, friend = user_make(), user_make()
    text = link_of(team_create(lead=lead, name="one"), lead)
    team_create(lead=friend, name="two")
    with pytest.raises(TeamMemberAlreadyError):
        team_join(user=friend, invitation=text)


def test_only_the_lead_rules_and_its_place_is_taken_by_the_next() -> None:
    lead, friend = user_make(), user_make()
    team = team_create(lead=lead, name="one")
    team_join(user=friend, invitation=link_of(team, lead))
    with pytest.raises(TeamLeadRequiredError):
        team_rename(team=team, by=friend, name="mine")
    with pytest.raises(TeamMemberUnknownError):
        team_member_remove(team=team, by=lead, member_id=TeamMember.objects.get(user=lead).pk)
    team_leave(user=lead)
    membership = membership_of(user=friend)
    assert membership is not None
    assert membership.is_lead
    team_leave(user=friend)
    team_leave(user=friend)
    assert not Team.objects.exists()


def test_who_is_removed_cannot_come_back_by_the_link() -> None:
    lead, friend = user_make(), user_make()
    team = team_create(lead=lead, name="one")
    text = link_of(team, lead)
    team_join(user=friend, invitation=text)
    team.refresh_from_db()
    team_member_remove(team=team, by=lead, member_id=TeamMember.objects.get(user=friend).pk)
    with pytest.raises(InvitationInvalidError):
        team_join(user=friend, invitation=text)


def test_a_token_is_minted_on_the_page_and_shown_once() -> None:
    client = Client()
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    text = client.post("/account/tokens/", {"name": "<i>laptop</i>", "scopes": ["jobs:read"], "days": "7"}).content.decode()
    assert 'data-text="nexa_' in text
    assert "<i>laptop" not in text
    assert "nexa_" not in client.get("/account/tokens/").content.decode()
    assert client.post("/account/tokens/", {"name": "x", "scopes": [], "days": "7"}).status_code == 400


def test_a_lead_who_is_deleted_leaves_the_team_to_who_joined_first_and_the_last_one_ends_it() -> None:
    lead, first, second = user_make(), user_make(), user_make()
    team = team_create(lead=lead, name="Night shift")
    link = link_of(team, lead)
    for user in (first, second):
        team_join(user=user, invitation=link)
    lead.delete()
    assert [(one.user, one.is_lead) for one in TeamMember.objects.filter(team=team).order_by("joined_at")] == [
        (first, True),
        (second, False),
    ]
    User.objects.filter(pk__in=[first.pk, second.pk]).delete()
    assert not Team.objects.filter(pk=team.pk).exists()
