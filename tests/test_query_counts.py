"""What each page of the portal asks the database: few statements, and as many of them with much to show as with little."""

from __future__ import annotations

from typing import Final

import pytest
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ledger.checkpoints import checkpoint_publish
from nexaportal.session_watch import is_due
from nodes.services import join_token_create
from people.models import Scope, TeamMember
from people.notifications.models import NotificationKind
from people.notifications.services import Draft, notifications_write
from people.notifications.webhooks import webhook_set
from people.services import token_mint
from tests.browser.pages import PAGES, PageShown
from tests.browser.scene import Scene, scene_make
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from tests.factories.receipts import replica_lease

STATEMENTS_MAX: Final = 18
"""A page that shows this much is a page too full, or asks in a loop."""
MORE: Final = 4
"""So many more of everything; lists show more of each than that."""


def counts_of(scene: Scene) -> dict[PageShown, list[str]]:
    """The statements of each page, as whoever looks at it in the table. The second time: the first one fills caches of the process."""
    clients = {"": Client()}
    for person in scene.people:
        clients[person.username] = Client()
        clients[person.username].force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    found = {}
    for page in PAGES:
        path = scene.path(page.path)
        clients[page.name].get(path)
        cache.clear()
        for client in clients.values():
            is_due(str(client.session.session_key))  # no page here is the one that writes when the browser was last here
        with CaptureQueriesContext(connection) as queries:
            response = clients[page.name].get(path)
            assert response.status_code == (404 if page.path == "/nowhere/" else 200), path
        found[page] = [query["sql"] for query in queries]
    return found


def more_make(scene: Scene, turn: str) -> None:
    """MORE of everything that a list may show, of those people who look at the lists."""
    lise = scene.person("lise")
    team = TeamMember.objects.get(user=lise).team
    for number in range(MORE):
        for person in (scene.researcher, lise):
            token_mint(owner=person, name=f"laptop {turn} {number}", scopes=[Scope.JOBS_READ])
            UserSession.objects.create(user=person, ip="192.0.2.1", session_key=f"{person.pk} {turn} {number}", user_agent="x")
            notifications_write(
                [Draft(person.pk, NotificationKind.JOB_COMPLETED, f"{person.pk} {turn} {number}", "Done", "It is.", "/jobs/")]
            )
        job = job_make(scene.researcher, job_id=f"{turn}-{number}", verification={"method": "numeric", "copies": 3, "quorum": 3})
        replica_lease(job, scene.nodes[0])
        node_make(lise, name=f"{turn}-{number}")
        join_token_create(owner=lise, lifetime_seconds=60)
        TeamMember.objects.create(team=team, user=user_make(display_name=f"The {turn} {number}", is_public=True))
    checkpoint_publish()


@pytest.mark.django_db
def test_pages_take_few_statements_and_no_more_when_there_is_more_to_show() -> None:
    scene = scene_make()
    webhook_set(owner=scene.researcher, url="https://hooks.example.org/nexapod")
    more_make(scene, "first")
    before = counts_of(scene)
    more_make(scene, "second")
    after = counts_of(scene)
    many = {page: queries for page, queries in before.items() if len(queries) > STATEMENTS_MAX}
    assert not many, "\n".join(f"{page.path}: {len(queries)} statements\n  " + "\n  ".join(queries) for page, queries in many.items())
    grown = {page: (len(before[page]), len(after[page])) for page in PAGES if len(after[page]) > len(before[page])}
    assert not grown, "\n".join(f"{page.path} of {page.name}: {counts}\n  " + "\n  ".join(after[page]) for page, counts in grown.items())
