"""The log as files, laid out as C2SP tlog-tiles: full tiles, full entry bundles and the newest checkpoint, for any web server to serve.

    NEXA_LOG_ROOT/epoch-<n>/checkpoint
                            tile/<L>/<N>, tile/entries/<N>
                  current -> epoch-<n>

1. Files are written after the commit that made their content durable: a checkpoint that anyone can read never has to be taken back.
2. Tiles before the checkpoint that covers them, each written whole or not at all. A run that was killed is made up for by the next, which
   starts from the checkpoint that is there: no checkpoint, and everything is written anew.
3. A published checkpoint that the database does not know means that the database came back from a backup. Then nothing is published, and
   nothing enters the log, until an operator begins another epoch (workers/protocol/epochs.py).

Partial tiles are not written: they would be many, and each lives for seconds. The portal makes them when they are asked for.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from django.conf import settings

from ledger.models import Checkpoint, LogLeaf
from ledger.tiles import LEVEL_MAX, roots_keep, tile_hashes
from workers.protocol import signed_note
from workers.protocol.errors import VerificationError
from workers.protocol.signed_note import NOTE_LIMIT_BYTES, note_text
from workers.protocol.tlog_tiles import TILE_WIDTH, place_text

_CURRENT: Final = "current"
_CHECKPOINT: Final = "checkpoint"
_TILES_READ: Final = 4
_WRITERS: Final = 32
"""Files that are written at once."""


class PublishedAheadError(Exception):
    """What was published goes beyond the database, or is not what it holds; the message says what to do."""

    code = "ledger_published_ahead"


class PublishedUnreadableError(Exception):
    """The published checkpoint is no checkpoint."""

    code = "ledger_published_unreadable"


def published_check(*, epoch: int) -> None:
    """Return if the database continues what was published. Raises PublishedAheadError, PublishedUnreadableError."""
    later = published_epoch()
    if later > epoch:
        raise PublishedAheadError(_ahead(f"epoch {later} was published; the database knows {epoch}"))
    published = published_checkpoint(epoch=epoch)
    if published is not None and not Checkpoint.objects.filter(epoch=epoch, size=published.size, root=published.root).exists():
        raise PublishedAheadError(_ahead(f"a checkpoint over {published.size} leaves was published; the database has none like it"))
    newest = Checkpoint.objects.order_by("-pk").values_list("size", flat=True).first()
    if published is not None and newest is not None and newest < published.size:
        raise PublishedAheadError(_ahead(f"{published.size} leaves were published; the newest checkpoint of the database covers {newest}"))


def published_epoch() -> int:
    """The newest epoch of which a checkpoint was published; 0 where none was."""
    numbers = [path.parent.name.removeprefix("epoch-") for path in settings.NEXA_LOG_ROOT.glob(f"epoch-*/{_CHECKPOINT}")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def published_note(*, epoch: int) -> str | None:
    """The published checkpoint of an epoch as it is in its file; None where there is none. Raises PublishedUnreadableError."""
    path = _epoch_folder(epoch) / _CHECKPOINT
    try:
        return path.read_bytes()[: NOTE_LIMIT_BYTES + 1].decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise PublishedUnreadableError(_unreadable(path, error)) from error


def published_checkpoint(*, epoch: int) -> signed_note.Checkpoint | None:
    """What the published note says; whose it is is not looked at. Raises PublishedUnreadableError."""
    note = published_note(epoch=epoch)
    try:
        return None if note is None else signed_note.Checkpoint.from_text(note_text(note.encode("utf-8")))
    except VerificationError as error:
        raise PublishedUnreadableError(_unreadable(_epoch_folder(epoch) / _CHECKPOINT, error)) from error


def publish(checkpoint: Checkpoint) -> None:
    """Writes what is missing up to `checkpoint`, and then that. The caller has checked, and is the only one. Raises OSError."""
    folder = _epoch_folder(checkpoint.epoch)
    with _files_lock():
        published = published_checkpoint(epoch=checkpoint.epoch)
        done = published.size if published else 0
        if done > checkpoint.size or published_epoch() > checkpoint.epoch:
            return  # Another sequencer has gone on meanwhile.
        _files_write((folder / name, data) for name, data in _full_tiles(done, checkpoint.size))
        if published_note(epoch=checkpoint.epoch) != checkpoint.note:
            _files_write([(folder / _CHECKPOINT, checkpoint.note.encode("utf-8"))])
        _current_set(folder)


def published_file(name: str) -> bytes | None:
    """A file of the present epoch, by its tlog-tiles name; None where it was not published."""
    try:
        return bytes((settings.NEXA_LOG_ROOT / _CURRENT / name).read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def tile_name(level: int, index: int) -> str:
    """The name of a full tile of hashes."""
    return f"tile/{level}/{place_text(index)}"


def bundle_name(index: int) -> str:
    """The name of a full bundle of entries."""
    return f"tile/entries/{place_text(index)}"


def full_tiles(size: int, *, done: int = 0) -> Iterator[tuple[int, int]]:
    """(level, index) of the tiles that are full with `size` leaves and were not with `done`, lowest level first."""
    for level in range(LEVEL_MAX + 1):
        leaves = TILE_WIDTH ** (level + 1)
        yield from ((level, index) for index in range(done // leaves, size // leaves))


def _full_tiles(done: int, size: int) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files that `size` leaves fill and `done` did not; leaves are read once, a few tiles at a time."""
    for start in range(done // TILE_WIDTH, size // TILE_WIDTH, _TILES_READ):
        end = min(start + _TILES_READ, size // TILE_WIDTH)
        leaves = LogLeaf.objects.filter(index__gte=start * TILE_WIDTH, index__lt=end * TILE_WIDTH).order_by("index")
        rows = [(bytes(hash_of_leaf), bytes(data)) for hash_of_leaf, data in leaves.values_list("hash", "item__data")]
        tiles = [rows[place : place + TILE_WIDTH] for place in range(0, len(rows), TILE_WIDTH)]
        roots_keep(start, [[hash_of_leaf for hash_of_leaf, _ in tile] for tile in tiles])
        for index, tile in enumerate(tiles, start):
            yield tile_name(0, index), b"".join(hash_of_leaf for hash_of_leaf, _ in tile)
            yield bundle_name(index), b"".join(len(data).to_bytes(2, "big") + data for _, data in tile)
    for level, index in full_tiles(size, done=done):
        if level > 0:
            yield tile_name(level, index), b"".join(tile_hashes(level, index))


@contextmanager
def _files_lock() -> Iterator[None]:
    """One writer at a time, also where a sequencer has lost its connection, and with it the sequencer's lock, and still writes."""
    root = Path(settings.NEXA_LOG_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _epoch_folder(epoch: int) -> Path:
    return Path(settings.NEXA_LOG_ROOT) / f"epoch-{epoch}"


def _files_write(files: Iterable[tuple[Path, bytes]]) -> None:
    """Each appears whole or not at all; when this returns all are on the disk. Several wait at once: file systems commit in groups."""
    folders: set[Path] = set()
    rest = iter(files)
    with ThreadPoolExecutor(_WRITERS) as writers:
        while group := list(islice(rest, _WRITERS)):
            for path, temporary in list(writers.map(_file_write, group)):
                temporary.replace(path)
                folders.update(one for one in path.parents if one.is_relative_to(settings.NEXA_LOG_ROOT))
    for folder in folders:
        _folder_sync(folder)


def _file_write(file: tuple[Path, bytes]) -> tuple[Path, Path]:
    """(the file to be, what is to become it): on the disk under another name."""
    path, data = file
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return path, temporary


def _current_set(folder: Path) -> None:
    link = folder.parent / _CURRENT
    if link.is_symlink() and link.readlink() == Path(folder.name):
        return
    temporary = link.with_name(f".{_CURRENT}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(link)
    _folder_sync(folder.parent)


def _folder_sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ahead(found: str) -> str:
    return (
        f"The log in {settings.NEXA_LOG_ROOT} and the database have parted: {found}. Nothing is published, and nothing enters the log. "
        "If the database came back from a backup, begin an epoch: manage.py ledger_epoch_begin --reason TEXT. "
        "If it is the wrong database, or the wrong folder, connect the right one."
    )


def _unreadable(path: Path, error: Exception) -> str:
    return f"Expected a checkpoint in {path}: {error} Put the right one back; or remove it, and all files are written anew."
