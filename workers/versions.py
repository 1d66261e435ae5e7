"""Host and portal of different ages: what is spoken, what this host has, and what to do about it, in one place for all who tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.version import SOFTWARE_VERSION


@dataclass(frozen=True)
class ProtocolGap:
    """That host and portal have no version of the protocol in common, in a clause, and in a sentence what to do."""

    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found[0].upper()}{self.found[1:]}. {self.advice}"


def protocol_gap(spoken: Sequence[int]) -> ProtocolGap | None:
    """`spoken`: what the portal says that it speaks. None where this host speaks one of them too."""
    if PROTOCOL_VERSION in spoken:
        return None
    versions = ", ".join(map(str, spoken)) or "none"
    found = f"the portal speaks protocol {versions}; this host, software {SOFTWARE_VERSION}, speaks {PROTOCOL_VERSION}"
    if max(spoken, default=0) > PROTOCOL_VERSION:
        return ProtocolGap(found, "Upgrade this software: docs/host.md, Upgrading. What is still to report is kept until then.")
    return ProtocolGap(found, "The portal is older than this software: install the version that its operator names.")
