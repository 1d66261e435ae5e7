"""Where the link of an invitation leads."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from people.invitations.selectors import SESSION_KEY, invitation_live
from people.sign_up import SignUp


@require_GET
@never_cache
def invitation_page(request: HttpRequest, secret: str) -> HttpResponse:
    """Remembers the link in this browser and leads to the form. Opening uses nothing up: programs that read mail open links too."""
    if request.user.is_authenticated:
        messages.info(request, "You have an account and are signed in to it; an invitation is for who has none. Its link stays good.")
        return redirect("account-page")
    if SignUp(settings.NEXA_SIGN_UP) is SignUp.CLOSED:
        return redirect("account_signup")  # which says so
    if invitation_live(secret=secret) is None:
        raise Http404("This invitation was used, replaced or withdrawn, or has expired. Ask who invited you for another.")
    request.session[SESSION_KEY] = secret
    return redirect("account_signup")
