"""Progress that a container tells on its standard output: a line `{"nexa_progress": 0.4, "stage": "annealing"}`."""

from __future__ import annotations

import json
from dataclasses import dataclass

LINE_BYTES_MAX = 4096
STAGE_CHARACTERS_MAX = 200
_MARK = b"nexa_progress"


@dataclass(frozen=True)
class Progress:
    """`fraction` is between 0 and 1."""

    fraction: float
    stage: str


class ProgressReader:
    """Reads progress out of a stream of bytes cut anywhere. Never raises: whatever is not such a line is output like any other."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> Progress | None:
        """The newest progress that these bytes complete, or None."""
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        newest = None
        if _MARK in whole:  # a flood of anything else is not worth cutting into lines
            lines = whole.split(b"\n")
            for line in lines[1:] if self._skipping else lines:
                newest = progress_parse(line) or newest
        self._skipping = self._skipping and not newline
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest, self._skipping = b"", True
        return newest


def progress_parse(line: bytes) -> Progress | None:
    """The progress that this line tells, or None if it tells none. Never raises."""
    if _MARK not in line or len(line) > LINE_BYTES_MAX:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fraction, stage = found.get("nexa_progress"), found.get("stage", "")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        return None
    # Stands in messages and on terminals: printable characters only.
    text = "".join(character for character in stage if character.isprintable()) if isinstance(stage, str) else ""
    return Progress(float(fraction), text[:STAGE_CHARACTERS_MAX])
