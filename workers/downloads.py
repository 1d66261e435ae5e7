"""Fetching a blob of the portal into a partial file, going on where an earlier try stopped, also one of a process that was killed.

What a partial file holds is never believed: it is hashed before the rest is asked for, and the whole must have the digest. When it
has not, the fault may be the old part's, so the blob is fetched once from its start before the portal's bytes are called wrong.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from workers.portal import PortalClient, PortalRefusedError
from workers.protocol.digests import DIGEST_PREFIX
from workers.protocol.messages.order import OrderInput

_READ_BYTES: Final = 2**20
_NO_SUCH_BYTES_STATUS: Final = 416


class DownloadMismatchError(Exception):
    """The portal gives other bytes than the order names."""


class DownloadCancelledError(Exception):
    """Given up on request; what has arrived stays in the partial file."""


def download(
    wanted: OrderInput, partial: Path, *, portal: PortalClient, cancel: threading.Event, arrived: Callable[[int], None] = lambda _: None
) -> None:
    """Make `partial` hold the input's bytes, verified and synced to disk; `arrived` is told how many there are.

    Raises DownloadMismatchError, DownloadCancelledError, PortalError (unreachable: call again and it goes on), OSError.
    """
    with partial.open("a+b") as file:
        part = _Part(file, wanted, portal, cancel, arrived)
        part.rehash()
        part.receive()
        if part.old_bytes and not part.whole:
            part.clear()
            part.receive()
        if not part.whole:
            raise DownloadMismatchError(
                f"The input {wanted.path} should be {wanted.size_bytes} bytes with {wanted.digest}; "
                f"found {'more' if part.size_bytes > wanted.size_bytes else part.size_bytes} bytes with {part.digest}."
            )
        file.flush()
        os.fsync(file.fileno())


class _Part:
    """A file, opened for appending, and the hash of what is in it."""

    def __init__(
        self, file: BinaryIO, wanted: OrderInput, portal: PortalClient, cancel: threading.Event, arrived: Callable[[int], None]
    ) -> None:
        self._file = file
        self._wanted = wanted
        self._portal = portal
        self._cancel = cancel
        self._arrived = arrived
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self.old_bytes = 0
        """Of these, how many an earlier try brought."""

    @property
    def digest(self) -> str:
        return DIGEST_PREFIX + self._sha256.hexdigest()

    @property
    def whole(self) -> bool:
        return (self.digest, self.size_bytes) == (self._wanted.digest, self._wanted.size_bytes)

    def rehash(self) -> None:
        """Take up what the file holds, unless that is too much already."""
        self._file.seek(0)
        while data := self._file.read(_READ_BYTES):
            if not self._count(data):
                self.clear()
                return
        self.old_bytes = self.size_bytes

    def receive(self) -> None:
        """Append what is missing, until the portal gives no more or too much."""
        if self.size_bytes == self._wanted.size_bytes:
            return
        try:
            with self._portal.blob(self._wanted.url, offset_bytes=self.size_bytes, digest=self._wanted.digest) as body:
                if body.offset_bytes != self.size_bytes:
                    self.clear()
                for chunk in body.chunks:
                    if not self._count(chunk):
                        return
                    self._file.write(chunk)
        except PortalRefusedError as error:
            if error.status != _NO_SUCH_BYTES_STATUS or not self.size_bytes:
                raise
            # The portal has less than what we hold already.
            self.clear()
            self.receive()

    def clear(self) -> None:
        """Begin anew."""
        self._file.truncate(0)
        self._sha256 = hashlib.sha256()
        self.size_bytes = self.old_bytes = 0

    def _count(self, data: bytes) -> bool:
        """Whether there are not more bytes now than wanted."""
        if self._cancel.is_set():
            raise DownloadCancelledError(f"Cancelled while {self._wanted.path} was fetched.")
        self._sha256.update(data)
        self.size_bytes += len(data)
        self._arrived(min(self.size_bytes, self._wanted.size_bytes))
        return self.size_bytes <= self._wanted.size_bytes
