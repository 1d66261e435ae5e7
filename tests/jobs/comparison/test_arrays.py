"""NPY and NPZ files: types, orders, shapes, places; and files that lie about themselves."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from typing import Any

import numpy as np
import pytest

from jobs.comparison import FILE_BYTES_MAX, FileUnreadableError
from jobs.comparison.comparators import files_compare
from jobs.comparison.npy import array_read
from jobs.comparison.npz import MEMBERS_MAX, UNPACKED_BYTES_MAX
from jobs.comparison.rules import EXACTLY, Tolerance
from jobs.descriptor.formats import NanPolicy
from tests.jobs.comparison.sides import LOOSE, agree, compared, npy, npz, rule_of

RULE = rule_of("a.npy")
RECORD = np.dtype([("t", "<i4"), ("x", "<f8", (2,)), ("in", [("y", "<f4")])])
NAN = float("nan")


def header(descr: object, shape: object, *, fortran: object = False, version: tuple[int, int] = (1, 0), text: str = "") -> bytes:
    """An NPY header that says whatever one likes."""
    body = (text or f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}").encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(body)) + body


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0], [1.25, 2.0], True),
        ([1.0, 2.0], [2.0, 2.0], False),
        ([NAN, 1.0], [NAN, 1.0], True),
        ([NAN], [0.0], False),
        ([np.inf], [np.inf], True),
        ([np.inf], [-np.inf], False),
        ([1e308], [-1e308], False),
        (np.float16(1), np.float16(1.25), True),
        (np.float32(1), np.float32(2), False),
        (np.float32(1), np.float64(1), False),
        ([1], [1.0], False),
        (np.int8(-128), np.int8(127), False),
        (np.uint64(2**64 - 1), np.uint64(2**64 - 2), True),
        ([1 + 1j], [1 + 1.25j], True),
        ([1 + 1j], [1 + 2j], False),
        ([complex(NAN, 1)], [complex(NAN, 1)], True),
        ([complex(NAN, 1)], [complex(NAN, 1.1)], False),
        ([complex(1e308, 1e308)], [complex(1e308, 1e308 - 1e300)], True),
        ([True], [True], True),
        ([True], [False], False),
        (["ab"], ["ab"], True),
        (["ab"], ["ac"], False),
        ([b"ab"], [b"ac"], False),
        (np.array(["2026-01-01", "NaT"], "M8[s]"), np.array(["2026-01-01", "NaT"], "M8[s]"), True),
        (np.array([1], "m8[s]"), np.array([2], "m8[s]"), False),
        (np.array([1], "m8[s]"), np.array([1], "m8[ms]"), False),
        (np.void(b"abc"), np.void(b"abd"), False),
        (1.0, 1.25, True),
        (1.0, [1.0], False),
        ([], [], True),
        (np.empty((0, 3)), np.empty((3, 0)), False),
        (np.empty((2, 0, 3)), np.empty((2, 0, 3)), True),
        ([[1, 2], [3, 4]], [[1, 3], [2, 4]], False),
    ],
)
def test_array(one: Any, other: Any, expected: bool) -> None:
    assert agree(RULE, npy(one), npy(other)) is expected


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i2", "i8", "u4", "c8", "c16", "U3", "S3", "M8[us]"])
def test_byte_order_and_memory_order_do_not_count(kind: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype("U3" if kind[0] in "US" else "i8").astype(f"<{kind}")
    shapes = [values, values.astype(f">{kind}"), np.asfortranarray(values), np.asfortranarray(values.astype(f">{kind}"))]
    for one in shapes:
        for other in shapes:
            found = compared(rule_of("a.npy", EXACTLY), npy(one), npy(other))
            assert (found.compared, found.exceeding, found.worst) == (24, 0, None)


@pytest.mark.parametrize("order", ["CC", "FF", "CF"])
def test_worst_has_an_index_in_any_memory_order(order: str) -> None:
    one = np.zeros((3, 4, 5))
    other = one.copy()
    other[0, 1, 2], other[2, 3, 1] = 0.25, 5.0
    found = compared(RULE, npy(np.array(one, order=order[0])), npy(np.array(other, order=order[1])))  # type: ignore[call-overload]
    assert (found.compared, found.exceeding) == (60, 1)
    assert found.worst is not None
    assert (found.worst.place, found.worst.difference, found.worst.allowed) == ("[2, 3, 1]", 5.0, 0.55)


def test_worst_is_found_in_any_block() -> None:
    one = np.zeros(200_000)
    other = one.copy()
    other[[3, 150_000, 199_999]] = 1, 3, 2
    found = compared(RULE, npy(one), npy(other))
    assert found.worst is not None
    assert (found.worst.place, found.exceeding) == ("[150000]", 3)


@pytest.mark.parametrize("kind", ["i8", "u8"])
def test_integers_beyond_doubles_are_told_apart(kind: str) -> None:
    one = np.array([2**62], kind)
    found = compared(rule_of("a.npy", EXACTLY), npy(one), npy(one + one.dtype.type(1)))
    assert found.worst is not None
    assert (found.worst.difference, found.exceeding) == (1.0, 1)
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    found = compared(RULE, npy(np.array([least], kind)), npy(np.array([most], kind)))
    assert found.worst is not None
    assert found.worst.difference == float(most - least)


def test_nan_agrees_with_nothing_where_it_is_refused() -> None:
    refusing = rule_of("a.npy", nan=NanPolicy.REFUSE)
    for values in ([1.0, NAN], [1j, complex(NAN, 0)], np.array([(1, (NAN, 1), (0,))], RECORD)):
        found = compared(refusing, npy(values), npy(values))
        assert found.exceeding == 1
    assert agree(refusing, npy([1.0, np.inf]), npy([1.0, np.inf]))


def test_fields_are_columns() -> None:
    one = np.array([(1, (1, 2), (3,)), (2, (3, 4), (5,))], RECORD)
    other = one.copy()
    other["x"][1, 0] = 53
    other["in"]["y"][0] = 3.25
    assert agree(rule_of("a.npy", LOOSE, {"x": Tolerance(absolute=100)}), npy(one), npy(other))
    found = compared(RULE, npy(one), npy(other))
    assert found.worst is not None
    assert (found.worst.place, found.worst.difference, found.compared) == ("[1].x[0]", 50.0, 8)
    other["x"] = one["x"]
    found = compared(rule_of("a.npy", EXACTLY), npy(one), npy(other))
    assert found.worst is not None
    assert found.worst.place == "[0].in.y"


def test_inner_fields_do_not_take_the_tolerance_of_an_outer_one() -> None:
    kind = np.dtype([("a", "<f8"), ("b", [("a", "<f8")])])
    one, other = np.array([(1, (1,))], kind), np.array([(1, (9,))], kind)
    assert not agree(rule_of("a.npy", LOOSE, {"a": Tolerance(absolute=100)}), npy(one), npy(other))


def test_padding_between_fields_is_not_compared() -> None:
    kind = np.dtype([("a", "i1"), ("b", "<f8")], align=True)
    data = npy(np.zeros(2, kind))
    assert agree(rule_of("a.npy", EXACTLY), data, data[:-12] + b"\xff\xff\xff\xff" + data[-8:])


@pytest.mark.parametrize("data", [npy([1.0]), npy(np.zeros(1, [("t", "<f8")]))])
def test_field_that_is_not_there_is_unreadable(data: bytes) -> None:
    with pytest.raises(FileUnreadableError, match="expected an array with the field 'x'"):
        compared(rule_of("a.npy", columns={"x": LOOSE}), data, data)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "values",
    [np.arange(6.0).reshape(2, 3), np.float32(1), np.zeros(3, RECORD), np.array(["ä", "b"]), np.array([b"x"]), np.array([1], "M8[25us]"),
     np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros(2, [("name with spaces, and: more", "<f8")]),
     np.zeros(2, np.dtype([("a", "i1"), ("b", "<f8")], align=True))],
)  # fmt: skip
def test_what_numpy_writes_is_read(values: Any, version: tuple[int, int]) -> None:
    found = array_read("a.npy", npy(values, version=version))
    assert found.items.dtype == np.asanyarray(values).dtype
    assert found.shape == np.shape(values)
    assert np.array_equal(found.items.reshape(found.shape, order="F" if found.fortran_order else "C"), values)


BAD_FILES = {
    "empty": b"",
    "no magic": b"PNG" + bytes(20),
    "magic only": b"\x93NUMPY",
    "version": header("<f8", (), version=(4, 0)) + bytes(8),
    "header longer than the file": b"\x93NUMPY\x01\x00\xff\xff{",
    "huge header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "pickle": npy(np.array([{}], dtype=object)),
    "object in a record": header([("a", "|O")], (0,)),
    "object, sized": header("|O8", (0,)),
    "long double": header("<f16", (0,)),
    "platform's long": header("l", (0,)),
    "no bytes": header("|S0", (10**18,)),
    "record of no bytes": header([], (10**18,)),
    "huge item": header("|V9999999", (0,)),
    "huge field": header([("a", "<f8", (2**20,))], (0,)),
    "field without size": header([("a", "<f8", (0,))], (3,)),
    "huge shape": header("<f8", (2**62, 2**62)) + bytes(8),
    "shape beyond the bytes": header("<f8", (3,)) + bytes(16),
    "bytes beyond the shape": header("<f8", (1,)) + bytes(16),
    "negative": header("<f8", (-1,)),
    "two negatives": header("<f8", (-1, -1)) + bytes(8),
    "shape of floats": header("<f8", (1.0,)) + bytes(8),
    "shape of truths": header("<f8", (True,)) + bytes(8),
    "shape is a number": header("<f8", 1) + bytes(8),
    "33 dimensions": header("<f8", (1,) * 33) + bytes(8),
    "order": header("<f8", (1,), fortran="yes") + bytes(8),
    "array in a type": header(("<f8", (2,)), (1,)) + bytes(16),
    "field twice": header([("a", "<f8"), ("a", "<f8")], (1,)) + bytes(16),
    "field without a name": header([("", "<f8")], (1,)) + bytes(8),
    "field without a type": header([("a",)], (1,)) + bytes(8),
    "deep": header("", (), text="{'descr': " + "[('a', " * 50 + "'<f8'" + ")]" * 50 + ", 'fortran_order': False, 'shape': ()}") + bytes(8),
    "brackets": header("", (), text="(" * 10_000),
    "code": header("", (), text="__import__('os').abort()"),
    "missing": header("", (), text="{'descr': '<f8', 'shape': ()}") + bytes(8),
    "more": header("", (), text="{'descr': '<f8', 'fortran_order': False, 'shape': (), 'x': 1}") + bytes(8),
    "twice": header("", (), text="{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': ()}") + bytes(8),
    "after": header("", (), text="{'descr': '<f8', 'fortran_order': False, 'shape': ()} 1") + bytes(8),
    "escapes": header("", (), text="{'descr': '\\x3cf8', 'fortran_order': False, 'shape': ()}") + bytes(8),
    "not UTF-8": b"\x93NUMPY\x03\x00\x02\x00\x00\x00\xff\xfe",
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_file_that_is_no_plain_array_is_unreadable_on_either_side(case: str) -> None:
    for one, other in ((BAD_FILES[case], npy([1.0])), (npy([1.0]), BAD_FILES[case])):
        with pytest.raises(FileUnreadableError) as caught:
            files_compare(RULE, one, other)
        assert caught.value.code == "output_unreadable"


def test_texts_with_code_points_that_do_not_exist_are_compared_all_the_same() -> None:
    one, other = header("<U1", (1,)) + b"\xff\xff\xff\xff", header("<U1", (1,)) + b"\xff\xff\xff\xfe"
    assert agree(RULE, one, one)
    assert not agree(RULE, one, other)


@pytest.mark.parametrize(
    ("kind", "signalling"),
    [
        ("<f2", b"\x01\x7c"),
        ("<f4", b"\x01\x00\x80\x7f"),
        (">f8", b"\x7f\xf0" + bytes(5) + b"\x01"),
        ("<c8", b"\x00\x00\x80\x3f\x01\x00\x80\x7f"),
        ("<c16", bytes(8) + b"\x01" + bytes(5) + b"\xf0\x7f"),
    ],
)
def test_signalling_nan_is_nan_and_gives_no_warning(kind: str, signalling: bytes) -> None:
    data = header(kind, (40,)) + signalling * 40
    assert agree(RULE, data, data)
    assert not agree(RULE, data, npy(np.ones(40, kind)))
    assert not agree(rule_of("a.npy", nan=NanPolicy.REFUSE), data, data)


def test_arrays_of_an_npz_are_columns() -> None:
    rule = rule_of("a.npz", LOOSE, {"x": Tolerance(absolute=100)})
    assert agree(rule, npz(t=[1.0], x=[1.0]), npz(compress=True, x=[50.0], t=[1.25]))
    found = compared(rule_of("a.npz"), npz(t=[1.0, 2.0], x=[[1.0]]), npz(t=[1.0, 2.0], x=[[50.0]]))
    assert found.worst is not None
    assert (found.worst.place, found.compared, found.exceeding) == ("x[0, 0]", 3, 1)


def test_arrays_that_one_npz_lacks_differ() -> None:
    found = compared(rule_of("a.npz"), npz(t=[1.0]), npz(t=[1.0], x=[1.0]))
    assert found.worst is not None
    assert (found.worst.place, found.worst.one, found.worst.other) == ("array x", "missing", "present")
    assert compared(rule_of("a.npz"), npz(t=[1.0]), npz(t=[[1.0]])).exceeding == 1
    with pytest.raises(FileUnreadableError, match="expected the array 'x'"):
        compared(rule_of("a.npz", columns={"x": LOOSE}), npz(t=[1.0]), npz(t=[1.0], x=[1.0]))


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
        file.comment = comment
    return stream.getvalue()


FINE = zipped(("a.npy", npy([1.0])))
BAD_ZIPS = {
    "empty": b"",
    "no zip": b"x" * 100,
    "no array": zipped(("a.npy", b"hello")),
    "pickle": zipped(("a.npy", npy(np.array([{}], dtype=object)))),
    "another name": zipped(("a.txt", npy([1.0]))),
    "long name": zipped(("a" * 300 + ".npy", npy([1.0]))),
    "method": zipped(("a.npy", npy([1.0])), method=zipfile.ZIP_LZMA),
    "comment": zipped(("a.npy", npy([1.0])), comment=b"hello"),
    "cut": FINE[:-30] + FINE[-22:],
    "encrypted": FINE.replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x01\x00\x00\x00"),
    "checksum": FINE.replace(struct.pack("<d", 1.0), struct.pack("<d", 2.0)),
    "many": zipped(*((f"{number}.npy", npy(1.0)) for number in range(MEMBERS_MAX + 1))),
    "claims a huge size": FINE.replace(struct.pack("<L", len(npy([1.0]))), struct.pack("<L", 2**31)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", [*BAD_ZIPS, "twice"])
def test_zip_that_is_no_npz_is_unreadable_on_either_side(case: str) -> None:
    data = zipped(("a.npy", npy([1.0])), ("a.npy", npy([1.0]))) if case == "twice" else BAD_ZIPS[case]
    for one, other in ((data, FINE), (FINE, data)):
        with pytest.raises(FileUnreadableError) as caught:
            files_compare(rule_of("a.npz"), one, other)
        assert caught.value.code == "output_unreadable"


def test_zip_bombs_are_refused_before_they_are_unpacked() -> None:
    half = npy(np.zeros(FILE_BYTES_MAX // 2 - 128, np.uint8))
    large = zipped(("a.npy", half + half + b"0"), method=zipfile.ZIP_DEFLATED)
    assert len(large) < len(half) // 500
    several = zipped(*((f"{number}.npy", half) for number in range(2)), method=zipfile.ZIP_DEFLATED)
    for name in range(2, 9):  # as many members of the same bytes
        several = _member_again(several, f"{name}.npy")
    started = time.process_time()
    for data, limit in ((large, FILE_BYTES_MAX), (several, UNPACKED_BYTES_MAX)):
        with pytest.raises(FileUnreadableError, match=rf"at most {limit} bytes"):
            files_compare(rule_of("a.npz"), data, data)
    assert time.process_time() - started < 1


def _member_again(data: bytes, name: str) -> bytes:
    """`data` with one more entry in its directory, for the bytes of the first member: a bomb whose members overlap."""
    start = data.index(b"PK\x01\x02")
    entry = data[start : start + 46 + len(name)]
    entry = entry[:46] + name.encode()
    end = bytearray(data[-22:])
    entries, size = struct.unpack_from("<HL", end, 10)
    struct.pack_into("<HHL", end, 8, entries + 1, entries + 1, size + len(entry))
    return data[:-22] + entry + bytes(end)


def test_directory_that_is_larger_than_its_count_says_is_refused_before_it_is_read() -> None:
    data = bytearray(zipped(*((f"{number}.npy", b"") for number in range(10_000))))
    data[-22 + 8 : -22 + 12] = struct.pack("<HH", 1, 1)
    with pytest.raises(FileUnreadableError, match=f"at most {MEMBERS_MAX} members"):
        files_compare(rule_of("a.npz"), bytes(data), bytes(data))
