"""Bytes that are sent piece by piece: under ASGI, Django would read a synchronous iterator to its end before it sends the first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO, Final, Self

from asgiref.sync import sync_to_async

CHUNK_BYTES: Final = 1024 * 1024


class SentChunks:
    """What a StreamingHttpResponse sends, each piece made in a thread when the one before is gone. The response closes it."""

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], object]) -> None:
        self._chunks = chunks
        self._close = close

    @classmethod
    def of_file(cls, file: BinaryIO) -> Self:
        """The bytes of `file`, which is closed with it."""
        return cls(file_chunks(file), file.close)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece = sync_to_async(lambda: next(self._chunks, b""))
        while chunk := await piece():
            yield chunk

    def close(self) -> None:
        self._close()


def file_chunks(file: BinaryIO) -> Iterator[bytes]:
    """What is left to read of `file`, in pieces of at most CHUNK_BYTES bytes, none of them empty."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
