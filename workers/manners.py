"""Manners: when this host wants no work, because the machine is its owner's. The rules, and the section of `node.toml` that sets them.

[manners]
hours = ["mon-fri 19:00-07:00", "sat,sun"]   # when to take work, in local time (see workers/hours.py); default: always
pause_on_battery = true        # default: true
pause_when_active = true       # while somebody uses the machine; default: false
idle_minutes = 10              # without input for so long, nobody does
hot_celsius = 90               # the processor this hot: no more work
gpu_hot_celsius = 85           # likewise a GPU
cool_by_celsius = 10           # until all are this much below

Each reason to take no work is a *hold*, a code and a sentence. In this order, the first being the one that is told:

1. `draining`           the contributor said `nexa drain`
2. `paused_by_owner`    the contributor said `nexa pause`
3. `outside_hours`      it is none of `hours`
4. `on_battery`         the machine has a battery and no mains power
5. `user_active`        somebody who is logged in touched keyboard or mouse within `idle_minutes`
6. `too_hot`            a sensor is at its limit, or was and has not cooled down since

What the machine does not tell (None) holds nothing. A hold keeps new work away; what was taken before it is finished. The sentences leave
out anything that changes from one look to the next, and say nothing about a person but that there is one: the portal shows them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from workers.hours import Span, minutes_until, next_begin
from workers.intent import Intent, IntentKind
from workers.protocol.messages.exchange import MachineLoad, NoWork
from workers.protocol.plurals import counted

Celsius = Annotated[float, Field(gt=0, le=150)]


class HoldCode(StrEnum):
    """Stable: `nexa status`, the portal and docs/host.md name holds by these."""

    DRAINING = "draining"
    PAUSED_BY_OWNER = "paused_by_owner"
    OUTSIDE_HOURS = "outside_hours"
    ON_BATTERY = "on_battery"
    USER_ACTIVE = "user_active"
    TOO_HOT = "too_hot"


def _span_parse(value: object) -> object:
    return Span.parse(value) if isinstance(value, str) else value


class Manners(BaseModel):
    """The section `[manners]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    hours: tuple[Annotated[Span, BeforeValidator(_span_parse)], ...] = ()
    pause_on_battery: bool = True
    pause_when_active: bool = False
    idle_minutes: Annotated[float, Field(gt=0, le=1440)] = 10
    hot_celsius: Celsius = 90
    gpu_hot_celsius: Celsius = 85
    cool_by_celsius: Annotated[float, Field(ge=1, le=50)] = 10


@dataclass(frozen=True)
class MachineReading:
    """What the machine tells at one moment. None: it does not tell, or has no such thing.

    `local`: an aware time in the machine's own zone. `idle_seconds`: since the last input of anybody who is logged in; None also when
    nobody is. Temperatures are the highest of their kind; percentages are those of MachineLoad.
    """

    local: datetime
    on_battery: bool | None = None
    idle_seconds: float | None = None
    cpu_celsius: float | None = None
    gpu_celsius: float | None = None
    cpu_percent: float | None = None
    memory_percent: float | None = None
    gpu_percent: float | None = None

    @property
    def load(self) -> MachineLoad:
        """What of it the portal is told: nothing about users, battery or time."""
        return MachineLoad(
            cpu_percent=self.cpu_percent,
            memory_percent=self.memory_percent,
            gpu_percent=self.gpu_percent,
            cpu_celsius=self.cpu_celsius,
            gpu_celsius=self.gpu_celsius,
        )


def holds(manners: Manners, intent: Intent, reading: MachineReading, *, before: Collection[str]) -> tuple[NoWork, ...]:
    """All reasons to take no work now, in the order above; () when there is none. `before`: the codes of the last look's."""
    found = (
        _told(intent, reading),
        _hours(manners, reading),
        _battery(manners, reading),
        _user(manners, reading),
        _heat(manners, reading, was_hot=HoldCode.TOO_HOT in before),
    )
    return tuple(hold for hold in found if hold is not None)


def _told(intent: Intent, reading: MachineReading) -> NoWork | None:
    match intent.kind_at(reading.local):
        case IntentKind.WORK:
            return None
        case IntentKind.DRAIN:
            return NoWork(
                code=HoldCode.DRAINING, message="This host finishes what it has and then stops, as its owner told it (nexa drain)."
            )
        case IntentKind.PAUSE:
            end = f" until {intent.until.astimezone(reading.local.tzinfo):%Y-%m-%d %H:%M}" if intent.until else ""
            message = f"This host was paused by its owner{end}. It goes on after `nexa resume`."
            return NoWork(code=HoldCode.PAUSED_BY_OWNER, message=message)


def _hours(manners: Manners, reading: MachineReading) -> NoWork | None:
    if minutes_until(manners.hours, reading.local) == 0:
        return None
    hours = ", ".join(span.text for span in manners.hours)[:300]
    message = f"This host takes work at its owner's hours only ({hours}). The next begin on {next_begin(manners.hours, reading.local)}."
    return NoWork(code=HoldCode.OUTSIDE_HOURS, message=message)


def _battery(manners: Manners, reading: MachineReading) -> NoWork | None:
    if not (manners.pause_on_battery and reading.on_battery):
        return None
    return NoWork(code=HoldCode.ON_BATTERY, message="This host runs on battery. It takes work again when it has mains power.")


def _user(manners: Manners, reading: MachineReading) -> NoWork | None:
    idle_seconds = reading.idle_seconds
    if not manners.pause_when_active or idle_seconds is None or idle_seconds >= manners.idle_minutes * 60:
        return None
    message = f"Somebody uses this machine. It takes work after {counted(manners.idle_minutes, 'minute')} without input."
    return NoWork(code=HoldCode.USER_ACTIVE, message=message)


def _heat(manners: Manners, reading: MachineReading, *, was_hot: bool) -> NoWork | None:
    margin = manners.cool_by_celsius if was_hot else 0
    sensors = (
        ("processor", reading.cpu_celsius, manners.hot_celsius),
        ("GPU", reading.gpu_celsius, manners.gpu_hot_celsius),
    )
    for name, celsius, limit in sensors:
        if celsius is not None and celsius >= limit - margin:
            cool = limit - manners.cool_by_celsius
            message = f"This machine got too hot. It takes work again when its {name} is below {cool:g} °C."
            return NoWork(code=HoldCode.TOO_HOT, message=message)
    return None
