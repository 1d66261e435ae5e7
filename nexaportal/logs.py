"""What a line of the log says beside its words: of which request or task it is, of which job, replica and node. As JSON, or for people.

The ids come from where the work began (a request, a task), not from each call that logs: whatever is logged meanwhile, also in threads
that the work was handed to, carries them. Strangers choose parts of what is logged: no character of theirs ends a line or moves a cursor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from celery.signals import task_postrun, task_prerun
from django.http import HttpRequest

_ID_NAMES: Final = {"job_id": "job", "replica_id": "replica", "node_id": "node", "batch_id": "batch"}
"""Arguments of views and tasks, and what they are in a line."""
_ID_CHARACTERS: Final = 64
ORIGIN_OF_REQUEST: Final = "nexapod.origin"
"""Where a request's META has its origin."""


class Origin(Protocol):
    """Where a piece of work began."""

    def ids(self) -> Mapping[str, str]:
        """What is known of it by now."""


_origin: ContextVar[Origin | None] = ContextVar("nexa_log_origin", default=None)


@contextmanager
def logging_of(origin: Origin) -> Iterator[None]:
    """What is logged within carries the ids of `origin`, as they are then."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def ids_of_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The ids among a view's or a task's arguments."""
    return {shown: str(arguments[name])[:_ID_CHARACTERS] for name, shown in _ID_NAMES.items() if arguments.get(name)}


class Formatter(logging.Formatter):
    """The one formatter. `as_json` False: a line for people, with the ids behind it."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        origin = _origin.get() or _origin_of(record)
        ids = dict(origin.ids()) if origin else {}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            document = {"time": at, "level": record.levelname, "logger": record.name, "message": message, **ids}
            return json.dumps({**document, "exception": trace} if trace else document)  # ASCII: what else there is, is escaped
        words = " ".join([at, record.levelname, record.name, _plain(message), *(f"{name}={_plain(value)}" for name, value in ids.items())])
        # A traceback is of our own lines, but for its last, which is an exception's words: each is its own line, indented.
        return "\n".join([words, *(f"    {_plain(line)}" for line in trace.splitlines())])


class TaskOrigin:
    """A task's run."""

    def __init__(self, name: str, task_id: str, arguments: Mapping[str, Any]) -> None:
        self._ids = {"task": name, "task_id": task_id, **ids_of_arguments(arguments)}

    def ids(self) -> Mapping[str, str]:
        return self._ids


def task_logs_start() -> None:
    """From here on what a Celery worker of this process logs in a task carries the task's ids."""

    def begin(task_id: str, task: Any, kwargs: Mapping[str, Any], **_: Any) -> None:
        _origin.set(TaskOrigin(task.name, task_id, kwargs))

    def end(**_: Any) -> None:
        _origin.set(None)

    task_prerun.connect(begin, weak=False, dispatch_uid="nexaportal.logs")
    task_postrun.connect(end, weak=False, dispatch_uid="nexaportal.logs")


def _origin_of(record: logging.LogRecord) -> Origin | None:
    """Django logs what came of a request when its middleware is through, and names the request."""
    request = getattr(record, "request", None)
    origin: Origin | None = request.META.get(ORIGIN_OF_REQUEST) if isinstance(request, HttpRequest) else None
    return origin


def _plain(text: str) -> str:
    """Every character that is not to be printed, as its escape."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)
