"""Who may see and do what: every address of the portal by every role, in one table.

A new address needs a line in ADDRESSES; without it the first test here fails and says so. Statuses are those of an empty request with a
session of the role (none for a visitor): 200 shown or done, 302 sent to sign in or on, 400 a form or document was expected, 401 and 403
refused, 404 not there or not yours, 405 another method. Objects named in a line (`job`, `node`, …) are the researcher's: to a contributor
and a moderator they are another person's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from ledger.checkpoints import checkpoint_publish
from nodes.services import join_token_create
from people.models import Scope, TeamMember, User
from people.selectors import invitation_text
from people.services import token_mint
from people.team_services import invitation_make, team_create
from tests.factories.jobs import funded_researcher_make, job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make

ROLES: Final = ("visitor", "contributor", "researcher", "moderator")


@dataclass(frozen=True)
class Line:
    """What each role is answered, in the order of ROLES. `objects`: a parameter of the address and what of the scene it names."""

    statuses: tuple[int, int, int, int]
    method: str = "get"
    objects: tuple[tuple[str, str], ...] = ()
    query: str = ""
    body: bytes = b"{}"


def everybody(method: str = "get", status: int = 200, query: str = "", body: bytes = b"{}", **objects: str) -> Line:
    """The same for all."""
    return Line((status,) * 4, method, tuple(objects.items()), query, body)


def people(method: str = "get", status: int = 200, **objects: str) -> Line:
    """A page for whoever is signed in."""
    return Line((302, status, status, status), method, tuple(objects.items()))


def api(method: str = "get", status: int = 200) -> Line:
    """An address of the API for whoever is signed in."""
    return Line((401, status, status, status), method)


def owner(method: str = "get", status: int = 200, refused: int = 302, **objects: str) -> Line:
    """For the one person whose object it is; `refused` is what a visitor gets."""
    return Line((refused, 404, status, 404), method, tuple(objects.items()))


def strangers(method: str = "get", status: int = 200, signed_in: int = 302, **objects: str) -> Line:
    """A page for those who are not signed in; others are sent on."""
    return Line((status, signed_in, signed_in, signed_in), method, tuple(objects.items()))


ADDRESSES: Final[dict[str, Line]] = {
    # pages
    "home": everybody(),
    "healthz": everybody(),
    "readyz": everybody(),
    "metrics": everybody(),  # of those inside: the proxy lets nobody through
    "design": everybody(),
    "favicon": everybody(status=302),
    "live": everybody(),
    "live-fragment": everybody(),
    "docs": everybody(),
    "docs-api": everybody(),
    "docs-page": everybody(slug="slug"),
    "notifications": people(),
    "notifications-read": people("post", 302),
    "notification-settings": people(),
    "notification-settings-save": people("post", 302),
    "webhook-save": people("post", 400),
    "webhook-remove": people("post", 302),
    "jobs-page": people(),
    "images-page": people(),
    "job-page": owner(job_id="job"),
    "job-fragment": owner(job_id="job"),
    # an open job's files are not there, its owner's own ones too; of a concluded job: tests/jobs/results/test_pages.py
    "job-results": owner(job_id="job"),
    "job-results-archive": owner(status=404, job_id="job"),
    "job-result-file": owner(status=404, job_id="job", path="word"),
    "job-result-bytes": owner(status=404, job_id="job", path="word"),
    "job-result-image": owner(status=404, job_id="job", path="word"),
    "job-result-atoms": owner(status=404, job_id="job", path="word"),
    "jobs-rows": people(status=286),  # nothing to follow any more
    "jobs-act": people("post", 302),
    "job-shared": everybody(status=404, secret="word"),
    "job-runs": owner(status=404, job_id="job"),  # an open job's
    "job-retry": owner(job_id="job"),
    "job-visibility": owner(job_id="job"),
    "job-evidence": owner(status=404, job_id="job", replica_id="job", name="word"),
    "job-clone": owner(job_id="job"),
    "new-job": people(),
    "new-job-check": people("post"),
    "new-job-edit": people("post"),
    "browser-uploads": everybody("post", 413),  # of no stated length
    "browser-upload": Line((401, 403, 404, 403), "head", (("upload_id", "job"),)),
    "nodes-page": people(),
    "node-page": owner(node_id="node"),
    "node-fragment": owner(node_id="node"),
    "node-act": owner("post", 302, node_id="node", act="pause"),
    "node-revoke-page": owner(node_id="node"),
    "join-page": people(),
    "join-watch-page": owner(token_id="join token"),
    "join-fragment": owner(token_id="join token"),
    "wall-page": everybody(),
    "wall": everybody(),
    "contributor-page": everybody(status=404, name="word"),
    "bank-page": people(),
    "bank-statement": people(form="csv"),
    "bank-give": people(),
    "ledger-page": everybody(),
    "ledger-checkpoints-page": everybody(),
    "ledger-entry-page": everybody(index="0"),
    "invitation": strangers(status=404, secret="word"),
    # the account
    "account-page": people(),
    "account-delete": people(),
    "account-profile": people(),
    "account-session-end": owner("post", 302, session_id="session"),
    "account-tokens": people(),
    "account-token-revoke": owner("post", 302, token_id="token"),
    "account-research": people(),
    "account-team": people(),
    "team-invitation": owner("post", 302),
    "team-leave": people("post", 302),
    "team-remove": owner("post", 302, member_id="member"),
    "team-join": people(invitation="invitation"),
    # the API under a session; tokens and their scopes: tests/people/test_permissions.py
    # 422: a descriptor is read before anybody asks whether the person may submit it
    "register": everybody("post", 401),
    "submit-job": api("post", 422),
    "status": everybody(),
    "account": api(),
    "account-statement": api(),
    "me": api(),
    "tokens": api(),
    "token": Line((401, 404, 204, 404), "delete", (("token_id", "token"),)),
    "coordinator": everybody(),
    "join-tokens": api("post", 201),
    "nodes": api(),
    "node": owner(refused=401, node_id="node"),
    "node-revoke": owner("post", refused=401, node_id="node"),
    "node-drain": owner("post", 200, 401, node_id="node"),
    "node-pause": owner("post", refused=401, node_id="node"),
    "node-resume": owner("post", refused=401, node_id="node"),
    "jobs": api(),
    "submit-job-v1": api("post", 422),
    "jobs-array": api("post", 422),
    "jobs-estimate": api("post", 422),
    "job": owner(refused=401, job_id="job"),
    "job-replicas": owner(refused=401, job_id="job"),
    "job-events": owner(refused=401, job_id="job"),
    "job-cancel": owner("post", refused=401, job_id="job"),
    "job-bundle": owner(status=409, refused=401, job_id="job"),
    "status-v1": everybody(),
    "descriptor-schema": everybody(),
    "openapi": everybody(),
    # hosts sign their requests; a session is nothing here (uploads: the length is asked for before the signature)
    "node-key": everybody("post", 401),
    "exchange": everybody("post", 401),
    "node-leave": everybody("post", 401, body=b""),
    "receipts": everybody("post", 401),
    "uploads": everybody("post", 400, body=b""),
    "upload": everybody("head", 401, upload_id="job"),
    "blob": everybody("get", 401, digest="digest"),
    # the public ledger
    "ledger-checkpoint": everybody(),
    "ledger-entries": everybody(),
    "ledger-epochs": everybody(),
    "ledger-export-csv": everybody(),
    "ledger-export": everybody(),
    "ledger-proof-inclusion": everybody(query="?index=0&size=1"),
    "ledger-proof-consistency": everybody(query="?old=1&new=1"),
    "ledger-tile": everybody(status=404, level="0", place="place"),
    # signing in (allauth)
    "account_login": strangers(),
    "account_logout": everybody("post"),  # to a document of JSON, in JSON
    "account_inactive": everybody(),
    "account_signup": strangers(),
    "account_reauthenticate": people(),
    "account_email": people(),
    "account_email_verification_sent": everybody(),
    "account_change_password": people(),
    "account_set_password": people(status=302),
    "account_reset_password": everybody(),
    "account_confirm_login_code": everybody(status=302),
    "account_confirm_email": everybody(key="word"),
    "account_reset_password_from_key_done": everybody(),
    "account_reset_password_from_key": everybody(uidb36="word", key="word"),
    "account_reset_password_done": everybody(),
    "mfa_index": people(),
    "mfa_authenticate": everybody(status=302),
    "mfa_reauthenticate": people(status=302),
    "mfa_activate_totp": people(status=302),
    "mfa_deactivate_totp": people(status=404),
    "mfa_view_recovery_codes": people(status=404),
    "mfa_generate_recovery_codes": people(status=302),
    "mfa_download_recovery_codes": people(status=404),
    "mfa_list_webauthn": people(),
    "mfa_add_webauthn": people(status=302),
    "mfa_reauthenticate_webauthn": people(status=302),
    "mfa_remove_webauthn": people(status=302, pk="0"),
    "mfa_edit_webauthn": people(status=302, pk="0"),
    "mfa_login_webauthn": everybody(status=302),
    "socialaccount_login_cancelled": everybody(),
    "socialaccount_login_error": everybody(status=401),
    "socialaccount_signup": everybody(status=302),
    "socialaccount_connections": people(),
    "openid_connect_login": everybody(status=404, provider_id="word"),
    "openid_connect_callback": everybody(status=404, provider_id="word"),
    "usersessions_list": people(),
    "accounts/social/login/cancelled/": everybody(status=301),
    "accounts/social/login/error/": everybody(status=301),
    "accounts/social/signup/": everybody(status=301),
    "accounts/social/connections/": everybody(status=301),
}
ADMIN: Final = Line((302, 302, 302, 200))
"""The admin's index and its lists: staff only. Others are sent to its sign-in: the portal's for visitors, a 403 for the rest."""


def _addresses(resolver: URLResolver, namespace: str = "", route: str = "") -> Iterator[str]:
    """Names with their namespaces; the route where there is no name."""
    for one in resolver.url_patterns:
        here = route + str(one.pattern)
        if isinstance(one, URLPattern):
            yield namespace + one.name if one.name else here
        else:
            yield from _addresses(one, namespace + (f"{one.namespace}:" if one.namespace else ""), here)


FOUND: Final = tuple(_addresses(get_resolver()))
ADMIN_LISTS: Final = tuple(name for name in FOUND if name == "admin:index" or (name.startswith("admin:") and name.endswith("_changelist")))


@dataclass
class Scene:
    """Somebody of each role, and the researcher's objects."""

    people: dict[str, User]
    objects: dict[str, Any]

    def client(self, role: str) -> Client:
        client = Client()
        if role != "visitor":
            client.force_login(self.people[role], backend="django.contrib.auth.backends.ModelBackend")
        return client


@pytest.fixture
def scene(db: None) -> Scene:
    cache.clear()  # limits of attempts are another test's
    owner_, member = funded_researcher_make(), user_make()
    found = {"contributor": user_make(), "researcher": owner_, "moderator": user_make(is_staff=True)}
    User.objects.update(password="there is one; nobody signs in by it here")
    for user in found.values():
        user.refresh_from_db()
    job = job_make(owner_)
    checkpoint_publish()
    team = invitation_make(team=team_create(lead=owner_, name="Alvarez"), by=owner_)
    browser = Client()
    browser.force_login(owner_, backend="django.contrib.auth.backends.ModelBackend")
    objects = {
        "slug": "host",
        "job": job.pk,
        "node": node_make(owner_)[0].pk,
        "token": token_mint(owner=owner_, name="laptop", scopes=[Scope.JOBS_READ])[0].pk,
        "session": UserSession.objects.create(user=owner_, ip="192.0.2.1", session_key=browser.session.session_key, user_agent="x").pk,
        "member": TeamMember.objects.create(team=team, user=member).pk,
        "invitation": invitation_text(team=team),
        "digest": "sha256:" + "0" * 64,
        "place": "x999/999",
        "join token": join_token_create(owner=owner_, lifetime_seconds=60)[0].pk,
        "pause": "pause",
        "word": "none",
        "csv": "csv",
        "0": 0,
    }
    return Scene(found, objects)


def answer_of(client: Client, line: Line, path: str) -> int:
    """The status of an empty JSON document, or none; the header is what uploads ask of everybody."""
    body = b"" if line.method in {"get", "head"} else line.body
    answer = client.generic(line.method.upper(), path, body, "application/json", headers={"Tus-Resumable": "1.0.0"})
    return answer.status_code


def test_every_address_has_a_line() -> None:
    missing = sorted({name for name in FOUND if not name.startswith(("admin:", "admin/"))} - set(ADDRESSES))
    assert not missing, f"Say who may see and do what at {', '.join(missing)}: add a line for each to ADDRESSES in tests/test_addresses.py."
    gone = sorted(set(ADDRESSES) - set(FOUND))
    assert not gone, f"These addresses are gone: remove the lines of {', '.join(gone)} from ADDRESSES in tests/test_addresses.py."


def test_the_admin_has_lists() -> None:
    assert {"admin:index", "admin:people_researcherapplication_changelist", "admin:jobs_job_changelist"} <= set(ADMIN_LISTS)


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_answers_each_role_as_the_table_says(name: str, scene: Scene) -> None:
    line = ADDRESSES[name]
    path = f"/{name}" if "/" in name else reverse(name, kwargs={key: scene.objects[of] for key, of in line.objects}) + line.query
    answers = {role: answer_of(scene.client(role), line, path) for role in ROLES}
    assert answers == dict(zip(ROLES, line.statuses, strict=True)), f"{line.method.upper()} {path}: {answers}"


@pytest.mark.parametrize("name", ADMIN_LISTS)
def test_the_admin_is_for_moderators(name: str, scene: Scene) -> None:
    answers = {role: scene.client(role).get(reverse(name)).status_code for role in ROLES}
    assert answers == dict(zip(ROLES, ADMIN.statuses, strict=True)), name
    assert scene.client("contributor").get(reverse(name), follow=True).status_code == 403
