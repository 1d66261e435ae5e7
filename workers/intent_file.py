"""Where an intent is kept: `intent.json` in the node home, so that it outlives restarts and is heard by a worker in another process.

Written whether a worker runs or not; a running worker looks at it twice a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from workers.home import HomeDamagedError, HomeError
from workers.intent import Intent, IntentKind

_FILE: Final = "intent.json"


class HomeDrainedError(HomeError):
    """The contributor drained this node; no worker is to run on it until they say otherwise."""


def intent_read(home_folder: Path) -> Intent:
    """What was last told; to work, before anything was. Raises HomeDamagedError."""
    path = home_folder / _FILE
    try:
        return Intent.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Intent()
    except OSError as error:
        raise HomeDamagedError(f"{path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        raise HomeDamagedError(f"{path} is not what `nexa pause`, `resume` or `drain` wrote. Say it again: `nexa resume`.") from error


def intent_write(home_folder: Path, intent: Intent) -> None:
    """Tell the node; whole or not at all. A worker that runs hears it within a second. Raises HomeDamagedError."""
    path = home_folder / _FILE
    new = path.with_suffix(".new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(intent.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise HomeDamagedError(f"{path} can't be written: {error.strerror}. Are you the user whose node this is?") from error


def drained_check(home_folder: Path, *, owed: bool) -> None:
    """Return if a worker may start: a drained node stays stopped, unless it still owes something.

    Raises HomeDrainedError, HomeDamagedError.
    """
    intent = intent_read(home_folder)
    if intent.kind is IntentKind.DRAIN and not owed:
        since = f" on {intent.since.astimezone():%Y-%m-%d %H:%M}" if intent.since else ""
        raise HomeDrainedError(f"This node was drained{since} and stays stopped. Let it work again with `nexa resume`, then start it.")
