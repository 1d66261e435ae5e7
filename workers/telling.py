"""Which errors of a host's commands are for the contributor: one paragraph and exit status 1. Any other is a fault and keeps its trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from workers.benchmark import BenchmarkFailedError
from workers.home import HomeError
from workers.joining import JoinRefusedError
from workers.journal import JournalError
from workers.portal import PortalError
from workers.protocol.join_tokens import JoinTokenMalformedError
from workers.runtime.interface import RuntimeFailureError
from workers.worker_queues import QueuesRefusedError

Parameters = ParamSpec("Parameters")

_TELLABLE = (
    HomeError,
    JournalError,
    PortalError,
    JoinRefusedError,
    JoinTokenMalformedError,
    QueuesRefusedError,
    RuntimeFailureError,
    BenchmarkFailedError,
)


def told(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A command whose errors for the user end it with their message."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except _TELLABLE as error:
            raise click.ClickException(str(error)) from error
        except PermissionError as error:
            message = f"{error.filename} may not be used by this user. Run this as the user whose node it is, with the same NEXA_HOME."
            raise click.ClickException(message) from error

    return run
