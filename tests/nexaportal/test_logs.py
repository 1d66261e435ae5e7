"""Lines of the log: whose work they are about, and that nothing in them can be taken for another line."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from contextvars import copy_context

import pytest
from celery.signals import task_postrun, task_prerun
from django.test import AsyncClient, Client, override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.tasks import outbox_push
from nexaportal.logs import Formatter, ids_of_arguments, logging_of
from tests.factories.jobs import job_make
from tests.factories.people import token_header


class Named:
    """Work with ids that are known from the beginning."""

    def __init__(self, **ids: str) -> None:
        self._ids = ids

    def ids(self) -> Mapping[str, str]:
        return self._ids


def record_of(message: str, *arguments: object, failed: BaseException | None = None) -> logging.LogRecord:
    info = (type(failed), failed, failed.__traceback__) if failed else None
    return logging.LogRecord("jobs.services", logging.WARNING, __file__, 1, message, arguments, info)


def line_of(message: str, *arguments: object, as_json: bool = True) -> str:
    return Formatter(as_json=as_json).format(record_of(message, *arguments))


def test_a_line_is_one_json_object_with_the_ids_of_the_work_that_it_is_about() -> None:
    with logging_of(Named(request_id="r1", job="j1")):
        found = json.loads(line_of("%s went wrong", "it"))
    assert found.pop("time").endswith("+00:00")
    assert found == {"level": "WARNING", "logger": "jobs.services", "message": "it went wrong", "request_id": "r1", "job": "j1"}
    assert "job" not in json.loads(line_of("later"))


@settings(deadline=None)
@given(st.text())
def test_whatever_is_logged_is_one_line_and_comes_back_from_json_as_it_was(text: str) -> None:
    line = line_of("%s", text)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


@settings(deadline=None)
@given(st.text(), st.text())
def test_for_people_too_a_line_stays_one_and_moves_no_cursor(text: str, value: str) -> None:
    with logging_of(Named(job=value)):
        assert line_of("%s", text, as_json=False).isprintable()


def test_an_exceptions_words_begin_no_line_of_their_own() -> None:
    record = record_of("failed", failed=ValueError("first\n2026-01-01T00:00:00 INFO nodes forged \x1b[2J"))
    lines = Formatter(as_json=False).format(record).split("\n")
    assert all(line.startswith("    ") and line.isprintable() for line in lines[1:])
    assert "forged" in json.loads(Formatter(as_json=True).format(record))["exception"]


def test_a_thread_that_work_is_handed_to_carries_its_ids() -> None:
    lines: list[str] = []
    with logging_of(Named(request_id="r1")):
        context = copy_context()
    thread = threading.Thread(target=lambda: lines.append(context.run(line_of, "in a thread")))
    thread.start()
    thread.join()
    assert json.loads(lines[0])["request_id"] == "r1"


def test_ids_are_taken_from_arguments_by_name_and_cut() -> None:
    assert ids_of_arguments({"job_id": "j", "replica_id": "r", "node_id": "n" * 99, "other": "o", "batch_id": None}) == {
        "job": "j",
        "replica": "r",
        "node": "n" * 64,
    }


def test_what_a_task_logs_carries_its_ids_and_what_comes_after_it_does_not() -> None:
    task = outbox_push
    task_prerun.send(sender=task, task_id="t1", task=task, args=(), kwargs={"job_id": "j1"})
    within = json.loads(line_of("within"))
    task_postrun.send(sender=task, task_id="t1", task=task, args=(), kwargs={}, retval=None, state="SUCCESS")
    assert (within["task"], within["task_id"], within["job"]) == ("control.outbox_push", "t1", "j1")
    assert "task" not in json.loads(line_of("after"))


@pytest.mark.django_db
def test_what_a_request_logs_carries_the_id_that_its_answer_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(Formatter(as_json=True))
    job = job_make()
    stranger = token_header(job_make().owner)
    response = Client().get(f"/api/v1/jobs/{job.pk}", headers=stranger)
    assert response.status_code == 404
    line = json.loads(caplog.text.splitlines()[-1])
    assert line["request_id"] == response["X-Request-Id"]
    assert line["job"] == str(job.pk)


PROXYS = "0123456789abcdef" * 2


async def test_the_proxys_id_is_taken_over_and_a_strangers_is_not() -> None:
    with override_settings(ALLAUTH_TRUSTED_PROXY_COUNT=1):
        believed = await AsyncClient().get("/healthz", headers={"X-Request-Id": PROXYS})
        malformed = await AsyncClient().get("/healthz", headers={"X-Request-Id": "one of mine"})
    alone = await AsyncClient().get("/healthz", headers={"X-Request-Id": PROXYS})
    assert believed["X-Request-Id"] == PROXYS
    assert malformed["X-Request-Id"] != "one of mine"
    assert alone["X-Request-Id"] not in {PROXYS, malformed["X-Request-Id"]}
