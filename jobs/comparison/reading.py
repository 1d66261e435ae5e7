"""What every reader of strangers' files shares: the error, the size limit, and lines of bounded length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

from workers.protocol.errors import VerificationError

FILE_BYTES_MAX: Final = 64 * 2**20
"""Of each file, and of each array of an NPZ. Readers hold the bytes and a bounded part of what they spell; docs/adr/0019-comparators.md has
the figures for time and memory behind this."""

LINE_CHARACTERS_MAX: Final = 2**20
"""A row is split into cells of tens of bytes each: its length bounds what it takes."""
LINES_MAX: Final = 8_000_000
"""In a file of FILE_BYTES_MAX they have 8 bytes each; very short lines cost much time for their bytes."""


class FileUnreadableError(VerificationError):
    """A file is not what its name or the rules say, or too large to compare."""

    code = "output_unreadable"


def text_lines(path: str, data: bytes, *, newline: str | None = None) -> Iterator[str]:
    """The lines of a UTF-8 text with their ends, one at a time; a byte order mark is skipped. `newline` as `open` has it.

    Raises FileUnreadableError, also for a line that is too long and for too many.
    """
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=newline)
    count = 0
    try:
        while line := stream.readline(LINE_CHARACTERS_MAX + 1):
            count += 1
            if len(line) > LINE_CHARACTERS_MAX:
                raise FileUnreadableError(f"{path}: expected lines of at most {LINE_CHARACTERS_MAX} characters; found a longer one.")
            if count > LINES_MAX:
                raise FileUnreadableError(f"{path}: expected at most {LINES_MAX} lines; found more.")
            yield line
    except UnicodeDecodeError as error:
        raise FileUnreadableError(f"{path}: expected UTF-8 text; {error.reason}.") from error
