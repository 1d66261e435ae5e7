"""Base64 (RFC 4648, section 4) with exactly one accepted spelling for each value.

The standard library ignores foreign characters and the unused bits before the padding, so that one signature would
have many spellings; whoever compares or hashes encoded bytes could then be given the same thing twice.
"""

import base64
import binascii


def base64_encode(data: bytes) -> str:
    """The padded standard base64 of `data`."""
    return base64.b64encode(data).decode("ascii")


def base64_decode(text: str) -> bytes:
    """The bytes that `base64_encode` spells as `text`.

    Raises ValueError, and nothing else, for any other text; callers turn it into the error of what they parse.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("expected padded standard base64") from error
    if base64_encode(data) != text:
        raise ValueError("expected canonical base64: the unused bits before the padding must be zero")
    return data
