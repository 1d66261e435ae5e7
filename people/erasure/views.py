"""Where people delete their account."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from people.erasure.services import account_erase, erasure_obstacles
from people.errors import ErasureRefusedError
from people.page_users import user_of


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]  # allauth has no types
def account_delete_page(request: HttpRequest) -> HttpResponse:
    """Says what goes, what stays and what is in the way; the button asks once more who it is, does it, and signs out."""
    user = user_of(request)
    if request.method == "POST":
        try:
            account_erase(user=user)
        except ErasureRefusedError:
            pass  # the page says why
        else:
            logout(request)
            messages.success(request, "Your account is deleted. Thank you for what you did here.", extra_tags="done")
            return redirect("home")
    obstacles = erasure_obstacles(person=user)
    status = 409 if request.method == "POST" else 200
    return render(request, "people/delete.html", {"obstacles": obstacles}, status=status)
