"""What the log must continue: the last run's checkpoint, and what the coordinator signed about restores (workers/protocol/epochs.py).

1. The newest checkpoint is one of the newest epoch, or of the first where there is no statement of another.
2. In the epoch of the last run, the log begins with all that was seen then.
3. In a later epoch it begins with what all statements since then continue. What the last run saw beyond that is lost: the coordinator has
   admitted it, so it is told and not held against it. What is not beyond must be there.
4. Each statement's own tree, and the checkpoint that it says was published, are where they must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from client.audit.errors import AbsentError, SourceError
from client.audit.last_run import LastRun
from client.audit.source import EPOCHS, LogSource
from client.audit.trust import Coordinator, checkpoint_open
from workers.protocol.canonical import json_parse
from workers.protocol.epochs import EPOCHS_MAX, Epoch, EpochInvalidError, epoch_number_of, epochs_open, log_origin_of
from workers.protocol.signed_note import Checkpoint, note_text
from workers.protocol.strict_base64 import base64_decode

EPOCHS_LIMIT_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class Anchor:
    """The tree over the first `size` leaves must have this root; `otherwise` is what to say if it hasn't."""

    size: int
    root: bytes
    otherwise: str


@dataclass
class History:
    """What follows from what was signed before: `contradictions` whatever the leaves are, `anchors` to be compared with them."""

    contradictions: list[str] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Epochs:
    """The epochs after the first, and the document that they came in, as evidence."""

    found: tuple[Epoch, ...]
    document: bytes

    def log(self, name: str) -> str:
        """The name of the log now, of the portal that is called `name` in it."""
        return log_origin_of(name, self.found[-1].number if self.found else 1)


def epochs_read(source: LogSource, coordinator: Coordinator) -> Epochs:
    """What the source says of restores. Raises SourceError, VerificationError for statements that the coordinator did not sign."""
    try:
        document = source.read(EPOCHS, limit_bytes=EPOCHS_LIMIT_BYTES)
    except AbsentError:
        return Epochs((), b"")
    parsed = json_parse(document, limit_bytes=EPOCHS_LIMIT_BYTES)
    listed = parsed.get("epochs") if isinstance(parsed, dict) else None
    envelopes = [one.get("envelope") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(listed) > EPOCHS_MAX or not all(isinstance(one, dict) for one in [*listed, *envelopes]):
        raise SourceError(f"{source.name} does not list its epochs as protocol version 1 lists them.")
    return Epochs(epochs_open([dict(one or {}) for one in envelopes], keys=coordinator.keys, authority=coordinator.name), document)


def history_of(coordinator: Coordinator, epochs: Sequence[Epoch], *, before: LastRun | None, now: Checkpoint, is_mirror: bool) -> History:
    """What the leaves must be held against. Raises VerificationError for a published checkpoint that is none."""
    history = History()
    for epoch in epochs:
        _epoch_add(history, coordinator, epoch, before=before.checkpoint if before else None, now=now)
    if before is not None:
        _before_add(history, coordinator.name, epochs, before=before.checkpoint, now=now, is_mirror=is_mirror)
    return history


def _epoch_add(history: History, coordinator: Coordinator, epoch: Epoch, *, before: Checkpoint | None, now: Checkpoint) -> None:
    size = epoch.continues.size
    if size > now.size:
        history.contradictions.append(f"Epoch {epoch.number} began with {size} leaves, as its statement says; now there are {now.size}.")
        return
    try:
        root = base64_decode(epoch.continues.root)
    except ValueError as error:
        raise EpochInvalidError(f"The root in the statement of epoch {epoch.number}: {error}.") from error
    history.anchors.append(Anchor(size, root, f"Its statement says with which {size} leaves epoch {epoch.number} began; these are others."))
    published = _published(coordinator, epoch)
    is_comparable = published is not None and published.origin == epoch.continues.origin
    if published is None or not is_comparable:
        lost = "an unknown number of"
    else:
        lost = str(max(0, published.size - size))
        if published.size <= size:
            message = f"Epoch {epoch.number} names a checkpoint over {published.size} leaves that was published before; these are others."
            history.anchors.append(Anchor(published.size, published.root, message))
        if before is not None and (before.origin, before.size) == (published.origin, published.size) and before != published:
            message = f"Epoch {epoch.number} names another checkpoint over {published.size} leaves than the last run saw."
            history.contradictions.append(message)
    if lost != "0":
        history.warnings.append(
            f"The log came back from a backup on {epoch.began_at:%Y-%m-%d} (epoch {epoch.number}) and lost {lost} published leaves; "
            f"the reason given: {epoch.reason}"
        )


def _published(coordinator: Coordinator, epoch: Epoch) -> Checkpoint | None:
    """The checkpoint that the statement says was published before."""
    if epoch.published is None:
        return None
    note = epoch.published.encode("utf-8", "replace")
    origin = Checkpoint.from_text(note_text(note)).origin
    number = epoch_number_of(coordinator.name, origin)
    if number is None or number >= epoch.number:
        raise EpochInvalidError(f"The statement of epoch {epoch.number} names a checkpoint of {origin[:200]}, which was not before it.")
    return checkpoint_open(note, log=origin, keys=coordinator.keys)[0]


def _before_add(history: History, name: str, epochs: Sequence[Epoch], *, before: Checkpoint, now: Checkpoint, is_mirror: bool) -> None:
    number, number_now = epoch_number_of(name, before.origin), epoch_number_of(name, now.origin)
    if number is None or number_now is None or number > number_now:
        history.contradictions.append(f"The last run saw a checkpoint of {before.origin}; now the log is {now.origin} again.")
        return
    following = [epoch for epoch in epochs if epoch.number > number]
    if following and following[0].continues.origin != before.origin:
        history.warnings.append(
            f"The last run saw {before.size} leaves of {before.origin}. By its signed statement epoch {following[0].number} continues an "
            f"earlier epoch, with {following[0].continues.size} leaves: what was added in between is lost, and can't be compared."
        )
        return
    continued = min((epoch.continues.size for epoch in following), default=before.size)
    if continued < before.size:
        history.warnings.append(
            f"The {before.size - continued} newest of the {before.size} leaves that the last run saw are lost: by its signed statement the "
            f"log went on from {continued}. They are not held against it."
        )
    elif before.size <= now.size:
        message = f"The first {before.size} leaves are others than those that the last run saw under a signed checkpoint."
        history.anchors.append(Anchor(before.size, before.root, message))
    elif is_mirror:
        message = f"The mirror ends at leaf {now.size}, the last run saw {before.size}: whether it is a part of them can't be told."
        history.warnings.append(message)
    else:
        message = f"The last run saw a signed checkpoint over {before.size} leaves; now there are {now.size}. Logs never shrink."
        history.contradictions.append(message)
