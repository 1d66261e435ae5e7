"""The wall under a crowd, measured inside a process of the portal; prints JSON. benchmarks/wall.py starts it.

People and standings are made in the database: everybody has worked in two of SCIENCES, half are public, four of five are in a team.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Final

import django
import psutil
from django.conf import settings
from django.core.management import call_command
from django.db import connection

django.setup()
settings.ALLOWED_HOSTS = ["testserver"]

from django.test import Client  # noqa: E402 -- models want settings first
from django.utils import timezone  # noqa: E402

from benchmarks.figures import median  # noqa: E402
from nodes.wall.recording import JudgedWork, work_record  # noqa: E402
from nodes.wall.summing import standings_sum  # noqa: E402

PEOPLE: Final = 100_000
TEAMS: Final = 2_000
ROUNDS: Final = 20
DUE: Final = 5_000
PAGES: Final = {
    "people, all time": "/wall/",
    "people, 7 days, a science": "/wall/?period=7&science=science-3",
    "people, from place 50,001": "/wall/?from=50001",
    "people, from place 99,951": "/wall/?from=99951",
    "teams, all time": "/wall/?by=team",
    "as JSON, 30 days": "/api/v1/wall?period=30",
    "a contributor": "/wall/person-2/",
}

_PEOPLE: Final = (
    "INSERT INTO people_user (username, password, email, first_name, last_name, is_superuser, is_staff, is_active, date_joined,"
    " display_name, about, is_public)"
    " SELECT 'person-' || n, '!', '', '', '', false, false, true, now(), '', '', n % 2 = 0 FROM generate_series(1, {people}) n",
    "INSERT INTO ledger_account (id, kind, owner_id, balance_micro, created_at)"
    " SELECT gen_random_uuid(), 'person', id, 0, now() FROM people_user",
    "INSERT INTO people_team (name, created_at) SELECT 'team-' || n, now() FROM generate_series(1, {teams}) n",
    "INSERT INTO people_teammember (user_id, team_id, is_lead, joined_at)"
    " SELECT u.id, t.id, false, now() FROM people_user u JOIN people_team t ON t.name = 'team-' || u.id % {teams} + 1 WHERE u.id % 5 > 0",
    "INSERT INTO nodes_workday (owner_id, day, science, accepted, rejected, work_micro, paid_micro, due_on)"
    " SELECT id, current_date - d * (id % 9)::int, 'science-' || (id + d) % 8, 40, 1, 1000 * (1 + id * 7919 % 100000), 900, current_date"
    " FROM people_user CROSS JOIN generate_series(0, 1) d",
)


def main() -> None:
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        for statement in _PEOPLE:
            cursor.execute(statement.format(people=PEOPLE, teams=TEAMS))
        cursor.execute("VACUUM ANALYZE nodes_workday")
        standings_sum(today=timezone.now().date(), batch_workdays=2 * PEOPLE)
        cursor.execute(
            "VACUUM ANALYZE people_user, people_teammember, people_team, ledger_account, nodes_workday, nodes_standing, nodes_teamstanding"
        )
    client = Client()
    pages = {name: _measured(lambda path=path: _get(client, path)) for name, path in PAGES.items()}  # type: ignore[misc]
    works = [JudgedWork(owner, "science-1", True, 1000, 900) for owner in range(1, 201)]
    record = _measured(lambda: work_record(works, at=timezone.now()))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE nodes_workday SET due_on = current_date WHERE owner_id <= %s", [DUE // 2])
    began = time.monotonic()
    standings_sum(today=timezone.now().date())
    sum_ms = (time.monotonic() - began) * 1e3
    json.dump({"pages": pages, "sum_ms": sum_ms, "record": record}, sys.stdout)


def _get(client: Client, path: str) -> None:
    response = client.get(path)
    if response.status_code != 200:
        raise RuntimeError(f"{path}: expected 200, found {response.status_code}")


def _measured(act: Callable[[], None]) -> dict[str, float]:
    """In milliseconds, after one that doesn't count: by the clock, and the CPU time that one took here and in the database."""
    act()
    server = psutil.Process(connection.connection.info.backend_pid)
    before, began_cpu, taken = server.cpu_times(), time.process_time(), []
    for _ in range(ROUNDS):
        began = time.monotonic()
        act()
        taken.append((time.monotonic() - began) * 1e3)
    python, after = time.process_time() - began_cpu, server.cpu_times()
    database = after.user + after.system - before.user - before.system
    return {"p50": median(taken), "slowest": max(taken), "python": python * 1e3 / ROUNDS, "database": database * 1e3 / ROUNDS}


if __name__ == "__main__":
    main()
