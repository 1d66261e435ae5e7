"""Pages of notifications, for who is signed in."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from people.errors import WebhookUrlInvalidError
from people.models import User
from people.notifications import selectors, services, webhooks
from people.page_users import user_of
from people.paging import page_of

PAGE: Final = 50
DELIVERIES: Final = 12


@require_GET
@never_cache
@login_required
def notifications_page(request: HttpRequest) -> HttpResponse:
    """The newest, or those behind `before`."""
    before = _id(request.GET.get("before", ""))
    found = selectors.notifications_of(owner=user_of(request), before=before, limit=PAGE + 1)
    page, last = page_of(found, PAGE)
    context = {"found": page, "next": last and last.pk}
    return render(request, "people/notifications.html", context)


@require_POST
@login_required
def notifications_read(request: HttpRequest) -> HttpResponse:
    """Marks one (`id`), or all, as read."""
    wanted = _id(request.POST.get("id", ""))
    services.notifications_read(owner=user_of(request), ids=None if wanted is None else [wanted])
    return redirect("notifications")


def _id(text: str) -> int | None:
    """The id that a form or an address says; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


@require_GET
@never_cache
@login_required
def settings_page(request: HttpRequest) -> HttpResponse:
    """Ways by kind, and the webhook."""
    return render(request, "people/notification_settings.html", _context(user_of(request)))


@require_POST
@login_required
def settings_save(request: HttpRequest) -> HttpResponse:
    """Every way of every kind at once: `KIND:WAY` for each that is wanted."""
    owner = user_of(request)
    wanted = {kind: [way for way in services.WAYS if f"{kind}:{way}" in request.POST] for kind in selectors.kinds_for(owner)}
    services.settings_set(owner=owner, wanted=wanted)
    messages.success(request, "Saved.", extra_tags="done")
    return redirect("notification-settings")


@require_POST
@never_cache
@login_required
def webhook_save(request: HttpRequest) -> HttpResponse:
    """Sets the webhook and shows its secret: here, once. So no redirect; loading it again makes another secret."""
    owner, url = user_of(request), request.POST.get("url", "").strip()
    try:
        _, secret = webhooks.webhook_set(owner=owner, url=url)
    except WebhookUrlInvalidError as error:
        return render(request, "people/notification_settings.html", {**_context(owner), "url": url, "wrong": str(error)}, status=400)
    return render(request, "people/notification_settings.html", {**_context(owner), "secret": secret})


@require_POST
@login_required
def webhook_remove(request: HttpRequest) -> HttpResponse:
    """Ends the webhook."""
    webhooks.webhook_remove(owner=user_of(request))
    messages.success(request, "The webhook is removed.", extra_tags="done")
    return redirect("notification-settings")


def _context(owner: User) -> dict[str, Any]:
    webhook = selectors.webhook_of(owner=owner)
    return {
        "chosen": selectors.settings_of(owner=owner),
        "webhook": webhook,
        "url": webhook.url if webhook else "",
        "deliveries": selectors.deliveries_of(webhook=webhook, limit=DELIVERIES) if webhook else [],
    }
