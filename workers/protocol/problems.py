"""Problem details (RFC 9457): how the coordinator says no, and how a client reads it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar, Final

from workers.protocol.errors import (
    ContentDigestMismatchError,
    JsonTooLargeError,
    KeyWrongError,
    SignatureIncompleteError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureMissingError,
    SignatureStaleError,
    VerificationError,
)

_UNPROVEN: Final = (
    SignatureMissingError,
    SignatureMalformedError,
    SignatureIncompleteError,
    SignatureStaleError,
    SignatureInvalidError,
    KeyWrongError,
    ContentDigestMismatchError,
)


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


def problem_document(error: ProblemError | VerificationError) -> dict[str, Any]:
    """The problem document for the sender. Of untrusted bytes: 401 where who sent them wasn't proven, 413 for too many, else 400."""
    if isinstance(error, ProblemError):
        return error.document()
    status = 413 if isinstance(error, JsonTooLargeError) else 401 if isinstance(error, _UNPROVEN) else 400
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": error.code, "detail": str(error)}
