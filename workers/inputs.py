"""Inputs of an order: fetched from the portal, believed by digest, kept in a cache by digest, up to a limit."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from workers.portal import PortalClient, PortalProtocolError, PortalRefusedError
from workers.protocol.digests import DIGEST_PREFIX, digest_parse, digest_stream
from workers.protocol.messages import FailureCode, OrderInput

LIMIT_BYTES_DEFAULT = 10 * 2**30
_COPY_BYTES = 2**20


class InputFailedError(Exception):
    """An input cannot be had, or is not what the order says."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class InputCancelledError(Exception):
    """The run was cancelled while an input was on its way."""


class InputCache:
    """Files by digest in one folder, shared by all runs. A file under its final name has that digest.

    Keeps at most `limit_bytes`, forgetting first what was not used for longest. Made once by the process that holds the home: whatever
    is half fetched then was an earlier one's, and goes.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES_DEFAULT) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        for partial in folder.glob(".*"):
            partial.unlink(missing_ok=True)

    def place(self, wanted: OrderInput, target: Path, *, portal: PortalClient, cancel: threading.Event) -> None:
        """Make `target` a file with the input's bytes, readable by anyone; fetches it unless it is cached.

        Raises InputFailedError, InputCancelledError, PortalUnreachableError (try again), OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        cached = self._folder / digest_parse(wanted.digest)
        # Open from check to copy: another run may make room meanwhile.
        source = self._whole(cached, wanted) or self._fetch(wanted, cached, portal, cancel)
        with source:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            # A copy, not a link: what a container might do to it must not reach the next run.
            with target.open("wb") as copy:
                shutil.copyfileobj(source, copy, _COPY_BYTES)
        target.chmod(0o644)
        self._trim()

    def _whole(self, cached: Path, wanted: OrderInput) -> BinaryIO | None:
        try:
            file = cached.open("rb")
        except FileNotFoundError:
            return None
        if digest_stream(file) != (wanted.digest, wanted.size_bytes):
            file.close()
            return None
        os.utime(file.fileno())
        file.seek(0)
        return file

    def _trim(self) -> None:
        found = []
        for path in self._folder.glob("[!.]*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        left_bytes = sum(size_bytes for _, size_bytes, _ in found)
        for _, size_bytes, path in sorted(found):
            if left_bytes <= self._limit_bytes:
                break
            path.unlink(missing_ok=True)
            left_bytes -= size_bytes

    def _fetch(self, wanted: OrderInput, cached: Path, portal: PortalClient, cancel: threading.Event) -> BinaryIO:
        partial = cached.with_name(f".{cached.name}.{uuid4().hex}")
        sha256, size_bytes = hashlib.sha256(), 0
        try:
            with portal.blob(wanted.url) as chunks, partial.open("xb") as file:
                for chunk in chunks:
                    if cancel.is_set():
                        raise InputCancelledError(wanted.path)
                    size_bytes += len(chunk)
                    if size_bytes > wanted.size_bytes:
                        break
                    sha256.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            found = DIGEST_PREFIX + sha256.hexdigest()
            if (found, size_bytes) != (wanted.digest, wanted.size_bytes):
                raise InputFailedError(
                    FailureCode.INPUT_MISMATCH,
                    f"The input {wanted.path} should be {wanted.size_bytes} bytes with {wanted.digest}; "
                    f"found {'more' if size_bytes > wanted.size_bytes else size_bytes} bytes with {found}.",
                )
            source = partial.open("rb")
            partial.replace(cached)
        except (PortalRefusedError, PortalProtocolError) as error:
            raise InputFailedError(FailureCode.INPUT_UNAVAILABLE, f"The input {wanted.path} can't be fetched: {error}") from error
        else:
            return source
        finally:
            partial.unlink(missing_ok=True)
