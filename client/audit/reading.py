"""The leaves of a log in their order, fetched ahead by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from client.audit.errors import AbsentError
from client.audit.source import BundleMalformedError, LogSource, entries_read, hash_tile_read
from workers.protocol.tlog_tiles import TILE_WIDTH

THREADS: Final = 4
BUNDLES_AHEAD: Final = 8
"""At 16 MiB each, the most that a stranger's server can make us hold."""


@dataclass(frozen=True)
class Bundle:
    """The leaves below tile `index` of level 0, and that tile as it is served; None for what there is not, with the reason in `missing`."""

    index: int
    leaves: list[bytes] | None
    tile: bytes | None
    missing: str = ""


def bundles_read(source: LogSource, size: int) -> Iterator[Bundle]:
    """All bundles of the first `size` leaves, in order. Raises SourceError where the source can't be read at all."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="audit")
    ahead: deque[Future[Bundle]] = deque()
    try:
        for index in range(-(-size // TILE_WIDTH)):
            ahead.append(pool.submit(_bundle_read, source, index, min(TILE_WIDTH, size - index * TILE_WIDTH)))
            if len(ahead) >= BUNDLES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _bundle_read(source: LogSource, index: int, width: int) -> Bundle:
    tile, missing = None, ""
    try:
        tile = hash_tile_read(source, 0, index, width)
    except AbsentError as error:
        missing = str(error)
    try:
        return Bundle(index, entries_read(source, index, width), tile, missing)
    except (AbsentError, BundleMalformedError) as error:
        return Bundle(index, None, tile, str(error))
