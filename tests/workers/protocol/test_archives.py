"""Archives: one form for one set of files; nothing else is read; nothing that a container leaves is followed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import socket
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.protocol.archives import (
    ArchiveLimits,
    ArchiveReader,
    ArchiveRefusedError,
    OutputRefusedError,
    archive_check,
    archive_write,
)
from workers.protocol.digests import digest_of
from workers.protocol.messages.receipt import Manifest, ManifestFile
from workers.protocol.tar_headers import END_OF_ARCHIVE, header_encode, manifest_encode, padding_bytes


def _files_make(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def _written(folder: Path, **kwargs: Any) -> tuple[bytes, Any]:
    out = io.BytesIO()
    info = archive_write(folder, out, **kwargs)
    return out.getvalue(), info


def _member(name: str, content: bytes) -> bytes:
    return header_encode(name, len(content)) + content + bytes(padding_bytes(len(content)))


def _archive(files: list[tuple[str, bytes]], listed: list[ManifestFile] | None = None) -> bytes:
    """An archive that the writer would never make: members and manifest as given."""
    if listed is None:
        listed = [ManifestFile(path=path, digest=digest_of(content), size_bytes=len(content)) for path, content in files]
    manifest = manifest_encode(Manifest.model_construct(files=tuple(listed)))
    members = b"".join(_member("outputs/" + path, content) for path, content in files)
    return members + _member("manifest.json", manifest) + END_OF_ARCHIVE


FILES = {"b.txt": b"two\n", "a/deep/x.bin": bytes(700), "a.txt": b"one\n", "a-b": b"", "é" * 40 + "/" + "n" * 120: b"long"}


def test_archive_of_given_files_has_the_published_digests(tmp_path: Path) -> None:
    data, info = _written(_files_make(tmp_path, FILES))
    assert info.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert info.digest == "sha256:6fef393e60875ecd9c240523c58c1b58a95c5927f50d5b5602535a81aa1e9f0b"
    assert info.result_digest == "sha256:a92761f784d57ec4fc6c9bf82b15c556288561ec56e7804e5913c5e3af449e2b"


def test_archive_with_other_times_modes_and_creation_order_is_the_same(tmp_path: Path) -> None:
    first = _files_make(tmp_path / "1", FILES)
    second = _files_make(tmp_path / "2", dict(reversed(FILES.items())))
    os.utime(second / "a.txt", (1, 1))
    (second / "b.txt").chmod(0o755)
    (second / "empty").mkdir()
    assert _written(first)[0] == _written(second)[0]


def test_archive_is_read_by_the_standard_library_as_written(tmp_path: Path) -> None:
    data, _ = _written(_files_make(tmp_path, FILES))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert names == [*sorted(names[:-1], key=lambda name: name.encode()), "manifest.json"]
    assert {f"outputs/{path}": content for path, content in FILES.items()}.items() <= contents.items()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-c][a-zé.\- ]{0,4}(/[d-f][a-z\-]{0,150}){0,1}", fullmatch=True), st.binary(max_size=1200), max_size=6)
)
def test_any_files_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("outputs")
    kept = {path: content for path, content in files.items() if not any(other.startswith(path + "/") for other in files)}
    data, info = _written(_files_make(folder, kept))
    reader = ArchiveReader(io.BytesIO(data))
    found = {}
    for member in reader:
        content = b""
        while part := member.read(100):
            content += part
        found[member.path] = content
    assert found == kept
    assert reader.info == info == archive_check(io.BytesIO(data))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_one_byte_is_refused(data: st.DataObject) -> None:
    good = bytearray(_archive([("a", b"xyz"), ("é/" + "n" * 110, b"12345")]))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ArchiveRefusedError):
        archive_check(io.BytesIO(bytes(good)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ArchiveRefusedError):
        archive_check(io.BytesIO(data))


@given(st.integers(0, 20))
def test_archive_cut_short_is_refused(part: int) -> None:
    good = _archive([("a", b"xyz"), ("b", bytes(600))])
    with pytest.raises(ArchiveRefusedError):
        archive_check(io.BytesIO(good[: len(good) * part // 21]))


def test_archive_followed_by_more_is_refused() -> None:
    with pytest.raises(ArchiveRefusedError, match="more bytes"):
        archive_check(io.BytesIO(_archive([("a", b"x")]) + b"\0"))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a\\b", "a\x01", "x" * 256], ids=lambda path: path[:8].encode().hex()
)
def test_member_that_could_leave_its_folder_is_refused(path: str) -> None:
    listed = [ManifestFile.model_construct(path=path, digest=digest_of(b"x"), size_bytes=1)]
    with pytest.raises(ArchiveRefusedError, match="relative path"):
        archive_check(io.BytesIO(_archive([(path, b"x")], listed)))


@pytest.mark.parametrize(
    "paths", [("a", "a"), ("A", "a"), ("a", "a/b"), ("A/x", "a/y"), ("b", "a"), ("e\u0301", "\u00e9"), ("STRASSE", "stra\u00dfe")]
)
def test_members_that_collide_or_do_not_ascend_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(ArchiveRefusedError, match=r"cannot both exist|must ascend"):
        archive_check(io.BytesIO(_archive([(path, b"x") for path in paths])))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"L", b"g"]
)
def test_member_that_is_no_regular_file_is_refused(kind: bytes) -> None:
    member = tarfile.TarInfo("outputs/a")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(ArchiveRefusedError, match="regular file"):
        archive_check(io.BytesIO(member.tobuf(tarfile.USTAR_FORMAT) + _archive([])))


@pytest.mark.parametrize(
    "records",
    [
        "22 GNU.sparse.major=1\n",
        "26 GNU.sparse.name=outputs\n",
        "24 GNU.sparse.map=0,1,9\n",
        "29 SCHILY.realsize=1099511627\n",
        "12 size=-1\n\n",
        "99 path=a\n",
        "17 linkpath=/etc\n",
        "16 path=outputs/a",
    ],
)
def test_pax_record_other_than_needed_is_refused(records: str) -> None:
    header = bytearray(header_encode("é", 1))
    header[512:1024] = records.encode().ljust(512, b"\0")
    with pytest.raises(ArchiveRefusedError):
        archive_check(io.BytesIO(bytes(header) + _archive([])))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_compressed_archive_is_refused_unread(pack: Callable[[bytes], bytes]) -> None:
    stream = io.BytesIO(pack(_archive([("a", bytes(2**20))])).ljust(4096, b"\0"))
    with pytest.raises(ArchiveRefusedError, match="canonical header"):
        archive_check(stream)
    assert stream.tell() == 512


@pytest.mark.parametrize(
    "field",
    [b"\x80" + bytes(10) + b"\1", b"\xff" * 12, b"-0000000001\0", b"00000000 1 \0", b"0x000000001\0", b"777777777777"],
    ids=["base 256", "negative base 256", "sign", "spaces", "hexadecimal", "no end"],
)
def test_size_in_any_other_notation_is_refused(field: bytes) -> None:
    header = bytearray(header_encode("outputs/a", 1))
    header[124:136] = field
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" "))
    with pytest.raises(ArchiveRefusedError, match="11 octal digits"):
        archive_check(io.BytesIO(bytes(header) + _member("x", b"")))


def test_file_that_claims_more_than_there_is_is_refused_without_memory_for_it() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefusedError, match="ends after"):
            archive_check(io.BytesIO(header_encode("outputs/a", 2**33) + bytes(1000)))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_member_behind_the_manifest_is_refused() -> None:
    listed = _listing(("a", b"x"))
    early = _member("outputs/a", b"x") + _member("manifest.json", manifest_encode(Manifest(files=tuple(listed))))
    with pytest.raises(ArchiveRefusedError, match="two zero blocks"):
        archive_check(io.BytesIO(early + _member("outputs/b", b"y") + END_OF_ARCHIVE))


def test_second_archive_behind_the_first_is_refused() -> None:
    with pytest.raises(ArchiveRefusedError, match="more bytes"):
        archive_check(io.BytesIO(_archive([("a", b"x")]) + _archive([("../b", b"y")], listed=[])))


@pytest.mark.parametrize("name", ["a\0b", "a/../../b", "outputs", "OUTPUTS/a", "Manifest.json", "./manifest.json", "/manifest.json"])
def test_name_that_only_looks_like_one_of_ours_is_refused(name: str) -> None:
    with pytest.raises(ArchiveRefusedError):
        archive_check(io.BytesIO(_member(name, b"") + _archive([])))


def test_pax_header_of_megabytes_is_refused_unread() -> None:
    header = bytearray(tarfile.TarInfo("././@PaxHeader").tobuf(tarfile.USTAR_FORMAT))
    header[156:157], header[124:136] = b"x", b"%011o\0" % 2**30
    with pytest.raises(ArchiveRefusedError, match="beyond any"):
        archive_check(io.BytesIO(bytes(header)))


def _listing(*files: tuple[str, bytes]) -> list[ManifestFile]:
    return [ManifestFile(path=path, digest=digest_of(content), size_bytes=len(content)) for path, content in files]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (_listing(), "lists 0 files"),
        (_listing(("a", b"x"), ("b", b"")), "lists 2 files"),
        (_listing(("a", b"xx")), "with 2 bytes"),
        (_listing(("a", b"y")), "lists 'a'"),
    ],
)
def test_manifest_that_differs_from_the_members_is_refused(listed: list[ManifestFile], message: str) -> None:
    with pytest.raises(ArchiveRefusedError, match=message):
        archive_check(io.BytesIO(_archive([("a", b"x")], listed)))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{}", "canonical JSON"),
        (b"\xff", "something else"),
        (b'{"files": [], "manifest_version": 1}', "not in canonical"),
        (bytes(9000), "bytes; found 9000"),
    ],
)
def test_manifest_that_is_not_canonical_is_refused(manifest: bytes, message: str) -> None:
    with pytest.raises(ArchiveRefusedError, match=message):
        archive_check(io.BytesIO(_member("manifest.json", manifest) + END_OF_ARCHIVE))


def test_member_of_another_name_is_refused() -> None:
    with pytest.raises(ArchiveRefusedError, match=r"outputs/"):
        archive_check(io.BytesIO(_member("README", b"") + _archive([])))


def test_archive_beyond_its_limits_is_refused_before_its_content_is_read() -> None:
    with pytest.raises(ArchiveRefusedError, match="at most 10 bytes"):
        archive_check(io.BytesIO(header_encode("outputs/bomb", 2**40)), limits=ArchiveLimits(content_bytes=10))
    with pytest.raises(ArchiveRefusedError, match="at most 1 files"):
        archive_check(io.BytesIO(_archive([("a", b""), ("b", b"")])), limits=ArchiveLimits(files=1))


def test_info_before_the_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="iterate"):
        ArchiveReader(io.BytesIO(b"")).info  # noqa: B018


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("symlink", lambda path: path.symlink_to("/etc/passwd")),
        ("symlink", lambda path: path.symlink_to("/etc", target_is_directory=True)),
        ("hard_link", lambda path: path.hardlink_to(path.parent / "plain")),
        ("fifo", os.mkfifo),
        ("socket", lambda path: socket.socket(socket.AF_UNIX).bind(str(path))),
        ("name", lambda path: Path(os.fsdecode(os.fsencode(path) + b"\xff")).touch()),
        ("name", lambda path: (path.parent / "a\nb").touch()),
        ("collision", lambda path: (path.parent / "PLAIN").touch()),
        ("too_large", lambda path: path.open("wb").truncate(2**40)),
        ("too_many", lambda path: [(path.parent / f"n{number}").touch() for number in range(101)]),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_output_that_no_archive_may_hold_is_refused(tmp_path: Path, reason: str, make: Any) -> None:
    (tmp_path / "plain").write_bytes(b"x")
    make(tmp_path / "trick")
    with pytest.raises(OutputRefusedError) as refused:
        archive_write(tmp_path, io.BytesIO(), limits=ArchiveLimits(content_bytes=2**30, files=100))
    assert refused.value.reason == reason


def test_output_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(bytes(10))

    class Growing(io.BytesIO):
        def write(self, data: Any) -> int:
            with (tmp_path / "plain").open("ab") as file:
                file.write(b"more")
            return super().write(data)

    with pytest.raises(OutputRefusedError) as refused:
        archive_write(tmp_path, Growing())
    assert refused.value.reason == "changed"


def test_writing_and_reading_64_mib_holds_few_of_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "big").touch()
    os.truncate(tmp_path / "in" / "big", 64 * 2**20)
    tracemalloc.start()
    try:
        with (tmp_path / "out").open("wb") as out:
            archive_write(tmp_path / "in", out)
        with (tmp_path / "out").open("rb") as stream:
            archive_check(stream)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
