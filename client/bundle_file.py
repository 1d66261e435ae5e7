"""The ZIP of a result bundle, read without believing it: members that are named once, stored as they are, and no others.

Only `zipfile`'s reading of the central directory is trusted to find bytes; what the bytes mean, and whether they are the right ones, is
client/verification.py's to say. Nothing but BundleInvalidError leaves this module.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from workers.protocol.bundles import REPLICAS_MAX, BundleInvalidError

MEMBERS_MAX: Final = 4 * REPLICAS_MAX + 2
_ENCRYPTED: Final = 0x1

# What zipfile raises for bytes that are no ZIP is no one family. ValueError: names that are no text; OSError: seeks before the start.
_UNREADABLE = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, struct.error, OSError)


class BundleFile:
    """An open bundle. Use as a context manager. Does not look at what members hold."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        with self._problems_told():
            self._zip = zipfile.ZipFile(path)
        try:
            self._members = self._members_check(path.stat().st_size)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> frozenset[str]:
        """The names of all members."""
        return frozenset(self._members)

    def names_check(self, expected: Iterable[str]) -> None:
        """Return if the members are exactly these."""
        wanted = frozenset(expected)
        if missing := sorted(wanted - self.names):
            raise BundleInvalidError(f"The bundle has no {missing[0]}.")
        if surplus := sorted(self.names - wanted):
            raise BundleInvalidError(f"The bundle holds {surplus[0][:100]!r}, which belongs to no bundle of these replicas.")

    def read(self, name: str, *, limit_bytes: int) -> bytes:
        """The whole of a member that has at most `limit_bytes`."""
        with self.opened(name) as member:
            data = member.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise BundleInvalidError(f"Expected at most {limit_bytes} bytes in {name}; found more.")
        return data

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A member as a binary stream; its reads raise BundleInvalidError too while the block lasts."""
        info = self._members.get(name)
        if info is None:
            raise BundleInvalidError(f"The bundle has no {name}.")
        with self._problems_told(), self._zip.open(info) as member:
            yield cast("BinaryIO", member)

    def _members_check(self, file_bytes: int) -> dict[str, zipfile.ZipInfo]:
        found = self._zip.infolist()
        if len(found) > MEMBERS_MAX:
            raise BundleInvalidError(f"Expected at most {MEMBERS_MAX} members; found {len(found)}.")
        members = {info.filename: info for info in found}
        if len(members) != len(found):
            raise BundleInvalidError("Two members of the bundle have the same name.")
        for info in found:
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED or info.compress_size != info.file_size:
                raise BundleInvalidError(f"{info.filename[:100]!r} is compressed or encrypted; members of a bundle are stored.")
        # Members that share bytes would let a small file unfold into a large one.
        if sum(info.file_size for info in found) > file_bytes:
            raise BundleInvalidError(f"The members say that they have more bytes than the file's {file_bytes}.")
        return members

    @contextmanager
    def _problems_told(self) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise BundleInvalidError(f"{self._name} is not a readable bundle: {error}.") from error
