"""Joining: one page on which a contributor names a node, gets its token and command, and sees it arrive, work and earn.

The token is shown in the answer to the POST and never again: it is kept nowhere, so there is nothing to redirect to. The page without it
(`join-watch-page`) can be come back to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from jobs.hosting.selectors import run_first, run_first_paid
from jobs.hosting.standing import machine_words
from nodes.models import JoinToken
from nodes.selectors import join_token_of
from nodes.services import NODE_NAME_CHARACTERS_MAX, join_token_create
from people.page_users import user_of
from workers.protocol.problems import ProblemError

_PLACEHOLDER: Final = "TOKEN"
_ABOUT_THE_NAME: Final = frozenset({"name_invalid", "node_name_taken"})


@dataclass(frozen=True)
class Way:
    """One way to run a host, and the one command for it (docs/host.md)."""

    key: str
    title: str
    words: str
    command: str


class JoinForm(forms.Form):
    """What the node is to be called; empty: as the machine calls itself."""

    name = forms.CharField(required=False, max_length=NODE_NAME_CHARACTERS_MAX)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def join_page(request: HttpRequest) -> HttpResponse:
    """GET: the three steps before the first. POST: mints a token and shows its commands, this once."""
    if request.method == "GET":
        return render(request, "nodes/join.html", {"form": JoinForm(), **_words(_PLACEHOLDER)})
    form = JoinForm(request.POST)
    if not form.is_valid():
        return render(request, "nodes/join.html", {"form": form, **_words(_PLACEHOLDER)}, status=400)
    owner = user_of(request)
    try:
        token, text = join_token_create(owner=owner, lifetime_seconds=settings.NEXA_JOIN_TOKEN_SECONDS, name=form.cleaned_data["name"])
    except ProblemError as error:
        form.add_error("name" if error.code in _ABOUT_THE_NAME else None, str(error))
        return render(request, "nodes/join.html", {"form": form, **_words(_PLACEHOLDER)}, status=error.status)
    return render(request, "nodes/join.html", {"form": form, "is_told": True, **_words(text), **_arrival(token)})


@require_GET
@never_cache
@login_required
def join_watch_page(request: HttpRequest, token_id: int) -> HttpResponse:
    """The same page without the token: what has become of it."""
    token = _token_or_404(request, token_id)
    return render(request, "nodes/join.html", {"form": JoinForm(), **_words(_PLACEHOLDER), **_arrival(token)})


@require_GET
@never_cache
@login_required
def join_fragment(request: HttpRequest, token_id: int) -> HttpResponse:
    """The part of the page that changes. It asks for itself again until the first credits are there."""
    return render(request, "nodes/_arrival.html", _arrival(_token_or_404(request, token_id)))


def ways_of(token: str) -> list[Way]:
    """The ways to run a host, each with its command for this token."""
    engine = (
        "--volume /var/lib/nexa:/var/lib/nexa --volume /var/run/docker.sock:/var/run/docker.sock \\\n"
        '    --group-add "$(stat -c %g /var/run/docker.sock)" nexapod/host'
    )
    return [
        Way(
            "shell",
            "In a shell",
            "To try it out: works until you press Ctrl-C. Needs Python 3.11 and Docker or Podman.",
            f"nexa join {token} && nexa worker",
        ),
        Way(
            "systemd",
            "As a service",
            "Linux with systemd: a user of its own, started with the machine. Run it where the software is installed, in /opt/nexa.",
            "sudo useradd --system --create-home --home-dir /var/lib/nexa --groups docker nexa &&\n"
            f"sudo -u nexa NEXA_HOME=/var/lib/nexa /opt/nexa/bin/nexa join {token} &&\n"
            "/opt/nexa/bin/nexa service print --user nexa --home /var/lib/nexa |\n"
            "    sudo tee /etc/systemd/system/nexa-worker.service > /dev/null &&\n"
            "sudo systemctl daemon-reload && sudo systemctl enable --now nexa-worker",
        ),
        Way(
            "docker",
            "In a container",
            "Anything with Docker Engine and the image nexapod/host. Jobs' containers are started beside it, not inside.",
            "sudo install -d -m 700 -o 10001 -g 10001 /var/lib/nexa &&\n"
            f"docker run --rm {engine} \\\n    join {token} &&\n"
            f"docker run --detach --name nexa --restart unless-stopped --stop-timeout 660 \\\n    {engine}",
        ),
    ]


def _words(token: str) -> dict[str, Any]:
    return {"ways": ways_of(token), "lifetime_seconds": settings.NEXA_JOIN_TOKEN_SECONDS}


def _arrival(token: JoinToken) -> dict[str, Any]:
    """How far the token's host has come: at most four statements."""
    node = token.node
    first = run_first(node=node) if node else None
    paid = run_first_paid(node=node) if node and first else None
    is_expired = node is None and token.expires_at <= timezone.now()
    return {
        "token": token,
        "node": node,
        "machine": machine_words(node.profile) if node else "",
        "is_expired": is_expired,
        "first": first,
        "paid": paid,
        "is_over": is_expired or (paid is not None and paid.entry is not None),  # the log takes it a moment after it was paid
    }


def _token_or_404(request: HttpRequest, token_id: int) -> JoinToken:
    token = join_token_of(owner=user_of(request), token_id=token_id)
    if token is None:
        raise Http404("You have no join token with this number.")
    return token
