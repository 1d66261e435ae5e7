"""The audit of a log from outside: what it serves is what was signed, continues what was seen before, and follows the rules.

1. The coordinator's key is the pinned one or follows from it; it signed the newest checkpoint.
2. The leaves hash to the checkpoint's root, and to every hash tile that is served.
3. The tree begins with the one that the last run verified. Else two signed notes contradict each other, and both are kept.
4. Every leaf follows the rules of its kind (entry_rules, receipt_rules, spot_rules), and the whole those of closing_rules.

It trusts no answer of the portal, and one key. It can't see what was never logged, nor whether an accepted result is true.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.audit.books import Books, Counts
from client.audit.closing_rules import closing_check
from client.audit.errors import AbsentError
from client.audit.findings import FindingCode, Findings
from client.audit.last_run import LastRun, Memory
from client.audit.leaf_rules import leaf_check
from client.audit.reading import bundles_read
from client.audit.source import CHECKPOINT, NOTE_LIMIT_BYTES, LogSource, hash_tile_read
from client.audit.tree import TILE_WIDTH, TiledTree
from client.audit.trust import Coordinator, checkpoint_open, coordinator_read
from workers.protocol.merkle import HASH_BYTES, leaf_hash
from workers.protocol.signed_note import Checkpoint

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
    return _Audit(source, memory, folder, progress).run(pinned)


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
            coordinator, before = self._coordinator(pinned)
            now = self._checkpoint(coordinator)
            contradicts = self._smaller_or_other(before, now)
            is_whole = self._leaves(now.checkpoint, before)
            proof = None
            if is_whole:
                contradicts |= self._roots_compare(before, now)
                closing_check(self._books)
            if before is not None and contradicts:
                proof = self._memory.contradiction_keep(coordinator.log, before=before, now=now)
            elif is_whole and not self._findings.counts[FindingCode.LOG_ROOT_WRONG]:
                self._memory.save(coordinator.log, now)
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

    def _coordinator(self, pinned: str | None) -> tuple[Coordinator, LastRun | None]:
        """Whom to believe, and what the last run saw."""
        coordinator = coordinator_read(self._source)
        before = self._memory.load(coordinator.log)
        if pinned is None and before is not None:
            pinned = before.key.key_id
        if pinned is None:
            self._findings.warn(
                f"No coordinator's key was pinned and this is the first audit of {coordinator.log}: its key {coordinator.key.key_id} is "
                "believed this once, and from now on. Compare it with one from a place that you trust."
            )
        return coordinator.believed(pinned), before

    def _checkpoint(self, coordinator: Coordinator) -> LastRun:
        note = self._source.read(CHECKPOINT, limit_bytes=NOTE_LIMIT_BYTES)
        checkpoint, key = checkpoint_open(note, log=coordinator.log, keys=coordinator.keys)
        return LastRun(note, checkpoint, key)

    def _smaller_or_other(self, before: LastRun | None, now: LastRun) -> bool:
        """Whether the two notes contradict each other by themselves."""
        if before is None or now.checkpoint.size > before.checkpoint.size or now.checkpoint == before.checkpoint:
            return False
        old, new = before.checkpoint, now.checkpoint
        if new.size == old.size:
            self._findings.add(FindingCode.LOG_FORKED, None, f"Two signed checkpoints over {old.size} leaves have different roots.")
            return True
        if self._source.authority is None:
            self._findings.warn(
                f"The mirror ends at leaf {new.size}; the last run saw {old.size}. Whether it is a part of those was not looked at."
            )
            return False
        self._findings.add(
            FindingCode.LOG_FORKED,
            None,
            f"The last run saw a signed checkpoint over {old.size} leaves; now there are {new.size}. A log never shrinks.",
        )
        return True

    def _leaves(self, checkpoint: Checkpoint, before: LastRun | None) -> bool:
        """Reads, hashes and judges every leaf; whether all were there."""
        tree, books = self._tree, self._books
        old_size = before.checkpoint.size if before else -1
        self._old_root = tree.root() if old_size == 0 else None
        for bundle in bundles_read(self._source, checkpoint.size):
            if bundle.leaves is None:
                self._findings.add(FindingCode.LOG_INCOMPLETE, tree.size, f"The leaves from here on can't be read: {bundle.missing}")
                return False
            self._served_tile = bundle.tile
            if bundle.tile is None:
                self._findings.add(FindingCode.LOG_INCOMPLETE, tree.size, f"The hash tile over this leaf can't be read: {bundle.missing}")
            for data in bundle.leaves:
                leaf_check(books, tree.size, data)
                tree.append(leaf_hash(data))
                if tree.size == old_size:
                    self._old_root = tree.root()
            if self._progress:
                self._progress(tree.size, checkpoint.size)
        for level, index, hashes in tree.edge():
            self._tile_done(level, index, hashes)
        return True

    def _roots_compare(self, before: LastRun | None, now: LastRun) -> bool:
        """Compares the recomputed tree with what was signed, now and before; whether it proves that history was forked."""
        root = self._tree.root()
        if root != now.checkpoint.root:
            message = f"The {self._tree.size} leaves have the root {root.hex()}; signed is {now.checkpoint.root.hex()}."
            self._findings.add(FindingCode.LOG_ROOT_WRONG, None, message)
            return False  # what was served was never signed: that accuses the portal, and contradicts no signature
        if before is None or self._old_root is None or self._old_root == before.checkpoint.root:
            return False
        if now.checkpoint.size == before.checkpoint.size:
            return False  # told already
        message = f"The first {before.checkpoint.size} leaves are others than those that the last run saw under a signed checkpoint."
        self._findings.add(FindingCode.LOG_FORKED, None, message)
        return True

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
