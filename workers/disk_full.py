"""Which errors of the operating system mean that there is no room."""

from __future__ import annotations

import errno


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed for want of room, on the disk or in a quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
