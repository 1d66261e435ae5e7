"""The ZIP of a bundle: members that are missing, surplus, doubled, packed, too large; and bytes that are no bundle at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.bundle_file import MEMBERS_MAX
from client.verification import bundle_verify
from tests.client import bundle_parts as parts
from tests.client.bundle_parts import ALL_MEMBERS, PINNED, Members, refusal
from workers.protocol.bundles import INDEX_NAME, BundleInvalidError
from workers.protocol.compute_log import LINE_BYTES_MAX, LogRefusedError
from workers.protocol.errors import (
    VerificationError,
)


@pytest.mark.parametrize("name", [INDEX_NAME, *ALL_MEMBERS])
def test_member_removed_is_refused(tmp_path: Path, members: Members, name: str) -> None:
    rest = {each: data for each, data in members.items() if each != name}
    assert str(refusal(tmp_path, rest)).startswith(f"The bundle has no {name}")


@pytest.mark.parametrize("name", [INDEX_NAME, *ALL_MEMBERS])
def test_member_renamed_is_refused(tmp_path: Path, members: Members, name: str) -> None:
    renamed = {("x" + each if each == name else each): data for each, data in members.items()}
    assert isinstance(refusal(tmp_path, renamed), BundleInvalidError)


def test_surplus_member_is_refused(tmp_path: Path, members: Members) -> None:
    assert "belongs to no bundle" in str(refusal(tmp_path, parts.sealed({**members, "readme.txt": b"run me"})))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", [INDEX_NAME, "replica-1/archive.tar"])
def test_member_twice_is_refused(tmp_path: Path, members: Members, name: str) -> None:
    path = parts.zip_write(tmp_path / "b.zip", members)
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr(name, members[name])
    with pytest.raises(BundleInvalidError, match="same name"):
        bundle_verify(path, coordinator_key_id=PINNED)


@pytest.mark.parametrize("name", [INDEX_NAME, "replica-1/archive.tar", "replica-2/log.jsonl"])
def test_compressed_member_is_refused(tmp_path: Path, members: Members, name: str) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        for each, data in members.items():
            bundle.writestr(each, data, zipfile.ZIP_DEFLATED if each == name else zipfile.ZIP_STORED)
    with pytest.raises(BundleInvalidError, match="stored"):
        bundle_verify(path, coordinator_key_id=PINNED)


def test_member_that_only_says_that_it_is_compressed_is_refused(tmp_path: Path, members: Members) -> None:
    """Its sizes agree, so nothing but the method tells; no decompressor is to see these bytes."""
    path = parts.zip_write(tmp_path / "b.zip", members)
    data = bytearray(path.read_bytes())
    data[8] = data[data.index(b"PK\x01\x02") + 10] = zipfile.ZIP_DEFLATED
    path.write_bytes(data)
    with pytest.raises(BundleInvalidError, match="compressed or encrypted"):
        bundle_verify(path, coordinator_key_id=PINNED)


def test_encrypted_member_is_refused(tmp_path: Path, members: Members) -> None:
    data = bytearray(parts.zip_write(tmp_path / "b.zip", members).read_bytes())
    start = data.index(b"PK\x01\x02")
    data[start + 8] |= 1  # the first bit of the flags in the central directory
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(BundleInvalidError, match="compressed or encrypted"):
        bundle_verify(tmp_path / "b.zip", coordinator_key_id=PINNED)


def test_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(INDEX_NAME, b" " * 64 * 2**20)
    with pytest.raises(BundleInvalidError, match="stored"):
        bundle_verify(path, coordinator_key_id=PINNED)


def test_members_that_share_bytes_are_refused(tmp_path: Path, members: Members) -> None:
    """Sizes in the central directory that together exceed the file: one stretch of bytes would be read many times."""
    path = parts.zip_write(tmp_path / "b.zip", members)
    data = bytearray(path.read_bytes())
    size = len(data)
    start = data.index(b"PK\x01\x02")
    data[start + 20 : start + 28] = size.to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(BundleInvalidError, match="more bytes than the file"):
        bundle_verify(path, coordinator_key_id=PINNED)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalidError, match="at most"):
        bundle_verify(parts.zip_write(tmp_path / "b.zip", {str(n): b"" for n in range(MEMBERS_MAX + 1)}), coordinator_key_id=PINNED)


def test_oversized_envelope_is_refused(tmp_path: Path, members: Members) -> None:
    error = refusal(tmp_path, parts.sealed({**members, "replica-1/receipt.json": b"[" + b" " * (4 * 2**20)}))
    assert "at most" in str(error)


def test_log_of_one_endless_line_is_refused(tmp_path: Path, members: Members) -> None:
    error = refusal(tmp_path, parts.sealed({**members, "replica-1/log.jsonl": b"x" * (LINE_BYTES_MAX * 20)}))
    assert isinstance(error, LogRefusedError)
    held = int(str(error).split()[-1].rstrip("."))
    assert LINE_BYTES_MAX < held < 2 * LINE_BYTES_MAX


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalidError):
        bundle_verify(tmp_path / "none.zip", coordinator_key_id=PINNED)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=300))
def test_garbage_is_refused_with_the_documented_error(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "b.zip").write_bytes(garbage)
    with pytest.raises(BundleInvalidError):
        bundle_verify(tmp_path / "b.zip", coordinator_key_id=PINNED)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_zip_raises_nothing_else(tmp_path: Path, members: Members, data: st.DataObject) -> None:
    """Bytes changed anywhere in the ZIP, its own structure included, cut or doubled: refused, or (dates, say) without meaning."""
    whole = bytearray(parts.zip_write(tmp_path / "b.zip", members).read_bytes())
    directory = whole.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 4))):
        low = data.draw(st.sampled_from([0, directory]))
        whole[data.draw(st.integers(low, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 40))
    (tmp_path / "b.zip").write_bytes(whole[: len(whole) - cut])
    try:
        report = bundle_verify(tmp_path / "b.zip", coordinator_key_id=PINNED)
    except VerificationError:
        return
    assert report.job_id == str(parts.JOB_ID)
