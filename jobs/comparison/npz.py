"""NPZ files: a ZIP of NPY files, read with the library that NumPy reads them with, after its size was bounded.

Only what `numpy.savez` and `savez_compressed` write: distinct members `<name>.npy`, stored or deflated, without passwords and comments.
One member of each file is unpacked at a time.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Final

from jobs.comparison.npy import array_read, stored_compare
from jobs.comparison.reading import FILE_BYTES_MAX, FileUnreadableError
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule

MEMBERS_MAX: Final = 1000
UNPACKED_BYTES_MAX: Final = 4 * FILE_BYTES_MAX
"""Of all members together: what a small file may cost in time."""
NAME_CHARACTERS_MAX: Final = 200
_DIRECTORY_BYTES_MAX: Final = MEMBERS_MAX * (46 + NAME_CHARACTERS_MAX + 64)
_END = struct.Struct("<4s4H2LH")
_ENCRYPTED = 0x1
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    OverflowError,
)
"""What the library raises for bytes that are no ZIP; ValueError includes texts in a wrong encoding."""


def npz_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError. `rule.columns` are arrays."""
    first, second = NpzMembers(rule.path, one), NpzMembers(rule.path, other)
    for name in rule.columns:
        if not (name in first.names and name in second.names):
            raise FileUnreadableError(f"{rule.path}: expected the array {name!r} in both results.")
    for name in sorted(first.names ^ second.names):
        states = ["present" if name in side.names else "missing" for side in (first, second)]
        tally.disagrees(f"array {name}", *states)
    for name in sorted(first.names | second.names):
        _member_compare(rule, name, [side for side in (first, second) if name in side.names], tally)


def _member_compare(rule: FileRule, name: str, sides: list[NpzMembers], tally: Tally) -> None:
    """What only one side has is read all the same: whether the bytes can be read must not depend on the other's."""
    arrays = [array_read(f"{rule.path}: {name[:80]}", side.read(name)) for side in sides]
    if len(arrays) == 2:
        one, other = arrays
        stored_compare(one, other, tally, name=name, tolerance=rule.tolerance_of(name), fields={}, refuses_nan=rule.refuses_nan)


class NpzMembers:
    """The members of one NPZ by the names of their arrays. Raises FileUnreadableError."""

    def __init__(self, path: str, data: bytes) -> None:
        self._path = path
        self._directory_check(data)
        try:
            self._file = zipfile.ZipFile(io.BytesIO(data))
        except _ZIP_ERRORS as error:
            raise FileUnreadableError(f"{path}: expected a ZIP file; {error}.") from error
        members = self._file.infolist()
        for info in members:
            self._member_check(info)
        self._by_name = {info.filename.removesuffix(".npy"): info for info in members}
        if len(self._by_name) != len(members) or len(members) > MEMBERS_MAX:
            raise FileUnreadableError(f"{path}: expected at most {MEMBERS_MAX} arrays with distinct names; found {len(members)} members.")
        if (total := sum(info.file_size for info in members)) > UNPACKED_BYTES_MAX:
            raise FileUnreadableError(f"{path}: expected at most {UNPACKED_BYTES_MAX} bytes unpacked; found {total}.")
        self.unpacked_bytes = total
        self.names = frozenset(self._by_name)

    def read(self, name: str) -> bytes:
        """The bytes of the member; their checksum is checked. Unpacks no more than the directory says."""
        info = self._by_name[name]
        try:
            with self._file.open(info) as member:
                data = member.read(info.file_size + 1)
        except _ZIP_ERRORS as error:
            raise FileUnreadableError(f"{self._path}: the array {name[:80]!r} can't be unpacked; {error}.") from error
        if len(data) != info.file_size:
            raise FileUnreadableError(f"{self._path}: the array {name[:80]!r} has {len(data)} bytes; the directory says {info.file_size}.")
        return data

    def _directory_check(self, data: bytes) -> None:
        """The library reads the directory whole: that it is small is checked before."""
        if len(data) < _END.size:
            raise FileUnreadableError(f"{self._path}: expected a ZIP file; found {len(data)} bytes.")
        signature, _, _, _, entries, size, _, comment = _END.unpack(data[-_END.size :])
        if signature != b"PK\x05\x06" or comment or b"PK\x06\x07" in data[-_END.size - 20 : -_END.size]:
            raise FileUnreadableError(f"{self._path}: expected a plain ZIP file that ends with its directory; found something else.")
        if entries > MEMBERS_MAX or size > _DIRECTORY_BYTES_MAX:
            raise FileUnreadableError(f"{self._path}: expected at most {MEMBERS_MAX} members; the directory has {entries} in {size} bytes.")

    def _member_check(self, info: zipfile.ZipInfo) -> None:
        if not info.filename.endswith(".npy") or len(info.filename) > NAME_CHARACTERS_MAX or info.orig_filename != info.filename:
            raise FileUnreadableError(f"{self._path}: expected members named <array>.npy; found {info.filename[:80]!r}.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & _ENCRYPTED:
            raise FileUnreadableError(f"{self._path}: expected members that are stored or deflated, without a password.")
        if info.file_size > FILE_BYTES_MAX:
            raise FileUnreadableError(f"{self._path}: expected arrays of at most {FILE_BYTES_MAX} bytes; found {info.file_size}.")
