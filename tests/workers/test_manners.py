"""The rules of manners: a reading of a machine and what its owner told go in, holds come out. No machine takes part."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from workers.caps import NodeSettings
from workers.home import HomeDamagedError
from workers.intent import Intent, IntentKind
from workers.manners import HoldCode, MachineReading, Manners, holds

ZONE = timezone(timedelta(hours=5, minutes=30))
MONDAY_NOON = datetime(2026, 11, 23, 12, tzinfo=ZONE)
AT_EASE = MachineReading(local=MONDAY_NOON)
STRICT = Manners.model_validate({"pause_when_active": True, "idle_minutes": 10})


def codes(manners: Manners, reading: MachineReading, intent: Intent | None = None, before: tuple[str, ...] = ()) -> list[str]:
    return [hold.code for hold in holds(manners, intent or Intent(), reading, before=before)]


def test_machine_that_tells_nothing_holds_nothing() -> None:
    assert codes(STRICT, AT_EASE) == []


@pytest.mark.parametrize(("on_battery", "wanted", "found"), [(True, True, True), (False, True, False), (True, False, False)])
def test_battery(on_battery: bool, wanted: bool, found: bool) -> None:
    manners = Manners(pause_on_battery=wanted)
    assert codes(manners, MachineReading(MONDAY_NOON, on_battery=on_battery)) == ([HoldCode.ON_BATTERY] if found else [])


def test_user_is_active_until_idle_for_the_time_that_the_contributor_set() -> None:
    assert codes(STRICT, MachineReading(MONDAY_NOON, idle_seconds=599)) == [HoldCode.USER_ACTIVE]
    assert codes(STRICT, MachineReading(MONDAY_NOON, idle_seconds=600)) == []
    assert codes(Manners(), MachineReading(MONDAY_NOON, idle_seconds=1)) == []


def test_hours_are_of_the_wall_clock_and_the_next_ones_are_told() -> None:
    manners = Manners.model_validate({"hours": ["mon-fri 19:00-07:00"]})
    (hold,) = holds(manners, Intent(), AT_EASE, before=())
    assert hold.code == HoldCode.OUTSIDE_HOURS
    assert "mon-fri 19:00-07:00" in hold.message
    assert "Monday at 19:00" in hold.message
    # 19:00 here is 13:30 in Greenwich: the machine's own zone counts.
    assert codes(manners, MachineReading(MONDAY_NOON.replace(hour=19))) == []


@pytest.mark.parametrize("sensor", ["cpu_celsius", "gpu_celsius"])
def test_heat_holds_until_it_is_well_below_the_limit(sensor: str) -> None:
    manners = Manners(hot_celsius=80, gpu_hot_celsius=80, cool_by_celsius=10)

    def at(celsius: float, *before: str) -> list[str]:
        is_cpu = sensor == "cpu_celsius"
        reading = MachineReading(MONDAY_NOON, cpu_celsius=celsius if is_cpu else 20, gpu_celsius=20 if is_cpu else celsius)
        return codes(manners, reading, before=before)

    assert at(79.9) == []
    assert at(80) == [HoldCode.TOO_HOT]
    assert at(79.9, HoldCode.TOO_HOT) == [HoldCode.TOO_HOT]
    assert at(70, HoldCode.TOO_HOT, HoldCode.ON_BATTERY) == [HoldCode.TOO_HOT]
    assert at(69.9, HoldCode.TOO_HOT) == []
    assert at(75) == []


def test_what_the_owner_told_comes_first_and_hides_no_heat() -> None:
    reading = MachineReading(MONDAY_NOON, on_battery=True, idle_seconds=0, cpu_celsius=99)
    for kind, code in ((IntentKind.DRAIN, HoldCode.DRAINING), (IntentKind.PAUSE, HoldCode.PAUSED_BY_OWNER)):
        found = codes(STRICT, reading, Intent(kind=kind))
        assert found == [code, HoldCode.ON_BATTERY, HoldCode.USER_ACTIVE, HoldCode.TOO_HOT]


def test_pause_for_a_while_tells_its_end_by_the_wall_clock() -> None:
    pause = Intent(kind=IntentKind.PAUSE, since=MONDAY_NOON, until=MONDAY_NOON + timedelta(hours=2))
    (hold,) = holds(Manners(), pause, AT_EASE, before=())
    assert "until 2026-11-23 14:00" in hold.message
    assert codes(Manners(), MachineReading(MONDAY_NOON + timedelta(hours=2)), pause) == []


def test_sentences_do_not_change_from_look_to_look() -> None:
    first = MachineReading(MONDAY_NOON, on_battery=True, idle_seconds=3, cpu_celsius=95)
    second = MachineReading(MONDAY_NOON + timedelta(seconds=5), on_battery=True, idle_seconds=8, cpu_celsius=96.5)
    found = holds(STRICT, Intent(kind=IntentKind.PAUSE), first, before=())
    assert holds(STRICT, Intent(kind=IntentKind.PAUSE), second, before=[hold.code for hold in found]) == found


def test_section_of_node_toml(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[manners]\nhours = ["mon-fri 19:00-07:00", "sat,sun"]\npause_when_active = true\nhot_celsius = 75\n')
    manners = NodeSettings.read(path).manners
    assert [span.text for span in manners.hours] == ["mon-fri 19:00-07:00", "sat,sun"]
    assert manners.pause_when_active
    assert manners.pause_on_battery
    assert manners.hot_celsius == 75


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('hours = ["monday"]', r"manners\.hours\.0: .*expected days, hours or both"),
        ('hours = "mon"', r"manners\.hours"),
        ("hours = [7]", r"manners\.hours"),
        ("idle_minutes = 0", r"manners\.idle_minutes"),
        ("hot_celsius = nan", r"manners\.hot_celsius"),
        ("cool_by_celsius = 0", r"manners\.cool_by_celsius"),
        ("pause_on_batery = true", r"manners\.pause_on_batery"),
    ],
)
def test_setting_that_means_nothing_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"[manners]\n{line}\n")
    with pytest.raises(HomeDamagedError, match=said):
        NodeSettings.read(path)
