"""To be another database user for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections


@contextmanager
def connected_as(role: str) -> Iterator[None]:
    """Django's code in this block, on all threads, connects as `role` to the database that it is on. For a database of the test's own."""
    assert not connection.in_atomic_block, "a transaction has one user from its beginning to its end"
    before = connection.settings_dict["USER"]
    connections.close_all()
    connections.settings["default"]["USER"] = connection.settings_dict["USER"] = role
    try:
        yield
    finally:
        connections.close_all()
        connections.settings["default"]["USER"] = connection.settings_dict["USER"] = before
