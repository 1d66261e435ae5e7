"""What a contributor tells a node: kept whole, and refused when it can't be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workers.home import HomeDamagedError
from workers.intent import Intent, IntentKind, duration_parse
from workers.intent_file import HomeDrainedError, drained_check, intent_read, intent_write

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90m", timedelta(minutes=90)),
        ("2h", timedelta(hours=2)),
        ("1d12h", timedelta(days=1, hours=12)),
        (" 1D 1h".replace(" ", ""), timedelta(days=1, hours=1)),
        ("366d", timedelta(days=366)),
    ],
)
def test_durations(text: str, found: timedelta) -> None:
    assert duration_parse(text) == found


@pytest.mark.parametrize("text", ["", "0m", "2", "h", "-2h", "2h 3x", "1.5h", "12h1d", "367d", "٣h", "99999999m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 90m"):
        duration_parse(text)


def test_pause_ends_by_itself_when_it_was_for_a_while() -> None:
    pause = Intent(kind=IntentKind.PAUSE, since=NOW, until=NOW + timedelta(hours=2))
    assert pause.kind_at(NOW + timedelta(hours=2, seconds=-1)) is IntentKind.PAUSE
    assert pause.kind_at(NOW + timedelta(hours=2)) is IntentKind.WORK
    assert Intent(kind=IntentKind.PAUSE, since=NOW).kind_at(NOW + timedelta(days=1000)) is IntentKind.PAUSE


def test_intent_is_kept(tmp_path: Path) -> None:
    assert intent_read(tmp_path) == Intent()
    told = Intent(kind=IntentKind.PAUSE, since=NOW, until=NOW + timedelta(hours=2))
    intent_write(tmp_path, told)
    assert intent_read(tmp_path) == told
    assert [path.name for path in tmp_path.iterdir()] == ["intent.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "dance"}', '{"kind": "pause", "since": "2026-11-23T12:00:00"}'])
def test_intent_that_cannot_be_read_says_how_to_mend_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "intent.json").write_text(text)
    with pytest.raises(HomeDamagedError, match="nexa resume"):
        intent_read(tmp_path)


def test_intent_that_is_a_folder_is_named_both_ways(tmp_path: Path) -> None:
    (tmp_path / "intent.json").mkdir()
    with pytest.raises(HomeDamagedError, match="can't be read"):
        intent_read(tmp_path)
    with pytest.raises(HomeDamagedError, match="can't be written"):
        intent_write(tmp_path, Intent())


def test_drained_node_starts_only_to_report_what_it_owes(tmp_path: Path) -> None:
    drained_check(tmp_path, owed=False)
    intent_write(tmp_path, Intent(kind=IntentKind.DRAIN, since=NOW))
    drained_check(tmp_path, owed=True)
    with pytest.raises(HomeDrainedError, match="nexa resume"):
        drained_check(tmp_path, owed=False)
