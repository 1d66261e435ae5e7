"""Bytes that strangers wrote, as answers that no browser runs: attachments under a sandbox that allows nothing, of no type of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header

from jobs.results.images import ImageHeader

_READ_BYTES: Final = 1024 * 1024
_CAGE: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


def bytes_response(stream: BinaryIO, *, name: str, offset_bytes: int, size_bytes: int) -> StreamingHttpResponse:
    """A part of `stream`, which the response closes, as a download called `name`."""
    headers = {
        **_CAGE,
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size_bytes),
        "Content-Disposition": content_disposition_header(as_attachment=True, filename=name) or "attachment",
    }
    return StreamingHttpResponse(_Part(stream, offset_bytes, size_bytes), headers=headers)


def image_response(header: ImageHeader, data: bytes) -> HttpResponse:
    """An image, of the type that its first bytes showed."""
    return HttpResponse(data, headers={**_CAGE, "Content-Type": header.media_type, "Content-Disposition": "inline"})


class _Part:
    """Bytes of a file, asynchronously. The response that has it closes it, also when nobody reads."""

    def __init__(self, stream: BinaryIO, offset_bytes: int, size_bytes: int) -> None:
        self._stream, self._offset_bytes, self._size_bytes = stream, offset_bytes, size_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            await sync_to_async(self._stream.seek)(self._offset_bytes)
            left = self._size_bytes
            while left > 0 and (chunk := await sync_to_async(self._stream.read)(min(_READ_BYTES, left))):
                left -= len(chunk)
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        self._stream.close()
