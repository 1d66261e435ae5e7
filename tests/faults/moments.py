"""Named moments at which a process can be made to die, or to stand still: exactly there, once.

Armed in the process of a real worker or portal. The functions named here do what they always do; before or after one of them a look is
taken at a file. If it names this moment it is removed, and the process signals itself, or its whole group: a worker with its pool.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Moment:
    """Before, or after, the `count`-th call of a function: `module:Class.function` or `module:function`."""

    where: str
    after: bool = False
    count: int = 1


MOMENTS = {
    "before the start": Moment("workers.execution:Executor._receipt_make"),
    "before the fetch": Moment("workers.order_run:OrderRun._prepare"),
    "container created": Moment("workers.runtime.container_run:ContainerRun.start_and_follow"),
    "while running": Moment("workers.run_recorder:RunRecorder.on_output"),
    "exited, unknown": Moment("workers.run_recorder:RunRecorder.on_end"),
    "exited, known": Moment("workers.run_recorder:RunRecorder.on_end", after=True),
    "while packing": Moment("workers.order_run:file_sync"),
    "receipt signed": Moment("workers.journal:Journal.lease_finished", after=True),
    "middle of an upload": Moment("workers.portal:PortalClient.upload_append", count=3),
    "before the receipt": Moment("workers.portal:PortalClient.receipt_submit"),
    "after the receipt": Moment("workers.portal:PortalClient.receipt_submit", after=True),
}
"""In the life of an order, on a host."""


def moment_file(home: Path) -> Path:
    """Where the next moment and signal are written for the worker on `home`."""
    return home.with_name(home.name + ".moment")


def moment_set(home: Path, name: str, signum: signal.Signals = signal.SIGKILL) -> Path:
    """Have the worker signal itself at a moment; the file that vanishes when it does."""
    assert name in MOMENTS
    return moment_write(moment_file(home), name, signum)


def moment_write(file: Path, name: str, signum: signal.Signals, *, group: bool = False) -> Path:
    """Whole at once: those who look at it never find half of it."""
    building = file.with_suffix(".new")
    building.write_text(f"{name}\n{signum.value}\n{int(group)}")
    return building.rename(file)


def moment_resolve(name: str, moment: Moment) -> tuple[Any, str]:
    """What has the function, and the function's name there. Raises LookupError, naming the moment."""
    module_name, _, path = moment.where.partition(":")
    *outer, function = path.split(".")
    try:
        owner: Any = importlib.import_module(module_name)
        for part in outer:
            owner = getattr(owner, part)
        getattr(owner, function)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"the moment {name!r} is at {moment.where}, which is not there: find where it is now, and say so") from error
    return owner, function


def moments_arm(moments: Mapping[str, Moment], file: Path) -> None:
    """Watch for every moment in this process."""
    for name, moment in moments.items():
        owner, function = moment_resolve(name, moment)
        setattr(owner, function, _watched(getattr(owner, function), name, moment, file))


def _watched(call: Callable[..., Any], name: str, moment: Moment, file: Path) -> Callable[..., Any]:
    calls = 0

    def look() -> None:
        nonlocal calls
        try:
            wanted, signum, group = file.read_text().splitlines()
        except FileNotFoundError:
            return
        if wanted != name:
            return
        calls += 1
        if calls == moment.count:
            calls = 0
            file.unlink()
            (os.killpg if int(group) else os.kill)(os.getpgrp() if int(group) else os.getpid(), int(signum))

    @functools.wraps(call)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if not moment.after:
            look()
        result = call(*args, **kwargs)
        if moment.after:
            look()
        return result

    return watched
