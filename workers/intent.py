"""What the contributor has told this node to do: work, pause, or drain, by `nexa resume`, `nexa pause` and `nexa drain`. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

PAUSE_DAYS_MAX: Final = 366

_DURATION: Final = re.compile(r"(?=.)(?:(?P<days>\d{1,4})d)?(?:(?P<hours>\d{1,5})h)?(?:(?P<minutes>\d{1,6})m)?", re.ASCII)


class IntentKind(StrEnum):
    """`pause`: take no work until told otherwise, or for a while. `drain`: finish what was taken, then stop, and stay stopped."""

    WORK = "work"
    PAUSE = "pause"
    DRAIN = "drain"


class Intent(BaseModel):
    """`since`: when it was told; None for a node that was never told anything. `until`: when a pause ends by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IntentKind = IntentKind.WORK
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None

    def kind_at(self, now: datetime) -> IntentKind:
        """What holds now: a pause that is over means work."""
        return IntentKind.WORK if self.until is not None and self.until <= now else self.kind


def duration_parse(text: str) -> timedelta:
    """`90m`, `2h`, `1d12h`: at least a minute, at most a year. Raises ValueError, which says so."""
    match = _DURATION.fullmatch(text.strip().lower())
    found = timedelta(**{name: int(count) for name, count in match.groupdict(default="0").items()}) if match else timedelta()
    if not timedelta() < found <= timedelta(days=PAUSE_DAYS_MAX):
        raise ValueError(f"expected a duration such as 90m, 2h or 1d12h, of at most {PAUSE_DAYS_MAX} days; found {text!r}")
    return found
