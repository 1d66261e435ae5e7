"""Moderators' searches of large tables go by indexes: each statement of a search, as PostgreSQL plans it over many rows."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs.models import Job
from nodes.models import Node
from people.models import User
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make

pytestmark = pytest.mark.django_db

ROWS = 20_000


def rows_multiply(model: type[Job | Node | User], row: Job | Node | User, **columns: str) -> None:
    """ROWS more like `row`; `columns` are SQL of the number `n`."""
    names = [str(field.column) for field in model._meta.concrete_fields if not field.generated]
    table = model._meta.db_table
    values = ", ".join(columns.get(name, f'"{name}"') for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    statement = f"INSERT INTO {table} ({listed}) SELECT {values} FROM {table}, generate_series(1, {ROWS}) n WHERE id = %s"  # noqa: S608  names of our own
    with connection.cursor() as cursor:
        cursor.execute(statement, [row.pk])
        cursor.execute(f"ANALYZE {table}")


@pytest.fixture
def many() -> dict[str, str]:
    """What can be looked for, by name."""
    owner, job = user_make("crowd"), job_make(job_id="chignolin-17")
    node, _ = node_make(owner, name="oakridge")
    padded = "lpad(n::text, 12, '0')"
    rows_multiply(
        User,
        owner,
        id="1000000 + n",
        username=f"'u' || {padded}",
        email=f"'u' || {padded} || '@example.org'",
        display_name=f"'d' || {padded}",
    )
    rows_multiply(Job, job, id="gen_random_uuid()", label=f"'crowd-' || {padded}", owner_id="1000000 + n", link_secret="''")
    key = "sha256(n::text::bytea)"
    rows_multiply(
        Node, node, id="gen_random_uuid()", name=f"'n' || {padded}", key_id=f"'sha256:' || encode({key}, 'hex')", public_key=key,
        owner_id="1000000 + n",
    )  # fmt: skip
    return {
        "job": str(job.pk),
        "label": job.label,
        "owner": job.owner.username,
        "node": node.name,
        "node id": str(node.pk),
        "key": node.key_id,
    }


@pytest.mark.parametrize(
    ("path", "sought", "finds"),
    [
        ("jobs/job", "job", "chignolin-17"), ("jobs/job", "label", "chignolin-17"), ("jobs/job", "owner", "chignolin-17"),
        ("jobs/replica", "job", "chignolin-17"), ("jobs/replica", "node", ""),
        ("nodes/node", "node", "oakridge"), ("nodes/node", "node id", "oakridge"), ("nodes/node", "key", "oakridge"),
        ("nodes/nodekey", "key", "oakridge"), ("people/user", "owner", "person-"),
        ("ledger/entry", "owner", ""), ("ledger/account", "owner", "person-"),
    ],
)  # fmt: skip
def test_no_statement_of_a_search_reads_a_large_table_through(path: str, sought: str, finds: str, many: dict[str, str]) -> None:
    client = Client()
    client.force_login(moderator_make(), backend="django.contrib.auth.backends.ModelBackend")
    with CaptureQueriesContext(
        connection,
    ) as captured:
        page = client.get(f"/admin/{path}/", {"q": many[sought]})
    assert finds in page.content.decode()
    assert "Nothing matches" not in page.content.decode() or not finds
    with connection.cursor() as cursor:
        for query in captured.captured_queries:
            if query["sql"].startswith("SELECT"):
                cursor.execute(f"EXPLAIN {query['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
                scanned = [table for table in ("jobs_job", "nodes_node", "people_user") if f"Seq Scan on {table} " in plan]
                assert not scanned, f"{query['sql']}\n{plan}"
