"""The log as a whole: what is served against what is signed, and against what was seen before."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.audit.auditing import log_audit
from client.audit.errors import AbsentError, CoordinatorWrongError, MemoryUnusableError, SourceError
from client.audit.findings import FindingCode
from client.audit.folder_source import FolderSource
from client.audit.last_run import Memory
from client.audit.tree import TiledTree
from tests.client.audit.conftest import Audit
from tests.factories.logs import COORDINATOR, LOG, ORIGIN, LogFolder, LogMaker, log_make, log_write
from workers.protocol.canonical import canonical_json
from workers.protocol.errors import CheckpointMalformedError, KeyWrongError, SignatureInvalidError
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import tree_root
from workers.protocol.messages.joining import PredecessorKey
from workers.protocol.signed_note import Checkpoint, note_sign
from workers.protocol.succession import Succession, succession_sign
from workers.protocol.tlog_tiles import TILE_WIDTH

SUCCESSOR = PrivateKey.from_raw(b"\x32" * 32)


def long_log(leaves: int) -> list[bytes]:
    """Grants, `leaves` of them."""
    log = LogMaker()
    for _ in range(leaves):
        log.grant(log.uuid(), 1)
    return [canonical_json(leaf) for leaf in log.leaves]


class _AuthorityFolder(FolderSource):
    """Files, as if a portal served them."""

    authority: Any = "portal.example:443"


# --- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 66_000])
def test_the_tiled_tree_has_the_root_of_rfc_9162(size: int) -> None:
    leaves = [number.to_bytes(32, "big") for number in range(size)]
    done: list[tuple[int, int, int]] = []
    tree = TiledTree(lambda level, index, hashes: done.append((level, index, len(hashes))))
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == tree_root(leaves)
    assert [place for place in done if place[0] == 0] == [(0, index, TILE_WIDTH) for index in range(size // 256)]
    assert [place for place in done if place[0] == 1] == [(1, index, TILE_WIDTH) for index in range(size // 65_536)]
    edge = {level: (index, len(hashes)) for level, index, hashes in tree.edge()}
    assert edge.get(0) == ((size // 256, size % 256) if size % 256 else None)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_a_log_of_many_tiles_is_clean(audit: Audit, size: int) -> None:
    report = audit(long_log(size))
    assert report.is_clean, report.findings.kept
    assert report.size == report.counts.entries == size


def test_a_log_without_leaves_is_clean(audit: Audit) -> None:
    assert audit([]).is_clean


def test_the_partial_tiles_may_have_become_full_ones(audit: Audit, tmp_path: Path) -> None:
    leaves = long_log(512)
    folder = log_write(tmp_path / "log", leaves[:300])
    note = (folder.folder / "ledger/checkpoint").read_bytes()
    folder.append(leaves[300:])
    folder.sign()
    folder.write("ledger/checkpoint", note)
    for partial in (folder.folder / "ledger").rglob("*.p"):
        if partial.parent.name in {"0", "entries"}:
            for file in partial.iterdir():
                file.unlink()
    report = audit(folder.folder)
    assert report.is_clean, report.findings.kept
    assert report.size == 300


# --- what is served, and what was signed ------------------------------------------------------------------------------


def bundle_change(folder: Path, leaves: list[bytes]) -> None:
    path = folder / "ledger/tile/entries/000"
    path.write_bytes(b"".join(len(one).to_bytes(2, "big") + one for one in leaves))


def test_an_entry_altered_under_an_old_signature(audit: Audit, tmp_path: Path) -> None:
    leaves = long_log(300)
    folder = log_write(tmp_path / "log", leaves).folder
    bundle_change(folder, [*leaves[:17], leaves[17].replace(b'"1"', b'"2"'), *leaves[18:256]])
    report = audit(folder)
    assert {FindingCode.LOG_ROOT_WRONG, FindingCode.TILE_WRONG} <= set(report.findings.counts)
    assert [one.leaf for one in report.findings.kept if one.code == FindingCode.TILE_WRONG and one.leaf is not None] == [17]


def test_entries_reordered_under_an_old_signature(audit: Audit, tmp_path: Path) -> None:
    leaves = long_log(300)
    folder = log_write(tmp_path / "log", leaves).folder
    bundle_change(folder, [leaves[1], leaves[0], *leaves[2:256]])
    assert FindingCode.LOG_ROOT_WRONG in audit(folder).findings.counts


@pytest.mark.parametrize("change", ["short", "cut", "long", "gone"])
def test_a_bundle_that_is_not_whole(audit: Audit, tmp_path: Path, change: str) -> None:
    leaves = long_log(300)
    folder = log_write(tmp_path / "log", leaves).folder
    path = folder / "ledger/tile/entries/000"
    match change:
        case "short":
            bundle_change(folder, leaves[:255])
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "long":
            bundle_change(folder, leaves[:257])
        case _:
            path.unlink()
    report = audit(folder)
    [finding] = report.findings.kept
    assert (finding.code, finding.leaf) == (FindingCode.LOG_INCOMPLETE, 0)
    assert Memory(folder / "none").load(LOG) is None


@pytest.mark.parametrize(("tile", "leaf"), [("0/000", 3), ("0/001.p/44", 259), ("1/000.p/1", None)])
def test_a_hash_tile_that_is_not_that_of_the_leaves(audit: Audit, tmp_path: Path, tile: str, leaf: int | None) -> None:
    folder = log_write(tmp_path / "log", long_log(300)).folder
    path = folder / "ledger/tile" / tile
    data = bytearray(path.read_bytes())
    data[min(100, len(data) - 1)] ^= 1
    path.write_bytes(data)
    [finding] = audit(folder).findings.kept
    assert (finding.code, finding.leaf) == (FindingCode.TILE_WRONG, leaf)


@pytest.mark.parametrize("tile", ["0/000", "1/000.p/1"])
def test_a_hash_tile_that_is_missing(audit: Audit, tmp_path: Path, tile: str) -> None:
    folder = log_write(tmp_path / "log", long_log(300)).folder
    (folder / "ledger/tile" / tile).unlink()
    [finding] = audit(folder).findings.kept
    assert finding.code == FindingCode.LOG_INCOMPLETE


def test_a_hash_tile_that_is_too_short(audit: Audit, tmp_path: Path) -> None:
    folder = log_write(tmp_path / "log", long_log(300)).folder
    path = folder / "ledger/tile/0/000"
    path.write_bytes(path.read_bytes()[:40])
    [finding] = audit(folder).findings.kept
    assert (finding.code, finding.leaf) == (FindingCode.TILE_WRONG, 1)


def test_a_checkpoint_signed_by_another_key(audit: Audit, tmp_path: Path) -> None:
    folder = log_write(tmp_path / "log", long_log(3))
    text = Checkpoint(LOG, 3, bytes(32)).to_text()
    folder.write("ledger/checkpoint", note_sign(text, LOG, SUCCESSOR))
    with pytest.raises(KeyWrongError):
        audit(folder.folder)


def test_a_checkpoint_whose_text_was_changed(audit: Audit, tmp_path: Path) -> None:
    folder = log_write(tmp_path / "log", long_log(3))
    note = (folder.folder / "ledger/checkpoint").read_bytes()
    folder.write("ledger/checkpoint", note.replace(b"\n3\n", b"\n2\n"))
    with pytest.raises(SignatureInvalidError):
        audit(folder.folder)


def test_a_checkpoint_of_another_log(audit: Audit, tmp_path: Path) -> None:
    folder = log_write(tmp_path / "log", long_log(3))
    folder.write(
        "ledger/checkpoint", note_sign(Checkpoint("other.example/ledger", 3, bytes(32)).to_text(), "other.example/ledger", COORDINATOR)
    )
    with pytest.raises(KeyWrongError, match="no signature"):
        audit(folder.folder)


def test_a_checkpoint_that_names_another_log_under_a_signature_for_this_one(audit: Audit, tmp_path: Path) -> None:
    folder = log_write(tmp_path / "log", long_log(3))
    folder.write("ledger/checkpoint", note_sign(Checkpoint("other.example/ledger", 3, bytes(32)).to_text(), LOG, COORDINATOR))
    with pytest.raises(CheckpointMalformedError, match=r"other\.example"):
        audit(folder.folder)


def test_a_log_without_a_checkpoint_is_not_audited(audit: Audit, tmp_path: Path) -> None:
    folder = LogFolder(tmp_path / "log").folder
    with pytest.raises(AbsentError, match="checkpoint"):
        audit(folder)


# --- whose log --------------------------------------------------------------------------------------------------------


def succeeded(folder: Path, leaves: list[bytes], *, by: PrivateKey = COORDINATOR) -> LogFolder:
    """A log of SUCCESSOR, which COORDINATOR named."""
    statement = Succession(origin=ORIGIN, successor=SUCCESSOR.public.to_base64(), issued_at=datetime(2027, 1, 15, tzinfo=UTC))
    before = PredecessorKey(public_key=COORDINATOR.public.to_base64(), succession=json.loads(succession_sign(statement, key=by)))
    log = LogFolder(folder, key=SUCCESSOR, predecessors=(before,))
    log.append(leaves)
    log.sign()
    return log


def test_the_successor_of_the_pinned_key_is_believed(audit: Audit, tmp_path: Path) -> None:
    report = audit(succeeded(tmp_path / "log", long_log(3)).folder, pinned=COORDINATOR.public.key_id)
    assert report.is_clean
    assert report.coordinator_key_id == SUCCESSOR.public.key_id


def test_a_checkpoint_of_the_key_before_is_believed_by_who_pinned_that_and_not_by_who_pinned_the_next(audit: Audit, tmp_path: Path) -> None:
    log = succeeded(tmp_path / "log", long_log(3))
    note = (log.folder / "ledger/checkpoint").read_bytes()
    text = note.decode().split("\n\n")[0] + "\n"
    log.write("ledger/checkpoint", note_sign(text, LOG, COORDINATOR))
    assert audit(log.folder, pinned=COORDINATOR.public.key_id).is_clean
    with pytest.raises(KeyWrongError):
        audit(log.folder, pinned=SUCCESSOR.public.key_id)


def test_a_note_by_both_keys_is_read_by_who_pinned_either(tmp_path: Path) -> None:
    log = succeeded(tmp_path / "log", long_log(3))
    text = (log.folder / "ledger/checkpoint").read_bytes().decode().split("\n\n")[0] + "\n"
    log.write("ledger/checkpoint", note_sign(text, LOG, SUCCESSOR, COORDINATOR))
    for number, key in enumerate((COORDINATOR, SUCCESSOR)):
        memory, work = Memory(tmp_path / f"state-{number}"), tmp_path / f"work-{number}"
        work.mkdir()
        assert log_audit(FolderSource(log.folder), pinned=key.public.key_id, memory=memory, folder=work).is_clean
        last = memory.load(LOG)
        assert last is not None
        assert last.key == SUCCESSOR.public, "the newest key that signed is the one to go on from"


def test_a_succession_that_the_key_before_never_signed(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="coordinator"):
        audit(succeeded(tmp_path / "log", long_log(3), by=SUCCESSOR).folder)


def test_another_coordinator_than_the_pinned_one(audit: Audit) -> None:
    with pytest.raises(CoordinatorWrongError, match="sha256:ab"):
        audit(long_log(1), pinned="sha256:" + "ab" * 32)


def test_the_first_audit_without_a_pin_says_so_and_pins(audit: Audit, tmp_path: Path) -> None:
    report = audit(long_log(2), pinned=None)
    [warning] = report.findings.warnings
    assert COORDINATOR.public.key_id in warning
    assert report.is_clean
    assert audit(long_log(3), pinned=None).findings.warnings == []
    with pytest.raises(CoordinatorWrongError):
        audit(log_write(tmp_path / "other", long_log(3), key=SUCCESSOR).folder, pinned=None)


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", b'{"protocol_versions":[1],"origin":"portal","public_key":"","key_id":""}'])
def test_a_coordinator_that_does_not_say_who_it_is(audit: Audit, tmp_path: Path, document: bytes) -> None:
    folder = log_write(tmp_path / "log", long_log(1))
    folder.write("coordinator", document)
    with pytest.raises(SourceError, match="coordinator"):
        audit(folder.folder)


def test_a_portal_that_says_that_it_is_another(tmp_path: Path, memory: Memory) -> None:
    """Else it could show another history under another name, and the last run would not be found."""
    source = _AuthorityFolder(log_write(tmp_path / "log", long_log(1)).folder)
    source.authority = "elsewhere.example:443"
    with pytest.raises(CoordinatorWrongError, match=r"portal\.example"):
        log_audit(source, pinned=None, memory=memory, folder=tmp_path)


# --- what was seen before ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(0, 5), (1, 2), (255, 257), (256, 256), (256, 600), (300, 300), (300, 513)])
def test_a_log_that_goes_on_is_consistent(audit: Audit, before: int, after: int) -> None:
    leaves = long_log(after)
    assert audit(leaves[:before]).is_clean
    report = audit(leaves)
    assert report.is_clean, report.findings.kept
    assert report.before == before


@pytest.mark.parametrize("sizes", [(5, 0, 9), (300, 17, 300), (300, 299, 301), (256, 255, 600)])
def test_a_history_that_was_rewritten_and_signed_anew_is_a_fork(
    audit: Audit, memory: Memory, tmp_path: Path, sizes: tuple[int, int, int]
) -> None:
    before, changed, after = sizes
    leaves = long_log(after)
    assert audit(leaves[:before]).is_clean
    kept = memory.path(LOG).read_bytes()
    forked = [*leaves[:changed], leaves[changed].replace(b'"1"', b'"2"'), *leaves[changed + 1 :]]
    report = audit(log_write(tmp_path / "forked", forked).folder)
    assert report.findings.counts[FindingCode.LOG_FORKED] == 1
    assert FindingCode.LOG_ROOT_WRONG not in report.findings.counts
    assert report.proof is not None
    proof = report.proof.read_text()
    assert proof.count("— portal.example/ledger ") == 2
    assert COORDINATOR.public.to_base64() in proof
    assert memory.path(LOG).read_bytes() == kept, "what was seen first stays what others are held against"


def test_a_portal_whose_log_shrinks_has_forked_it_and_a_mirror_may_lag(tmp_path: Path, memory: Memory) -> None:
    leaves = long_log(9)
    long, short = (log_write(tmp_path / str(size), leaves[:size]).folder for size in (9, 5))
    (tmp_path / "work").mkdir()

    def audited(source: FolderSource) -> Any:
        for path in (tmp_path / "work").iterdir():
            path.unlink()
        return log_audit(source, pinned=COORDINATOR.public.key_id, memory=memory, folder=tmp_path / "work")

    assert audited(_AuthorityFolder(long)).is_clean
    report = audited(_AuthorityFolder(short))
    assert dict(report.findings.counts) == {FindingCode.LOG_FORKED: 1}
    assert report.proof is not None
    report = audited(FolderSource(short))
    assert report.is_clean
    assert "The mirror ends at leaf 5" in report.findings.warnings[0]
    last = memory.load(LOG)
    assert last is not None
    assert last.checkpoint.size == 9, "an older state takes the place of nothing"


def test_a_tampered_log_is_not_remembered(audit: Audit, memory: Memory, tmp_path: Path) -> None:
    leaves = long_log(300)
    folder = log_write(tmp_path / "log", leaves).folder
    bundle_change(folder, [leaves[1], leaves[0], *leaves[2:256]])
    assert not audit(folder).is_clean
    assert memory.load(LOG) is None


def test_findings_in_leaves_do_not_keep_the_log_from_being_remembered(audit: Audit, memory: Memory) -> None:
    assert not audit([b"{}"]).is_clean
    last = memory.load(LOG)
    assert last is not None
    assert last.checkpoint.size == 1


def test_the_last_run_is_private_and_replaced_whole(audit: Audit, memory: Memory) -> None:
    audit(long_log(2))
    audit(long_log(3))
    path = memory.path(LOG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"key":1}', b"\xff"])
def test_a_last_run_that_cannot_be_read_is_told_and_not_overwritten(audit: Audit, memory: Memory, content: bytes) -> None:
    audit(long_log(1))
    memory.path(LOG).write_bytes(content)
    with pytest.raises(MemoryUnusableError, match="remove it"):
        audit(long_log(2))
    assert memory.path(LOG).read_bytes() == content


def test_a_last_run_whose_note_was_changed_is_not_believed(audit: Audit, memory: Memory) -> None:
    audit(long_log(2))
    path = memory.path(LOG)
    path.write_bytes(path.read_bytes().replace(b"\\n2\\n", b"\\n1\\n"))
    with pytest.raises(MemoryUnusableError):
        audit(long_log(3))


def test_logs_with_names_that_look_alike_have_files_of_their_own(memory: Memory) -> None:
    names = ["a/ledger", "a_ledger", "../a/ledger", ".a", "a:443/ledger"]
    paths = {memory.path(name) for name in names}
    assert len(paths) == len(names)
    assert len({path.parent for path in paths}) == 1


def test_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    leaves = log_make().leaves
    (tmp_path / "work").mkdir()
    with pytest.raises(MemoryUnusableError, match="file"):
        log_audit(
            FolderSource(log_write(tmp_path / "log", leaves).folder),
            pinned=None,
            memory=Memory(tmp_path / "file" / "state"),
            folder=tmp_path / "work",
        )
