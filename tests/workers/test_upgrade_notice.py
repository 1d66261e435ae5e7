"""That other host software is wanted: in the log once a day, whatever restarts; in the journal as long as it is so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workers.journal import Fact, Journal
from workers.upgrade_notice import UpgradeNotice


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path / "journal.sqlite3")
    yield journal
    journal.close()


def notice(journal: Journal, hours: float) -> UpgradeNotice:
    """Of a worker that was started so much later than now."""
    return UpgradeNotice(journal, now=lambda: datetime.now(UTC) + timedelta(hours=hours))


def test_it_is_told_once_a_day(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    for hours in (0, 0, 1, 23):
        notice(journal, hours).hear("Have 2.0.")
    assert caplog.messages == ["other host software is wanted: Have 2.0."]
    notice(journal, 25).hear("Have 2.0.")
    assert len(caplog.messages) == 2


def test_another_reason_is_told_at_once(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    told = notice(journal, 0)
    told.hear("Have 2.0.")
    told.hear("Have 3.0.")
    assert [message[-4:] for message in caplog.messages] == ["2.0.", "3.0."]
    assert journal.fact(Fact.UPGRADE) == "Have 3.0."


def test_it_is_forgotten_when_nothing_is_wanted(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    told = notice(journal, 0)
    told.hear("")
    assert journal.fact(Fact.UPGRADE) is None, "nothing is written where nothing was told"
    told.hear("Have 2.0.")
    told.hear("")
    assert journal.fact(Fact.UPGRADE) == ""
    assert len(caplog.messages) == 1
