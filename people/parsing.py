"""JSON bodies of REST requests, read as carefully as those of hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, Final

from rest_framework.parsers import BaseParser

from workers.protocol.canonical import json_parse

BODY_BYTES_MAX: Final = 1024 * 1024


class StrictJSONParser(BaseParser):
    """I-JSON of at most 1 MiB: no duplicate names, no U+0000, no numbers beyond a double, no endless nesting.

    DRF's own parser lets each of these through to code that answers them with a 500.
    """

    media_type = "application/json"

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """Raises JsonTooLargeError, JsonMalformedError."""
        return json_parse(stream.read(BODY_BYTES_MAX + 1), limit_bytes=BODY_BYTES_MAX)
