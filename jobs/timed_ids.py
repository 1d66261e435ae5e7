"""Ids that begin with the time (RFC 9562, UUID version 7): rows of one time lie together in every index of their ids.

Random ids spread the jobs of each minute over the whole of each index, of which the database must then hold, change and log every page.
For jobs and leases. Ids of replicas stay random: an order names its replica, and a host must not read from it that it has a later copy.
"""

from __future__ import annotations

import secrets
import time
from typing import Final
from uuid import UUID

_VERSION: Final = 7 << 76
_VARIANT: Final = 0b10 << 62


def timed_id_make() -> UUID:
    """A new id: 48 bits of milliseconds since 1970, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=milliseconds << 80 | _VERSION | secrets.randbits(12) << 64 | _VARIANT | secrets.randbits(62))
