"""What is wrong with a descriptor, told to its writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.protocol.problems import ProblemError

FAULTS_MAX = 50
"""Faults listed in one answer; a document with more is told of the rest as a number."""


@dataclass(frozen=True)
class Fault:
    """One fault: a JSON pointer (RFC 6901) into the document, a stable code, and what was expected, found and is to be done."""

    path: str
    code: str
    message: str

    def document(self) -> dict[str, str]:
        return {"path": self.path, "code": self.code, "message": self.message}


class DescriptorInvalidError(ProblemError):
    """Not a descriptor, or one whose parts contradict each other; `errors` lists each fault."""

    code = "descriptor_invalid"
    status = 422
    title = "The descriptor is not valid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        shown = faults[:FAULTS_MAX]
        first = shown[0]
        more = f" There are {len(faults)} faults; `errors` lists the first {len(shown)}." if len(faults) > 1 else ""
        super().__init__(f"At {first.path or 'the top level'}: {first.message}{more}", errors=[fault.document() for fault in shown])
        self.faults = tuple(faults)


def pointer(*parts: str | int) -> str:
    """The JSON pointer to the member that `parts` lead to; empty for the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
