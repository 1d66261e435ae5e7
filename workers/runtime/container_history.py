"""What a Docker engine remembers of a container's run: when it began, and whose doing its end was.

An engine that stops, like a person with `docker stop`, ends a container in ways that look like its own: with exit code 137, or with 0 where
the program takes SIGTERM for a wish. The engine's event log tells them apart: it notes each signal that it passed on. It also notes that
the kernel killed a process for its memory, at times too late for the container's state, which is written when the container ends. It keeps
its newest events only, in memory, so an engine that was restarted, or whose machine was, remembers nothing.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import docker
import psutil
from docker.utils.json_stream import json_stream

from workers.runtime.cgroups import cgroup_of

log = logging.getLogger(__name__)

_SIGNALLED_EXIT_CODE: Final = 128
_SIGNALLED_SECONDS: Final = 1.0
_UNSIGNALLED_SECONDS: Final = 0.1
_AHEAD_SECONDS_MAX: Final = 5.0
"""An engine whose clock is further ahead is not asked: it would answer when that time has come here too."""
_BEFORE_END_SECONDS: Final = 60.0
"""Longer than whoever stops a container waits between its signals."""
_ANSWER_SECONDS: Final = 15.0
"""Longer than an engine waits that is asked for events up to a moment from now."""
_DIED: Final = frozenset({"die", "died"})
"""Docker's word and Podman's."""


@dataclass(frozen=True, slots=True)
class EndHistory:
    """What an engine noted of a container's end. `is_signalled`: it passed a signal on, as it does to all of them when it shuts down."""

    is_signalled: bool
    is_seen: bool
    is_out_of_memory: bool

    @property
    def is_own(self) -> bool:
        """Whether the engine has seen the container end by itself."""
        return self.is_seen and not self.is_signalled


def end_history(client: docker.APIClient, container_id: str, state: dict[str, Any], *, is_past: bool = False) -> EndHistory:
    """Of a container that has ended, whose inspected `State` this is; `is_past`: some time ago. Raises what the client raises."""
    # The engine notes a signal after it was sent, and a container may be gone by then. One that no signal ended is not waited for long.
    is_patient = is_past or int(state["ExitCode"]) >= _SIGNALLED_EXIT_CODE
    seen = _events(client, container_id, state, slack_seconds=_SIGNALLED_SECONDS if is_patient else _UNSIGNALLED_SECONDS)
    return EndHistory("kill" in seen, not _DIED.isdisjoint(seen), "oom" in seen)


def seconds_running(state: dict[str, Any], container_id: str) -> float:
    """How long a container has run: by its first process's start, which no setting of the clock moves, else by the engine's clock."""
    pid = int(state.get("Pid") or 0)
    if cgroup_of(pid, container_id) is not None:  # else the engine's process numbers mean nothing here
        with suppress(psutil.Error):
            return max(0.0, time.time() - psutil.Process(pid).create_time())
    started = time_of(state, "StartedAt")
    return 0.0 if started is None else max(0.0, (datetime.now(UTC) - started).total_seconds())


def time_of(state: dict[str, Any], name: str) -> datetime | None:
    """A time of an inspected container; None for one that has not come yet, which engines write as year 1."""
    try:
        found = datetime.fromisoformat(str(state.get(name, "")))
    except ValueError:
        return None
    return found if found.year > 1 and found.tzinfo is not None else None


def _events(client: docker.APIClient, container_id: str, state: dict[str, Any], *, slack_seconds: float) -> set[str]:
    """What happened to the container from its start until so long after its end, of signals, kills for memory, and words for the end.

    Times are the engine's, whose clock may be another machine's: it would wait for one that has not come yet. An end can lie before its
    start, where the clock was set back meanwhile or the container was gone before its start was written down: asked for such a span, an
    engine refuses, so it is asked for the time before the end.
    """
    started, finished = (time_of(state, name) for name in ("StartedAt", "FinishedAt"))
    if started is None or finished is None or finished.timestamp() > time.time() + _AHEAD_SECONDS_MAX:
        return set()
    since = started if started <= finished else finished - timedelta(seconds=_BEFORE_END_SECONDS)
    asked = {
        "since": f"{since.timestamp():.6f}",
        "until": f"{finished.timestamp() + slack_seconds:.6f}",
        "filters": json.dumps({"container": [container_id], "event": ["kill", "oom", *sorted(_DIED)]}),
    }
    # Not by the SDK's own call, which waits without a limit for an engine that hangs.
    answer = client.get(f"{client.base_url}/v{client.api_version}/events", params=asked, timeout=_ANSWER_SECONDS)
    if HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        # It would say so the next time too: as one that remembers nothing.
        log.warning("the container engine does not tell how container %s ended: %s", container_id[:12], answer.text[:200])
        return set()
    answer.raise_for_status()
    return {str(event.get("Action") or event.get("status")) for event in json_stream(iter([answer.text])) if isinstance(event, dict)}
