"""The beginning of a file as text or as hexadecimal bytes. Pure; never raises."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

TEXT_BYTES: Final = 256 * 1024
HEX_BYTES: Final = 1024
_ROW_BYTES: Final = 16
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters and those that turn the direction of writing: they could make a page say something else than the bytes do."""


@dataclass(frozen=True)
class TextHead:
    """`text`, of the first `shown_bytes` of a file."""

    text: str
    shown_bytes: int


def is_text(head: bytes) -> bool:
    """Whether the beginning of a file is UTF-8 without control characters; a character that is cut off at its end is fine."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None


def text_head(data: bytes) -> TextHead:
    """Bytes that are no UTF-8 are shown as U+FFFD, control characters as their code."""
    text = data[:TEXT_BYTES].decode("utf-8", "replace").replace("\r\n", "\n")
    return TextHead(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text), min(len(data), TEXT_BYTES))


def hex_head(data: bytes) -> TextHead:
    """Offset, 16 bytes and their ASCII, a line each."""
    head = data[:HEX_BYTES]
    lines = []
    for offset in range(0, len(head), _ROW_BYTES):
        row = head[offset : offset + _ROW_BYTES]
        ascii_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{offset:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {ascii_}")
    return TextHead("\n".join(lines), len(head))
