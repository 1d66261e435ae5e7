"""Problem details (RFC 9457): how the coordinator says no, and how a client reads it."""

from __future__ import annotations

from typing import Any, ClassVar


class ProblemError(Exception):
    """The caller's fault, told to the caller: `code` is stable, `detail` says what was expected, what was found and what to do.

    Subclass with `code`, `status` and `title`; `extra` becomes extension members of the problem document and must hold JSON values only.
    """

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request was refused"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """The problem document as a JSON object."""
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }
