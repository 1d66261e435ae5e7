"""From the bytes of a request to a message, or to a problem that names every fault in it.

Rules:

1. The bytes are I-JSON of bounded size and depth (`canonical.json_parse`).
2. The protocol version is looked at before the rest, so that a newer host hears `protocol_unsupported`, not a list of
   fields that this side doesn't know.
3. Faults are told as JSON pointers (RFC 6901) with pydantic's stable codes; values sent are never repeated.
"""

from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError

from workers.protocol.canonical import json_parse
from workers.protocol.messages.base import PROTOCOL_VERSION, Message
from workers.protocol.problems import ProblemError

PROTOCOL_VERSIONS: tuple[int, ...] = (PROTOCOL_VERSION,)
"""What this side speaks, oldest first."""

ERRORS_MAX = 50
"""How many faults one answer lists."""

MessageT = TypeVar("MessageT", bound=Message)


class MessageInvalidError(ProblemError):
    """Well-formed JSON that is not the message expected; `errors` says where and why."""

    code: ClassVar[str] = "message_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The message is not valid"


class ProtocolUnsupportedError(ProblemError):
    """The sender speaks a protocol version that this side doesn't; `supported` lists those that it does."""

    code: ClassVar[str] = "protocol_unsupported"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "This protocol version is not supported"


def json_pointer(location: tuple[int | str, ...]) -> str:
    """The RFC 6901 pointer to `location`; the whole document is the empty string."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1")[:200] for part in location)


def validation_errors(error: ValidationError) -> list[dict[str, str]]:
    """The faults as `{path, code, message}`, at most ERRORS_MAX, in the document's order; no value is repeated."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{"path": json_pointer(item["loc"]), "code": item["type"], "message": item["msg"]} for item in found][:ERRORS_MAX]


def protocol_version_check(document: Any) -> None:
    """Return if the message says a version that this side speaks, or none. Raises ProtocolUnsupportedError."""
    found = document.get("protocol_version") if isinstance(document, dict) else None
    # `True` is an integer to Python, not to the protocol: pydantic is left to refuse what isn't a number.
    if type(found) is int and found not in PROTOCOL_VERSIONS:
        known = ", ".join(map(str, PROTOCOL_VERSIONS))
        raise ProtocolUnsupportedError(
            f"Expected protocol version {known}; found {found}. Use a host software that speaks {known}.",
            supported=list(PROTOCOL_VERSIONS),
        )


def message_parse(model: type[MessageT], body: bytes, *, limit_bytes: int) -> MessageT:
    """The `model` that `body` spells.

    Raises JsonTooLargeError, JsonMalformedError, ProtocolUnsupportedError, MessageInvalidError; nothing else.
    """
    document = json_parse(body, limit_bytes=limit_bytes)
    protocol_version_check(document)
    try:
        message = model.model_validate(document)
    except ValidationError as error:
        faults = validation_errors(error)
        raise MessageInvalidError(
            f"The message is not a {model.__name__}: {len(faults)} fault{'s' if len(faults) > 1 else ''}, the first at "
            f"{faults[0]['path'] or 'the whole'!r}: {faults[0]['message']}. docs/PROTOCOL.md shows each message.",
            errors=faults,
        ) from error
    # Again, for what pydantic reads as a number ("7"): nothing slips past rule 2 by its spelling.
    protocol_version_check({"protocol_version": getattr(message, "protocol_version", None)})
    return message
