"""Following a job in a terminal, on the real portal; and what a terminal is protected from."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from rich.console import Console

from client.api import PortalApi
from client.watching import AWAY_SECONDS_MAX, POLL_SECONDS, event_text, job_watch
from jobs.models import Job
from jobs.services.closing import job_fail
from tests.client.live_portal import LivePortal
from tests.client.scripted_portal import Answer, Asked, json_answer, problem_answer, scripted_portal
from tests.factories.jobs import descriptor_make
from tests.factories.receipts import replica_lease
from workers.portal import PortalProtocolError, PortalRefusedError

JOB = {"id": "0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02", "job_id": "label", "state": "running"}


def submitted(portal: LivePortal, **overrides: Any) -> tuple[PortalApi, dict[str, Any]]:
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    return api, api.job_submit(descriptor_make(job_id=f"watched-{secrets.token_hex(4)}", **overrides))


def steps(*actions: Callable[[], None]) -> Callable[[float], None]:
    """A `pause` that does the next thing instead of waiting."""
    rest: Iterator[Callable[[], None]] = iter(actions)

    def pause(seconds: float) -> None:
        action = next(rest, None)
        assert action is not None, "the watch went on for longer than the test has steps"
        action()

    return pause


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=200, color_system=None), out


def test_job_is_followed_from_the_queue_to_its_end_with_progress_bars(portal: LivePortal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal is shown no bars
    api, job = submitted(portal)

    def lease() -> None:
        with portal.database():
            replica = replica_lease(Job.objects.get(pk=job["id"]))
            replica.progress = {"stage": "running", "progress": 0.4, "message": "annealing", "elapsed_seconds": 3.0}
            replica.state = "running"
            replica.save(update_fields=["progress", "state"])

    def end() -> None:
        with portal.database(), transaction.atomic():
            job_fail(job=Job.objects.get(pk=job["id"]), code="attempts_exhausted", message="No host could run it.")

    shown, out = console(terminal=True)
    found = job_watch(api, job["id"], shown, pause=steps(lambda: None, lease, lambda: None, end))
    text = out.getvalue()
    assert (found["state"], found["failure_code"]) == ("failed", "attempts_exhausted")
    assert "running annealing" in text  # the bar's note
    assert [text.count("job.queued"), text.count("job.failed")] == [1, 1]


def test_completed_job_is_shown_with_all_its_events_at_once(portal: LivePortal) -> None:
    api, job = submitted(portal, verification={"copies": 2, "quorum": 2})
    portal.job_complete(job["id"])
    shown, out = console(terminal=False)
    assert job_watch(api, job["id"], shown, pause=steps())["state"] == "completed"
    assert "job.completed" in out.getvalue()
    assert len(out.getvalue().splitlines()) == len(api.job_events(job["id"]))


def test_strangers_job_is_refused(portal: LivePortal) -> None:
    _, job = submitted(portal)
    _, token = portal.researcher()
    with pytest.raises(PortalRefusedError) as caught:
        job_watch(PortalApi(portal.origin, token), job["id"], console(terminal=False)[0], pause=steps())
    assert caught.value.status == 404


def _script(job: dict[str, Any], events: list[Any] | None = None, replicas: Any = None) -> Callable[[Asked], Answer]:
    pages = [events or [], []]

    def script(asked: Asked) -> Answer:
        if "/events" in asked.path:
            return json_answer({"events": pages.pop(0) if pages else []})
        return json_answer({"replicas": replicas or []} if asked.path.endswith("/replicas") else job)

    return script


def test_portal_that_is_away_is_told_once_and_waited_for() -> None:
    waits: list[float] = []
    state = {"away": True}

    def script(asked: Asked) -> Answer:
        return problem_answer(503, "busy") if state["away"] else _script({**JOB, "state": "completed"})(asked)

    def pause(seconds: float) -> None:
        waits.append(seconds)
        state["away"] = len(waits) < 5

    shown, out = console(terminal=False)
    with scripted_portal(script) as fake:
        assert job_watch(PortalApi(fake.origin), JOB["id"], shown, pause=pause)["state"] == "completed"
    assert out.getvalue().count("Waiting for it") == 1
    assert len(waits) == 5
    assert all(0 < wait <= AWAY_SECONDS_MAX for wait in waits)


def test_limit_ends_the_watch_also_of_a_portal_that_never_answered() -> None:
    with scripted_portal(lambda _: Answer(503)) as fake, pytest.raises(TimeoutError, match="not seen yet"):
        job_watch(PortalApi(fake.origin), JOB["id"], console(terminal=False)[0], pause=lambda _: None, limit_seconds=0.0)


def test_open_job_is_asked_about_again_after_a_moment() -> None:
    waits: list[float] = []
    with scripted_portal(_script(JOB)) as fake, pytest.raises(TimeoutError, match="running"):
        job_watch(PortalApi(fake.origin), JOB["id"], console(terminal=False)[0], pause=waits.append, limit_seconds=0.05)
    assert set(waits) <= {POLL_SECONDS}


@pytest.mark.parametrize(
    ("events", "replicas"),
    [
        ([{}], []),
        ([7], []),
        ([{"id": "x"}], []),
        ([], [{}]),
        ([], ["x"]),
        ([], [{"progress": {"stage": 1}}]),
        ([], [{"id": "1", "state": "running", "progress": {"stage": "a", "progress": "much"}}]),
    ],
)
def test_timeline_that_is_none_is_a_protocol_error(events: list[Any], replicas: list[Any]) -> None:
    with scripted_portal(_script(JOB, events, replicas)) as fake, pytest.raises(PortalProtocolError, match="timeline"):
        job_watch(PortalApi(fake.origin), JOB["id"], console(terminal=False)[0], pause=steps())


def test_events_that_never_grow_do_not_loop_for_ever() -> None:
    """The same page again and again: each costs a step, and the ids asked for grow."""
    events = [{"id": 1, "kind": "job.queued"}]
    asked_after: list[str] = []

    def script(asked: Asked) -> Answer:
        if "/events" in asked.path:
            asked_after.append(asked.path)
            return json_answer({"events": events if len(asked_after) < 4 else []})
        return _script({**JOB, "state": "completed"})(asked)

    with scripted_portal(script) as fake:
        job_watch(PortalApi(fake.origin), JOB["id"], console(terminal=False)[0], pause=steps())
    assert [path.rpartition("=")[2] for path in asked_after] == ["0", "1", "2", "3"]


def test_hosts_words_can_not_drive_the_terminal() -> None:
    hostile = "\x1b[2J\x9b31m[bold]\r\nverified"
    replicas = [{"id": "1", "state": "running", "node": hostile, "progress": {"stage": "running", "message": hostile, "progress": 0.5}}]
    events = [{"id": 1, "kind": hostile, "payload": {"why": hostile}}]
    shown, out = console(terminal=False)
    with scripted_portal(_script({**JOB, "state": "completed"}, events, replicas)) as fake:
        job_watch(PortalApi(fake.origin), JOB["id"], shown, pause=steps())
    assert not set("\x1b\x9b\r") & set(out.getvalue())
    assert len(out.getvalue().splitlines()) == 1
    assert "[bold]" in out.getvalue()  # as text, not as markup


def test_event_is_one_line_of_kind_replica_and_words() -> None:
    event = {"id": 3, "kind": "replica.failed", "replica": "abcdef1234", "payload": {"code": "exit_nonzero", "deep": {}, "count": 2}}
    assert event_text(event) == "replica.failed abcdef12: code exit_nonzero, count 2"
    assert event_text({"kind": "job.queued", "replica": None, "payload": {}}) == "job.queued"
