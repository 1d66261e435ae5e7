"""Pages of one's standing here: the application to be a researcher, and the team."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from people import selectors, team_services
from people.forms import ApplicationForm, TeamForm
from people.models import Team, User
from people.page_users import user_of
from people.services import application_submit
from people.views import refusal_show
from workers.protocol.problems import ProblemError


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def research_page(request: HttpRequest) -> HttpResponse:
    """Where the caller stands as a researcher, what is next, and the form to apply."""
    user = user_of(request)
    form = ApplicationForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                application_submit(applicant=user, **form.cleaned_data)
            except ProblemError as error:
                refusal_show(form, error)
                status = error.status
            else:
                messages.success(request, "Your application is sent. A notification and a mail bring the decision.")
                return redirect("account-research")
    context = {"form": form, "application": selectors.application_newest(applicant=user)}
    return render(request, "people/research.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def team_page(request: HttpRequest) -> HttpResponse:
    """The caller's team; or how to get into one. A form sent here makes a team, or renames the caller's."""
    user = user_of(request)
    membership = selectors.membership_of(user=user)
    form = TeamForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            name = form.cleaned_data["name"]
            try:
                if membership is None:
                    team_services.team_create(lead=user, name=name)
                else:
                    team_services.team_rename(team=membership.team, by=user, name=name)
            except ProblemError as error:
                refusal_show(form, error, "name")
                status = error.status
            else:
                messages.success(request, "The team has its new name." if membership else "Your team is made.")
                return redirect("account-team")
    context: dict[str, Any] = {"membership": membership}
    if membership is not None:
        team = Team.objects.get(pk=membership.team_id)
        text = selectors.invitation_text(team=team) if membership.is_lead else None
        context |= {
            "team": team,
            "members": selectors.members_of(team=team),
            "link": f"{settings.NEXA_ORIGIN}{reverse('team-join', args=[text])}" if text else None,
        }
        form.fields["name"].initial = team.name
    return render(request, "people/team.html", {**context, "form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def team_join_page(request: HttpRequest, invitation: str) -> HttpResponse:
    """Whom a link invites to which team. Opening it joins nothing; the button does."""
    user = user_of(request)
    team = selectors.invitation_team(text=invitation)
    if team is None:
        raise Http404("No team invites by this link.")
    if request.method == "POST":
        return _team_do(request, lambda: team_services.team_join(user=user, invitation=invitation), f"You are in {team.name}.")
    context = {"team": team, "membership": selectors.membership_of(user=user), "count": len(selectors.members_of(team=team))}
    return render(request, "people/team_join.html", context)


@require_POST
@never_cache
@login_required
def team_leave_page(request: HttpRequest) -> HttpResponse:
    """Leaves the caller's team."""
    user = user_of(request)
    return _team_do(request, lambda: team_services.team_leave(user=user), "You are in no team now.")


@require_POST
@never_cache
@login_required
def team_invitation_page(request: HttpRequest) -> HttpResponse:
    """A new link, or none: `revoke` in the form says so."""
    user, team = _led(request)
    if "revoke" in request.POST:
        return _team_do(request, lambda: team_services.invitation_revoke(team=team, by=user), "The link is revoked.")
    return _team_do(request, lambda: team_services.invitation_make(team=team, by=user), "Here is a new link; the one before is revoked.")


@require_POST
@never_cache
@login_required
def team_remove_page(request: HttpRequest, member_id: int) -> HttpResponse:
    """Removes somebody from the team that the caller leads."""
    user, team = _led(request)
    return _team_do(request, lambda: team_services.team_member_remove(team=team, by=user, member_id=member_id), "They are out of the team.")


def _led(request: HttpRequest) -> tuple[User, Team]:
    """The caller and the team that they lead; 404 for everybody else, as if there were none."""
    user = user_of(request)
    membership = selectors.membership_of(user=user)
    if membership is None or not membership.is_lead:
        raise Http404("You lead no team.")
    return user, membership.team


def _team_do(request: HttpRequest, work: Callable[[], object], words: str) -> HttpResponse:
    """Does it and goes back to the team's page, which says what came of it. What isn't there is a 404."""
    try:
        work()
    except ProblemError as error:
        if error.status == 404:
            raise Http404(error.detail) from error
        messages.error(request, error.detail, extra_tags="broken")
    else:
        messages.success(request, words)
    return redirect("account-team")
