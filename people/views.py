"""Account pages: overview, profile, sessions, API tokens. Signing in itself is allauth's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from allauth.mfa.models import Authenticator
from allauth.usersessions.adapter import get_adapter as sessions_adapter
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from people import selectors
from people.forms import ProfileForm, TokenForm
from people.page_users import user_of
from people.services import profile_change, token_mint, token_revoke
from workers.protocol.problems import ProblemError

TOKENS_SHOWN: Final = 200


def refusal_show(form: Form, error: ProblemError, field: str | None = None) -> None:
    """What a service refused, at the field that it concerns."""
    form.add_error(field, error.detail)


@require_GET
@never_cache
@login_required
def account_page(request: HttpRequest) -> HttpResponse:
    """Who one is here, how one signs in, and what is missing."""
    user = user_of(request)
    factors = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    now = timezone.now()
    tokens = selectors.tokens_of(owner=user).filter(revoked_at=None)
    context = {
        "roles": selectors.roles_of(user=user),
        "has_totp": Authenticator.Type.TOTP in factors,
        "has_passkey": Authenticator.Type.WEBAUTHN in factors,
        "tokens": sum(token.expires_at is None or token.expires_at > now for token in tokens),
        "sessions": UserSession.objects.filter(user=user).count(),
        "membership": selectors.membership_of(user=user),
        "application": selectors.application_newest(applicant=user),
    }
    return render(request, "people/account.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def profile_page(request: HttpRequest) -> HttpResponse:
    """What strangers see, and whether."""
    user = user_of(request)
    if request.method != "POST":
        known = {"display_name": user.display_name, "about": user.about, "is_public": user.is_public}
        return render(request, "people/profile.html", {"form": ProfileForm(initial=known)})
    form = ProfileForm(request.POST)
    if form.is_valid():
        try:
            profile_change(user=user, **form.cleaned_data)
        except ProblemError as error:
            refusal_show(form, error, "display_name")
        else:
            messages.success(
                request, "Your profile is changed." if user.is_public else "Your profile is changed; strangers see nothing of it."
            )
            return redirect("account-profile")
    user.refresh_from_db()  # a refused name is not the person's
    return render(request, "people/profile.html", {"form": form}, status=400)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def tokens_page(request: HttpRequest) -> HttpResponse:
    """API tokens, and a form for another. A new secret is in the answer to the form and nowhere else."""
    owner = user_of(request)
    context: dict[str, Any] = {"form": TokenForm()}
    status = 200
    if request.method == "POST":
        context["form"] = form = TokenForm(request.POST)
        status = 400
        if form.is_valid():
            days = int(form.cleaned_data["days"])
            expires_at = timezone.now() + timedelta(days=days) if days else None
            try:
                token, secret = token_mint(
                    owner=owner, name=form.cleaned_data["name"], scopes=form.cleaned_data["scopes"], expires_at=expires_at
                )
            except ProblemError as error:
                refusal_show(form, error)
                status = error.status
            else:
                context |= {"form": TokenForm(), "minted": token, "secret": secret}
                status = 200
    tokens = list(selectors.tokens_of(owner=owner)[:TOKENS_SHOWN])
    now = timezone.now()
    context["live"] = [token for token in tokens if token.revoked_at is None and (token.expires_at is None or token.expires_at > now)]
    context["dead"] = [token for token in tokens if token not in context["live"]]
    return render(request, "people/tokens.html", context, status=status)


@require_POST
@never_cache
@login_required
def token_revoke_page(request: HttpRequest, token_id: int) -> HttpResponse:
    """Ends one of the caller's tokens."""
    token = selectors.tokens_of(owner=user_of(request)).filter(pk=token_id).first()
    if token is None:
        raise Http404("You have no token with this id.")
    token_revoke(token=token)
    messages.success(request, f"“{token.name}” is revoked; whoever uses it is refused from now on.")
    return redirect("account-tokens")


@require_POST
@never_cache
@login_required
def session_end_page(request: HttpRequest, session_id: int) -> HttpResponse:
    """Signs one of the caller's browsers out."""
    session = get_object_or_404(UserSession, pk=session_id, user=user_of(request))
    sessions_adapter().end_sessions([session])
    messages.success(request, "That browser is signed out.")
    return redirect("usersessions_list")
