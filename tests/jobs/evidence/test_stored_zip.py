"""ZIPs that are made while they are sent, as other readers of ZIPs see them."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evidence.stored_zip import Member, MemberSizeError, zip_chunks, zip_size_bytes

NAMES = st.text("abcdefghijklmnopqrstuvwxyz/-.0123456789", min_size=1, max_size=40)


def member(name: str, *chunks: bytes) -> Member:
    return Member(name, sum(map(len, chunks)), lambda: iter(chunks))


@given(st.dictionaries(NAMES, st.lists(st.binary(max_size=300), max_size=4), max_size=6))
def test_the_standard_library_reads_what_was_put_in_and_the_length_is_as_announced(files: dict[str, list[bytes]]) -> None:
    members = [member(name, *chunks) for name, chunks in files.items()]
    data = b"".join(zip_chunks(members))
    assert len(data) == zip_size_bytes(members)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == {name: b"".join(chunks) for name, chunks in files.items()}
        assert all(info.compress_type == zipfile.ZIP_STORED and info.date_time == (1980, 1, 1, 0, 0, 0) for info in read.infolist())


def test_another_program_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"".join(zip_chunks([member("one/two.txt", b"2" * 70_000), member("three", b"")])))
    subprocess.run(["unzip", "-q", "a.zip"], cwd=tmp_path, check=True)
    assert (tmp_path / "one/two.txt").read_bytes() == b"2" * 70_000
    assert (tmp_path / "three").read_bytes() == b""


def test_nothing_is_read_before_its_turn() -> None:
    asked: list[str] = []

    def chunks(name: str) -> Iterator[bytes]:
        asked.append(name)
        yield b"x"

    sent = zip_chunks([Member("a", 1, lambda: chunks("a")), Member("b", 1, lambda: chunks("b"))])
    next(sent)
    assert asked == []
    next(sent)
    assert asked == ["a"]


@pytest.mark.parametrize("found", [b"", b"12", b"1234"])
def test_a_member_of_another_length_than_announced_is_told(found: bytes) -> None:
    with pytest.raises(MemberSizeError, match=rf"Expected 3 bytes of a, found {len(found)}\."):
        list(zip_chunks([Member("a", 3, lambda: [found])]))


def test_sizes_and_offsets_beyond_32_bits_are_read(tmp_path: Path) -> None:
    """4.5 GiB of holes: the file takes no room where the file system knows holes."""
    size_bytes = 4_500 * 2**20
    zeros = bytes(16 * 2**20)
    holes = (zeros[: size_bytes - at] for at in range(0, size_bytes, len(zeros)))
    members = [Member("large", size_bytes, lambda: holes), member("after", b"it")]
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        for chunk in zip_chunks(members):
            file.seek(len(chunk), 1) if chunk == zeros else file.write(chunk)
    assert path.stat().st_size == zip_size_bytes(members)
    with zipfile.ZipFile(path) as read:
        assert (read.getinfo("large").file_size, read.read("after")) == (size_bytes, b"it")
        assert read.getinfo("after").header_offset > 2**32
