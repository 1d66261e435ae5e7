"""Whether bytes are an image that may be served, and its size. Only the headers are read. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from workers.protocol.errors import VerificationError

IMAGE_BYTES_MAX: Final = 16 * 2**20
PIXELS_MAX: Final = 50_000_000
"""The viewer's browser unpacks 4 bytes a pixel."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a start of frame (ITU-T T.81, table B.1)."""
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN: Final = 0xDA


class ImageUnshowableError(VerificationError):
    """Not an image that is shown here, or too large."""

    code = "image_unshowable"


@dataclass(frozen=True)
class ImageHeader:
    """What is served as `media_type`, and the pixels that it unpacks to."""

    media_type: str
    width: int
    height: int


def image_type(head: bytes) -> str | None:
    """The media type that the first bytes stand for, of those that may be served."""
    if head.startswith(_PNG):
        return "image/png"
    return "image/jpeg" if head.startswith(_JPEG) else None


def image_read(path: str, data: bytes) -> ImageHeader:
    """The header of a PNG or JPEG. Raises ImageUnshowableError."""
    media_type = image_type(data)
    size = _png_size(data) if media_type == "image/png" else _jpeg_size(data) if media_type == "image/jpeg" else None
    if media_type is None or size is None:
        raise ImageUnshowableError(
            f"{path}: expected a PNG or JPEG with its size in its header; found something else. Download it to look at it."
        )
    width, height = size
    if not 0 < width * height <= PIXELS_MAX:
        raise ImageUnshowableError(
            f"{path}: expected an image of 1 to {PIXELS_MAX} pixels; found {width} by {height}. Download it to look at it."
        )
    return ImageHeader(media_type, width, height)


def _png_size(data: bytes) -> tuple[int, int] | None:
    """IHDR is the first chunk (PNG, section 5.6)."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Of the first start of frame before the first scan."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        elif marker == _JPEG_SCAN:
            return None
        else:
            length = int.from_bytes(data[place + 2 : place + 4], "big")
            place += 2 + max(length, 2)
    return None
