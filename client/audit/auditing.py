"""The audit of a log from outside: what it serves is what was signed, continues what was seen before, and follows the rules.

1. The coordinator's key is the pinned one or follows from it; it signed the newest checkpoint.
2. The leaves hash to the checkpoint's root, and to every hash tile that is served.
3. The tree begins with the one that the last run verified, and with what signed statements about restores say (history). Else signatures
   contradict each other, and are kept as proof.
4. Every leaf follows the rules of its kind (entry_rules, receipt_rules, spot_rules), and the whole those of closing_rules.

It trusts no answer of the portal, and one key. It can't see what was never logged, nor whether an accepted result is true.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.audit.books import Books, Counts
from client.audit.closing_rules import closing_check
from client.audit.errors import AbsentError, WorkFolderError
from client.audit.findings import FindingCode, Findings
from client.audit.history import History, epochs_read, history_of
from client.audit.last_run import LastRun, Memory
from client.audit.leaf_rules import leaf_check
from client.audit.reading import bundles_read
from client.audit.source import CHECKPOINT, NOTE_LIMIT_BYTES, LogSource, hash_tile_read
from client.audit.tree import TiledTree
from client.audit.trust import Coordinator, checkpoint_open, coordinator_read
from workers.protocol.epochs import log_origin_of
from workers.protocol.keys import PublicKey
from workers.protocol.merkle import HASH_BYTES, leaf_hash
from workers.protocol.signed_note import Checkpoint
from workers.protocol.tlog_tiles import TILE_WIDTH

Progress = Callable[[int, int], None]
"""Called with (leaves audited, leaves in all)."""


@dataclass(frozen=True)
class Report:
    """What one audit found. `before` is the size that the last run saw, None if this is the first; `proof` names the file with two notes
    that contradict each other."""

    source: str
    log: str
    coordinator_key_id: str
    size: int
    root: bytes
    before: int | None
    counts: Counts
    findings: Findings
    seconds: float
    proof: Path | None = None

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings.counts


def log_audit(source: LogSource, *, pinned: str | None, memory: Memory, folder: Path, progress: Progress | None = None) -> Report:
    """Audits the whole log at `source`. `pinned`: the key id to trust; None takes that of the last run, else believes the present one.

    `folder` is an empty one for what does not fit in memory. Raises AuditError, VerificationError when there is nothing that can be judged.
    """
    try:
        return _Audit(source, memory, folder, progress).run(pinned)
    except sqlite3.Error as error:
        raise WorkFolderError(f"{folder} can't hold what the audit must remember: {error}. Name a roomier place by TMPDIR.") from error


class _Audit:
    """One run."""

    def __init__(self, source: LogSource, memory: Memory, folder: Path, progress: Progress | None) -> None:
        self._source, self._memory, self._progress = source, memory, progress
        self._findings = Findings()
        self._books = Books(folder, self._findings)
        self._tree = TiledTree(self._tile_done)
        self._served_tile: bytes | None = None

    def run(self, pinned: str | None) -> Report:
        began = time.monotonic()
        try:
            coordinator = coordinator_read(self._source)
            memory_name = log_origin_of(coordinator.name, 1)
            before = self._memory.load(memory_name)
            keys = self._believed(coordinator, pinned, before)
            epochs = epochs_read(self._source, coordinator)
            note = self._source.read(CHECKPOINT, limit_bytes=NOTE_LIMIT_BYTES)
            now = LastRun(note, *checkpoint_open(note, log=epochs.log(coordinator.name), keys=keys))
            history = history_of(coordinator, epochs.found, before=before, now=now.checkpoint, is_mirror=self._source.authority is None)
            self._findings.warnings += history.warnings
            is_forked = self._judged(now.checkpoint, history)
            proof = self._memory.contradiction_keep(memory_name, before, now, epochs.document) if is_forked else None
            is_newer = before is None or now.checkpoint.origin != before.checkpoint.origin or now.checkpoint.size >= before.checkpoint.size
            if (
                is_newer
                and not {FindingCode.LOG_FORKED, FindingCode.LOG_ROOT_WRONG, FindingCode.LOG_INCOMPLETE} & self._findings.counts.keys()
            ):
                self._memory.save(memory_name, now)
        finally:
            self._books.close()
        return Report(
            source=self._source.name,
            log=now.checkpoint.origin,
            coordinator_key_id=coordinator.key.key_id,
            size=now.checkpoint.size,
            root=now.checkpoint.root,
            before=before.checkpoint.size if before else None,
            counts=self._books.counts,
            findings=self._findings,
            seconds=time.monotonic() - began,
            proof=proof,
        )

    def _believed(self, coordinator: Coordinator, pinned: str | None, before: LastRun | None) -> tuple[PublicKey, ...]:
        """The keys whose checkpoints count."""
        if pinned is None and before is not None:
            pinned = before.key.key_id
        if pinned is None:
            self._findings.warn(
                f"No coordinator's key was pinned and this is the first audit of {coordinator.name}: its key {coordinator.key.key_id} is "
                "believed this once, and from now on. Compare it with one from a place that you trust."
            )
        return coordinator.believed(pinned)

    def _judged(self, now: Checkpoint, history: History) -> bool:
        """Reads and judges all leaves; whether the history was forked."""
        contradictions = list(history.contradictions)
        roots = self._leaves(now, {anchor.size for anchor in history.anchors})
        if roots is not None:
            closing_check(self._books)
        if roots is not None and self._tree.root() == now.root:
            # These leaves are signed: an anchor that they don't meet contradicts another signature.
            contradictions += [anchor.otherwise for anchor in history.anchors if roots[anchor.size] != anchor.root]
        else:
            # What was served is not what was signed, so it contradicts no other signature; two signed roots do, of themselves.
            contradictions += [anchor.otherwise for anchor in history.anchors if anchor.size == now.size and anchor.root != now.root]
        if roots is not None and self._tree.root() != now.root:
            message = f"The {now.size} leaves have the root {self._tree.root().hex()}; signed is {now.root.hex()}."
            self._findings.add(FindingCode.LOG_ROOT_WRONG, None, message)
        for message in contradictions:
            self._findings.add(FindingCode.LOG_FORKED, None, message)
        return bool(contradictions)

    def _leaves(self, now: Checkpoint, sizes: Collection[int]) -> dict[int, bytes] | None:
        """Reads, hashes and judges every leaf. Returns the roots that the tree had at `sizes`; None where leaves are missing."""
        tree, books = self._tree, self._books
        roots = {0: tree.root()}
        for bundle in bundles_read(self._source, now.size):
            if bundle.leaves is None:
                self._findings.add(FindingCode.LOG_INCOMPLETE, tree.size, f"The leaves from here on can't be read: {bundle.missing}")
                return None
            self._served_tile = bundle.tile
            if bundle.tile is None:
                self._findings.add(FindingCode.LOG_INCOMPLETE, tree.size, f"The hash tile over this leaf can't be read: {bundle.missing}")
            for data in bundle.leaves:
                leaf_check(books, tree.size, data)
                tree.append(leaf_hash(data))
                if tree.size in sizes:
                    roots[tree.size] = tree.root()
            if self._progress:
                self._progress(tree.size, now.size)
        for level, index, hashes in tree.edge():
            self._tile_done(level, index, hashes)
        return roots

    def _tile_done(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        """Compares a tile with the one that is served."""
        expected = b"".join(hashes)
        if level == 0:
            served = self._served_tile
        else:
            try:
                served = hash_tile_read(self._source, level, index, len(hashes))
            except AbsentError as error:
                self._findings.add(FindingCode.LOG_INCOMPLETE, None, f"A hash tile can't be read: {error}")
                return
        if served is None or served == expected:
            return
        place = next(at for at in range(len(hashes)) if served[at * HASH_BYTES :][:HASH_BYTES] != hashes[at])
        what = f"the hash {place} of the tile {index} of level {level}"
        leaf = index * TILE_WIDTH + place if level == 0 else None
        self._findings.add(FindingCode.TILE_WRONG, leaf, f"Served as {what} is another one than the leaves give.")
