"""Inputs of an order: fetched from the portal, believed by digest, kept in a cache by digest, up to a limit."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.backoff import Backoff
from workers.disk_full import is_disk_full
from workers.downloads import DownloadCancelledError, DownloadMismatchError, download
from workers.keyed_locks import KeyedLocks
from workers.portal import PortalClient, PortalInterruptedError, PortalRefusedError
from workers.protocol.digests import DIGEST_PREFIX, digest_parse
from workers.protocol.messages.order import OrderInput
from workers.protocol.messages.receipt import FailureCode
from workers.retrying import is_passing, portal_retry
from workers.transfers import Transfer, TransferProgress, transfers_run

LIMIT_BYTES_DEFAULT: Final = 10 * 2**30
_COPY_BYTES: Final = 2**20
_PARTIAL: Final = ".partial"


class InputFailedError(Exception):
    """An input cannot be had, or is not what the order says."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class InputCancelledError(Exception):
    """The run was cancelled while an input was on its way."""


class InputCache:
    """Files by digest in one folder, shared by all runs; `<digest>.partial` is half fetched, perhaps by an earlier process.

    Keeps at most `limit_bytes`, forgetting first what was not used for longest. One process at a time may use the folder; in it, whoever
    wants a digest that another thread is fetching waits for that one. No file is believed for its name: each is hashed as it is used.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES_DEFAULT, reserve_bytes: int = 0) -> None:
        """`reserve_bytes` stay free on the disk, for the machine itself."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._reserve_bytes = reserve_bytes
        self._locks = KeyedLocks()
        self.trim()

    def place(
        self,
        wanted: OrderInput,
        target: Path,
        *,
        portal: PortalClient,
        cancel: threading.Event,
        arrived: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Make `target` a file with the input's bytes, readable by anyone; fetches them unless they are cached.

        A disk that is full loses what else is cached, and only then fails the call, which leaves nothing half written.
        Raises InputFailedError, InputCancelledError, PortalError (try again, and it goes on where it stopped), OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        placing = _Placing(wanted, self._folder / digest_parse(wanted.digest), target, portal, cancel, arrived)
        with self._locks.held(placing.cached.name, cancel=cancel) as held:
            if not held:
                raise InputCancelledError(wanted.path)
            try:
                self._place(placing)
            except OSError:
                placing.partial.unlink(missing_ok=True)
                raise
        self.trim()

    def room_make(self, inputs: Sequence[OrderInput]) -> None:
        """Forget what stands in the way of placing all of these. Raises OSError, as a full disk does, where that is not enough."""
        self._folder.mkdir(parents=True, exist_ok=True)
        short_bytes = self._short_bytes(inputs)
        if short_bytes > 0:
            self.trim(room_bytes=short_bytes)
            # What was forgotten may have been of these.
            if self._short_bytes(inputs) > 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _short_bytes(self, inputs: Sequence[OrderInput]) -> int:
        """By how much the disk is too small: for each input's copy in its run, and for those that have to be fetched first."""
        placed_bytes = sum(wanted.size_bytes for wanted in inputs)
        absent = {wanted.digest: wanted for wanted in inputs if not (self._folder / digest_parse(wanted.digest)).exists()}
        fetched_bytes = sum(wanted.size_bytes for wanted in absent.values())
        return placed_bytes + fetched_bytes + self._reserve_bytes - shutil.disk_usage(self._folder).free

    def kept_bytes(self) -> int:
        """What the cache holds and could forget now."""
        return sum(size_bytes for _, size_bytes, _ in self._forgettable())

    def trim(self, *, room_bytes: int | None = None) -> int:
        """Forget what was not used for longest: what is beyond the limit, or (`room_bytes`) at least so much. The bytes forgotten."""
        found = sorted(self._forgettable())
        kept_bytes = sum(size_bytes for _, size_bytes, _ in found)
        excess_bytes = kept_bytes - self._limit_bytes if room_bytes is None else room_bytes
        forgotten_bytes = 0
        for _, size_bytes, path in found:
            if forgotten_bytes >= excess_bytes:
                break
            path.unlink(missing_ok=True)
            forgotten_bytes += size_bytes
        return forgotten_bytes

    def _forgettable(self) -> list[tuple[float, int, Path]]:
        """All files that no thread is about to use, with time of last use and size."""
        found = []
        for path in self._folder.glob("*"):
            if not self._locks.is_held(path.name.removesuffix(_PARTIAL)):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        return found

    def _place(self, placing: _Placing) -> None:
        try:
            placing.place()
        except OSError as error:
            if not is_disk_full(error) or not self.trim(room_bytes=2**63):
                raise
            placing.place()


@dataclass(frozen=True, slots=True)
class _Placing:
    """One input on its way to a run, by one thread, which holds the lock on its digest."""

    wanted: OrderInput
    cached: Path
    target: Path
    portal: PortalClient
    cancel: threading.Event
    arrived: Callable[[int], None]

    @property
    def partial(self) -> Path:
        return self.cached.with_name(self.cached.name + _PARTIAL)

    def place(self) -> None:
        if self.cached.exists() and self._copied(self.arrived):
            return
        self.cached.unlink(missing_ok=True)
        self._fetch()
        if not self._copied():
            message = f"The host's disk does not give the input {self.wanted.path} back as it was written."
            raise InputFailedError(FailureCode.HOST_DISK, message)

    def _copied(self, arrived: Callable[[int], None] = lambda _: None) -> bool:
        """Copy the cached file, hashing it on the way; whether it was the input. A copy, not a link: a run must not reach the cache."""
        sha256, size_bytes = hashlib.sha256(), 0
        try:
            with self.cached.open("rb") as source, self.target.open("wb") as copy:
                os.utime(source.fileno())
                while not self.cancel.is_set() and (data := source.read(_COPY_BYTES)):
                    sha256.update(data)
                    copy.write(data)
                    size_bytes += len(data)
                    arrived(min(size_bytes, self.wanted.size_bytes))
        except OSError:
            self.target.unlink(missing_ok=True)
            raise
        if self.cancel.is_set():
            raise InputCancelledError(self.wanted.path)
        if (DIGEST_PREFIX + sha256.hexdigest(), size_bytes) != (self.wanted.digest, self.wanted.size_bytes):
            self.target.unlink()
            return False
        self.target.chmod(0o644)
        return True

    def _fetch(self) -> None:
        if not self.portal.is_portal(self.wanted.url):
            message = f"The input {self.wanted.path} is not at {self.portal.origin}, and nothing is fetched from elsewhere."
            raise InputFailedError(FailureCode.INPUT_UNAVAILABLE, message)
        try:
            download(self.wanted, self.partial, portal=self.portal, cancel=self.cancel, arrived=self.arrived)
        except DownloadCancelledError as error:
            raise InputCancelledError(self.wanted.path) from error
        except DownloadMismatchError as error:
            self.partial.unlink(missing_ok=True)
            raise InputFailedError(FailureCode.INPUT_MISMATCH, str(error)) from error
        except PortalRefusedError as error:
            if is_passing(error):
                raise
            self.partial.unlink(missing_ok=True)
            raise InputFailedError(FailureCode.INPUT_UNAVAILABLE, f"The input {self.wanted.path} can't be fetched: {error}") from error
        self.partial.replace(self.cached)


def inputs_place(
    inputs: Sequence[OrderInput],
    folder: Path,
    *,
    cache: InputCache,
    portal: PortalClient,
    cancel: threading.Event,
    show: Callable[[float, str], None],
) -> None:
    """Place all inputs of an order under `folder`, several at a time, waiting out a portal that is away.

    `show` is told how far they have come. Raises InputFailedError, InputCancelledError, OSError; then none is on its way any more.
    """
    cache.room_make(inputs)
    progress = TransferProgress(sum(wanted.size_bytes for wanted in inputs), show)

    def transfer(wanted: OrderInput) -> Transfer:
        def carry(client: PortalClient, over: threading.Event) -> None:
            backoff, furthest_bytes = Backoff(), 0

            def arrived(size_bytes: int) -> None:
                nonlocal furthest_bytes
                if size_bytes > furthest_bytes:
                    # A connection that breaks again and again, but brings something each time, is no portal that is away.
                    furthest_bytes = size_bytes
                    backoff.worked()
                progress.at(wanted.path, size_bytes)

            def place() -> None:
                cache.place(wanted, folder / wanted.path, portal=client, cancel=over, arrived=arrived)

            portal_retry(place, stop=over, backoff=backoff)

        return Transfer(wanted.size_bytes, carry)

    try:
        transfers_run([transfer(wanted) for wanted in inputs], portal=portal, stop=cancel)
    except PortalInterruptedError as error:
        raise InputCancelledError("Cancelled while the inputs were fetched.") from error
