"""When a contributor lets this machine work: spans of the week by the clock on its wall.

    mon-fri 19:00-07:00     from each of these days' 19:00 to 07:00 on the day after, the end being earlier than the start
    sat,sun                 whole days
    22:00-06:00             every day

Local time as people read it: a night in which the clock is set back has one hour more. Pure: no clock is read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * _DAY_MINUTES

_SPAN: Final = re.compile(r"(?:(?P<days>[a-z]{3}(?:[-,][a-z]{3})*)\s*)?(?:(?P<start>\d{1,2}:\d\d)\s*-\s*(?P<end>\d{1,2}:\d\d))?", re.ASCII)


@dataclass(frozen=True)
class Span:
    """The same hours on some days. `days` count from Monday, 0; `start` and `minutes` are minutes; a span may run into the next day."""

    text: str
    days: frozenset[int]
    start: int
    minutes: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, which says what is expected."""
        match = _SPAN.fullmatch(text.strip().lower())
        if match is None or not match[0]:
            raise ValueError(f"expected days, hours or both, as in 'mon-fri 19:00-07:00' or 'sat,sun'; found {text!r}")
        days = _days_parse(match["days"]) if match["days"] else frozenset(range(7))
        start = _minute_parse(match["start"]) if match["start"] else 0
        end = _minute_parse(match["end"]) if match["end"] else _DAY_MINUTES
        if start in {_DAY_MINUTES, end}:
            raise ValueError(f"expected hours that begin before 24:00 and don't end when they begin; found {text!r}")
        return cls(text.strip(), days, start, (end - start) % _DAY_MINUTES or _DAY_MINUTES)

    def minutes_until(self, minute: int) -> int:
        """From a minute of the week to the span's next begin; 0 while it lasts."""
        begins = [day * _DAY_MINUTES + self.start for day in self.days]
        if any((minute - begin) % _WEEK_MINUTES < self.minutes for begin in begins):
            return 0
        return min((begin - minute) % _WEEK_MINUTES for begin in begins)


def minutes_until(spans: tuple[Span, ...], local: datetime) -> int:
    """From `local`, a time on the machine's wall, to the next of the spans; 0 while one lasts, and without any."""
    return min((span.minutes_until(_minute_of_week(local)) for span in spans), default=0)


def next_begin(spans: tuple[Span, ...], local: datetime) -> str:
    """The next begin in words, such as `Friday at 19:00`."""
    day, minute = divmod((_minute_of_week(local) + minutes_until(spans, local)) % _WEEK_MINUTES, _DAY_MINUTES)
    return f"{_DAY_NAMES[day]} at {minute // 60:02}:{minute % 60:02}"


def _minute_of_week(local: datetime) -> int:
    return local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute


def _days_parse(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        unknown = [name for name in ends if name not in DAYS]
        if unknown or len(ends) > 2:
            raise ValueError(f"expected days of {', '.join(DAYS)}, or a range such as mon-fri; found {part!r}")
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found |= {(first + offset) % 7 for offset in range((last - first) % 7 + 1)}
    return frozenset(found)


def _minute_parse(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > _DAY_MINUTES:
        raise ValueError(f"expected a time from 00:00 to 24:00; found {text!r}")
    return hour * 60 + minute
