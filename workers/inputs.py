"""Inputs of an order: fetched from the portal, believed by digest, kept in a cache by digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path
from uuid import uuid4

from workers.portal import PortalClient, PortalProtocolError, PortalRefusedError
from workers.protocol.digests import DIGEST_PREFIX, digest_parse, digest_stream
from workers.protocol.messages import FailureCode, OrderInput


class InputFailedError(Exception):
    """An input cannot be had, or is not what the order says."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class InputCancelledError(Exception):
    """The run was cancelled while an input was on its way."""


class InputCache:
    """Files by digest in one folder, shared by all runs. A file under its final name has that digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, wanted: OrderInput, target: Path, *, portal: PortalClient, cancel: threading.Event) -> None:
        """Make `target` a file with the input's bytes, readable by anyone; fetches it unless it is cached.

        Raises InputFailedError, InputCancelledError, PortalUnreachableError (try again), OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        cached = self._folder / digest_parse(wanted.digest)
        if not self._whole(cached, wanted):
            self._fetch(wanted, cached, portal, cancel)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # A copy, not a link: what a container might do to it must not reach the next run.
        shutil.copyfile(cached, target)
        target.chmod(0o644)

    def _whole(self, cached: Path, wanted: OrderInput) -> bool:
        try:
            with cached.open("rb") as file:
                return digest_stream(file) == (wanted.digest, wanted.size_bytes)
        except FileNotFoundError:
            return False

    def _fetch(self, wanted: OrderInput, cached: Path, portal: PortalClient, cancel: threading.Event) -> None:
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
            partial.replace(cached)
        except (PortalRefusedError, PortalProtocolError) as error:
            raise InputFailedError(FailureCode.INPUT_UNAVAILABLE, f"The input {wanted.path} can't be fetched: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
