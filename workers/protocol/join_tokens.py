"""Join tokens: the one line that a contributor copies from the portal to a host.

    nexa-join1.<base64url without padding of {"coordinator": key id, "portal": origin, "secret": 43 characters}>

A token tells the host where to go (`portal`), whom to expect there (`coordinator`, the fingerprint that the host pins)
and proves once that the owner asked for this host (`secret`). The host sends the secret alone, as `join_token` of its
`RegistrationRequest`: the portal knows the rest. A token is a credential until it is used or expires: never log it.
"""

import base64
import binascii
import re
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import Digest
from workers.protocol.errors import VerificationError
from workers.protocol.messages.base import Message

JOIN_TOKEN_PREFIX: Final = "nexa-join1."  # noqa: S105  no secret: what every token starts with
JOIN_TOKEN_CHARACTERS_MAX: Final = 1024
JOIN_SECRET_CHARACTERS: Final = 43
"""`secrets.token_urlsafe(32)`: 256 random bits."""

_BASE64URL = re.compile(r"[A-Za-z0-9_\-]+")


class JoinTokenMalformedError(VerificationError):
    """Not a join token. The message never repeats any of it."""

    code = "join_token_malformed"


class JoinTokenContent(Message):
    """What a join token says. Well-formed, not true: the coordinator's key is believed because the owner pasted it."""

    portal: Annotated[str, StringConstraints(strict=True, max_length=255, pattern=r"^https?://[A-Za-z0-9.\-_\[\]:]+(?::[0-9]+)?$")]
    """Scheme and authority of the portal, no trailing slash."""
    coordinator: Digest
    """The key id of the coordinator."""
    secret: Annotated[str, StringConstraints(strict=True, pattern=rf"^[A-Za-z0-9_\-]{{{JOIN_SECRET_CHARACTERS}}}$")] = Field(repr=False)


def join_token_encode(content: JoinTokenContent) -> str:
    """The text of a join token; the same content always gives the same text."""
    data = canonical_json(content.model_dump(mode="json"))
    return JOIN_TOKEN_PREFIX + base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def join_token_decode(text: str) -> JoinTokenContent:
    """What the token `text` says; blanks around it, as pasting leaves them, are ignored.

    Raises JoinTokenMalformedError; nothing else.
    """
    text = text.strip()
    encoded = text.removeprefix(JOIN_TOKEN_PREFIX)
    if encoded == text:
        raise JoinTokenMalformedError(f"A join token starts with {JOIN_TOKEN_PREFIX!r}; copy the whole line that the portal shows.")
    if len(text) > JOIN_TOKEN_CHARACTERS_MAX or _BASE64URL.fullmatch(encoded) is None:
        raise JoinTokenMalformedError(
            f"A join token has at most {JOIN_TOKEN_CHARACTERS_MAX} characters: letters, digits, '-' and '_' after the "
            "first point; copy the whole line that the portal shows, and nothing else."
        )
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        content = JoinTokenContent.model_validate(json_parse(data, limit_bytes=JOIN_TOKEN_CHARACTERS_MAX))
    except ValidationError as error:
        # Without inputs, and unchained: the secret is among them.
        wrong = ", ".join(sorted({str(item["loc"][0]) if item["loc"] else "all" for item in error.errors()}))
        raise JoinTokenMalformedError(
            f"The join token is not complete or not of this version; wrong in it: {wrong[:200]}. Mint a new one."
        ) from None
    except (binascii.Error, VerificationError):
        raise JoinTokenMalformedError("The join token is damaged. Copy it again, or mint a new one.") from None
    if join_token_encode(content) != text:
        raise JoinTokenMalformedError("The join token has another spelling than a portal gives it. Copy it again.")
    return content
