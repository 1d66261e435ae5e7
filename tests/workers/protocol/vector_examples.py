"""The examples in docs/PROTOCOL.md: marked blocks that are filled from the golden vectors.

<!-- example: exchange.json#/work/request -->      a vector's file, and a JSON pointer (RFC 6901) into it
…                                                  what stands here is replaced
<!-- end -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

EXAMPLE: Final = re.compile(r"(<!-- example: (?P<file>[a-z_]+\.json)(?:#(?P<pointer>/\S*))? -->\n).*?(<!-- end -->)", re.DOTALL)
LINE_CHARACTERS: Final = 110
SHOWN_CHARACTERS: Final = 90


def document_with_examples(text: str, found: Mapping[str, Any]) -> str:
    """The document, each example replaced by what the vectors say. Raises KeyError for an example that no vector has."""

    def example(match: re.Match[str]) -> str:
        value = _at_pointer(found[match["file"]], match["pointer"] or "")
        shown = f"```text\n{value.rstrip()}\n```" if isinstance(value, str) else f"```json\n{_shown(value)}\n```"
        return f"{match.group(1)}{shown}\n{match.group(4)}"

    return EXAMPLE.sub(example, text)


def _at_pointer(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part.replace("~1", "/").replace("~0", "~")]
    return value


def _shown(value: Any, indent: int = 0) -> str:
    """JSON for a page: what fits stays on one line, and long strings are cut with an ellipsis."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        value = value[: SHOWN_CHARACTERS - 1] + "…"
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value:
        return flat
    if "…" not in flat and len(flat) + indent <= LINE_CHARACTERS and (indent or isinstance(value, list)):
        return flat
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(name)}: {_shown(item, indent + 2)}" for name, item in value.items()]
        return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(inner + _shown(item, indent + 2) for item in value) + "\n" + " " * indent + "]"
