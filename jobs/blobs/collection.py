"""Removes the bytes of blobs that nothing wants any more (references.py), and files that no row knows.

1. The store is gone through by shards: the blobs whose digests begin with the same two hexadecimal digits, which are a folder of the store
   and a range of the primary key. Beat has one collected at a time, so that each has its turn about once a day, in bounded work.
2. A blob that nothing wants is marked. Whoever keeps the same bytes again takes the mark off (keeping.py), and so does a later run that
   finds it wanted.
3. One that has been marked for NEXA_BLOB_GRACE_HOURS is removed, each in a transaction of its own: with the lock of its digest and of its
   row it is looked at once more, then the file goes, then the row, or only its bytes where a receipt or an input names it. Whoever
   begins to name it has kept it before, in less time than the grace; who did not is refused by the foreign key when he commits.
4. Killed between file and row, a run leaves a row that is marked and unwanted, without a file: whoever keeps the bytes again writes the
   file anew, else the next run removes the row. Where a transaction that kept a file was undone, a file is left without a row (or, after a
   change of NEXA_BLOB_INLINE_BYTES, beside a row that holds the bytes itself): it is removed when it is as old as the grace.
5. A wanted row whose file is not there is damage. It is counted and logged, and nothing is done about it: a backup has the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from jobs.blobs.keeping import blob_store
from jobs.blobs.locks import digest_lock_try
from jobs.blobs.references import is_named, is_wanted
from jobs.models import Blob
from workers.protocol.digests import DIGEST_PREFIX

log = logging.getLogger(__name__)

SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
SHARD_SECONDS: Final = 300
"""How often beat has a shard collected: all of them within 22 hours."""
PAGE_BLOBS: Final = 500
LOST_NAMED: Final = 20


@dataclass
class Collected:
    """What a collection did, or would have done."""

    looked_at: int = 0
    marked: int = 0
    removed: int = 0
    removed_bytes: int = 0
    files_removed: int = 0
    """Files that no row knew."""
    passed_over: int = 0
    """Due, and in somebody's hands: the next run looks again."""
    lost: list[str] = field(default_factory=list)
    """Wanted blobs without their file; LOST_NAMED at most."""


@dataclass(frozen=True)
class _Found:
    """A blob as a page of its shard has it."""

    digest: str
    size_bytes: int
    unwanted_since: datetime | None
    is_wanted: bool
    in_store: bool


def shard_due(*, now: datetime) -> str:
    """The shard whose turn it is."""
    return SHARDS[int(now.timestamp() // SHARD_SECONDS) % len(SHARDS)]


def shard_collect(*, shard: str, now: datetime, dry_run: bool = False, into: Collected | None = None) -> Collected:
    """Marks, removes and looks for what is lost in one shard, adding to `into`. Idempotent; several at once are fine.

    `dry_run`: only counts.
    """
    found = into if into is not None else Collected()
    lost_before = len(found.lost)
    files = set(blob_store().shard_digests(shard))
    known: set[str] = set()
    for page in _pages(shard, now):
        known.update(one.digest for one in page if one.in_store)
        _page_collect(page, files, now, dry_run, found)
    for digest in sorted(files - known):
        if _file_remove(digest, now, dry_run):
            found.files_removed += 1
    if lost := found.lost[lost_before:]:
        log.error("wanted blobs without a file in the blob store: %s", ", ".join(lost))
    return found


def _pages(shard: str, now: datetime) -> Iterator[list[_Found]]:
    """The shard's blobs that have bytes, in the order of their digests."""
    first, last = f"{DIGEST_PREFIX}{shard:0<64}", f"{DIGEST_PREFIX}{shard:f<64}"
    blobs = Blob.objects.filter(removed_at=None, pk__lte=last).annotate(wanted=is_wanted(now=now), in_store=Q(data=None)).order_by("pk")
    rows = blobs.filter(pk__gte=first)
    while True:
        columns = rows.values_list("digest", "size_bytes", "unwanted_since", "wanted", "in_store")[:PAGE_BLOBS]
        page = [_Found(*row) for row in columns]
        if page:
            yield page
        if len(page) < PAGE_BLOBS:
            return
        rows = blobs.filter(pk__gt=page[-1].digest)


def _page_collect(page: Sequence[_Found], files: set[str], now: datetime, dry_run: bool, found: Collected) -> None:
    before = now - timedelta(hours=settings.NEXA_BLOB_GRACE_HOURS)
    again = [one.digest for one in page if one.is_wanted and one.unwanted_since is not None]
    new = [one.digest for one in page if not one.is_wanted and one.unwanted_since is None]
    due = [one for one in page if not one.is_wanted and one.unwanted_since is not None and one.unwanted_since <= before]
    if not dry_run:
        Blob.objects.filter(pk__in=again).update(unwanted_since=None)
        Blob.objects.filter(pk__in=new, unwanted_since=None).update(unwanted_since=now)
    for one in due:
        if dry_run or _blob_remove(one.digest, now=now, before=before):
            found.removed += 1
            found.removed_bytes += one.size_bytes
        else:
            found.passed_over += 1
    found.looked_at += len(page)
    found.marked += len(new)
    missing = [one.digest for one in page if one.is_wanted and one.in_store and one.digest not in files]
    # The folder was listed before the page was read: what was kept meanwhile is there.
    found.lost += [digest for digest in missing if not blob_store().has(digest)][: max(0, LOST_NAMED - len(found.lost))]


def _blob_remove(digest: str, *, now: datetime, before: datetime) -> bool:
    """Rule 3. False: somebody has it in hand, or it is wanted again."""
    with transaction.atomic():
        if not digest_lock_try(digest):
            return False
        marked = Blob.objects.filter(pk=digest, unwanted_since__lte=before, removed_at=None)
        if not marked.select_for_update(skip_locked=True).values_list("pk").first():
            return False
        # In a statement of its own: it sees what was committed before the row was locked.
        unwanted = Blob.objects.filter(~is_wanted(now=now), pk=digest).annotate(named=is_named(), in_store=Q(data=None))
        row = unwanted.values_list("named", "in_store").first()
        if row is None:
            return False
        named, in_store = row
        if in_store:
            blob_store().remove(digest)
        if named:
            Blob.objects.filter(pk=digest).update(removed_at=now, data=None)
        else:
            Blob.objects.filter(pk=digest)._raw_delete("default")
        return True


def _file_remove(digest: str, now: datetime, dry_run: bool) -> bool:
    """Rule 4: removes a file whose row there is none of, or holds the bytes or none."""
    with transaction.atomic():
        if not digest_lock_try(digest):
            return False
        try:
            is_old = blob_store().kept_at(digest) <= now - timedelta(hours=settings.NEXA_BLOB_GRACE_HOURS)
        except FileNotFoundError:
            return False
        if not is_old or Blob.objects.filter(pk=digest, data=None, removed_at=None).exists():
            return False
        if not dry_run:
            blob_store().remove(digest)
        return True
