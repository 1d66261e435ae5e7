"""What callers of the ledger's API can get wrong."""

from __future__ import annotations

from typing import ClassVar

from workers.protocol.problems import ProblemError


class LedgerQueryInvalidError(ProblemError):
    """A query parameter is not the number that was expected."""

    code: ClassVar[str] = "ledger_query_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The query is not valid"


class BeyondLogError(ProblemError):
    """The log does not have so many leaves."""

    code: ClassVar[str] = "ledger_beyond_log"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "The log is not that long"
