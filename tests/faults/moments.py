"""Named moments in the life of an order at which a host's process can be made to die, or to stand still: exactly there, once.

Armed in the process of a real worker (tests/faults/host_app.py). The functions named here do what they always do; before or after one of
them a look is taken at the file `moment` beside the node home. If it names this moment it is removed, and the process signals itself.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
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


def moment_file(home: Path) -> Path:
    """Where the next moment and signal are written for the worker on `home`."""
    return home.with_name(home.name + ".moment")


def moment_set(home: Path, name: str, signum: signal.Signals = signal.SIGKILL) -> Path:
    """Have the worker signal itself at a moment; the file that vanishes when it does."""
    assert name in MOMENTS
    file = moment_file(home)
    file.write_text(f"{name}\n{signum.value}")
    return file


def moments_arm(home: Path) -> None:
    """Watch for every moment in this process."""
    for name, moment in MOMENTS.items():
        module_name, _, path = moment.where.partition(":")
        *outer, function = path.split(".")
        owner: Any = importlib.import_module(module_name)
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, function, _watched(getattr(owner, function), name, moment, moment_file(home)))


def _watched(call: Callable[..., Any], name: str, moment: Moment, file: Path) -> Callable[..., Any]:
    calls = 0

    def look() -> None:
        nonlocal calls
        if not file.exists():
            return
        wanted, signum = file.read_text().splitlines()
        if wanted != name:
            return
        calls += 1
        if calls == moment.count:
            calls = 0
            file.unlink()
            os.kill(os.getpid(), int(signum))

    @functools.wraps(call)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if not moment.after:
            look()
        result = call(*args, **kwargs)
        if moment.after:
            look()
        return result

    return watched
