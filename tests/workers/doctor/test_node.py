"""Checks of the node: settings, key, worker, manners, and what the portal thinks of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from workers.doctor.findings import Level
from workers.doctor.node import key_check, manners_check, settings_check, standing_check, worker_check
from workers.home import HomeLock, NodeHome
from workers.intent import Intent, IntentKind
from workers.intent_file import intent_write
from workers.journal import Fact, Journal
from workers.manners import Manners
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.exchange import Command, CommandKind
from workers.protocol.strict_base64 import base64_encode


@pytest.fixture
def journal(home: NodeHome) -> Iterator[Journal]:
    journal = Journal.open(home.journal_path)
    yield journal
    journal.close()


@pytest.fixture
def running(home: NodeHome) -> Iterator[HomeLock]:
    """A worker, as far as anybody else can tell."""
    lock = home.lock()
    yield lock
    lock.release()


def test_settings_that_are_well_and_that_lend_what_is_not_there(home: NodeHome) -> None:
    assert settings_check(home).level is Level.OK
    home.settings_path.write_text('[lend]\ngpus = ["GPU-x"]\n')
    finding = settings_check(home)
    assert finding.level is Level.FAIL
    assert "GPU-x" in finding.found


def test_key_that_is_well(home: NodeHome) -> None:
    finding = key_check(home)
    assert (finding.level, finding.found) == (Level.OK, home.identity().key_id)


def test_key_that_others_may_read(home: NodeHome) -> None:
    (home.folder / "key").chmod(0o644)
    finding = key_check(home)
    assert finding.level is Level.FAIL
    assert "mode 644" in finding.found


def test_key_of_another_node(home: NodeHome) -> None:
    (home.folder / "key").write_text(base64_encode(PrivateKey.generate().raw) + "\n")
    finding = key_check(home)
    assert finding.level is Level.FAIL
    assert home.identity().key_id in finding.found


def test_worker_that_does_not_run_and_one_that_does(home: NodeHome, journal: Journal) -> None:
    finding = worker_check(home)
    assert (finding.level, finding.found) == (Level.WARN, "none runs")
    assert "nexa worker" in finding.advice
    lock = home.lock()
    try:
        assert worker_check(home).found.startswith("runs, but has not tried to reach the portal")
        journal.fact_note(Fact.PORTAL, "ok")
        assert worker_check(home).level is Level.OK
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("kind", "said"), [(IntentKind.PAUSE, "paused, and not running"), (IntentKind.DRAIN, "drained, and stays stopped")]
)
def test_worker_that_was_told_not_to_work(home: NodeHome, kind: IntentKind, said: str) -> None:
    intent_write(home.folder, Intent(kind=kind))
    finding = worker_check(home)
    assert (finding.level, finding.found) == (Level.WARN, said)
    assert "nexa resume" in finding.advice


def test_journal_that_is_none(home: NodeHome) -> None:
    home.journal_path.write_bytes(b"no database at all" * 100)
    assert worker_check(home).level is Level.FAIL


def test_manners_tell_what_holds_this_host(home: NodeHome) -> None:
    assert manners_check(Manners(hot_celsius=150, pause_on_battery=False), home).level is Level.OK
    intent_write(home.folder, Intent(kind=IntentKind.PAUSE))
    finding = manners_check(Manners(), home)
    assert finding.level is Level.WARN
    assert "paused by its owner" in finding.found


def test_intent_that_cannot_be_read_is_told_with_its_cure(home: NodeHome) -> None:
    (home.folder / "intent.json").write_text("{")
    finding = manners_check(Manners(), home)
    assert finding.level is Level.FAIL
    assert "nexa resume" in finding.found


def test_standing_of_an_active_node_is_asked_without_asking_for_work(home: NodeHome, portal: FakePortal) -> None:
    assert standing_check(home).level is Level.OK
    (exchange,) = portal.exchanges
    assert (exchange.free.slots, exchange.leases, exchange.wait_seconds) == (0, (), 0)
    home.lock().release()


def test_standing_of_a_paused_node(home: NodeHome, portal: FakePortal) -> None:
    portal.commands.append(Command(kind=CommandKind.PAUSE, reason="This node is quarantined: a moderator looks at its results."))
    finding = standing_check(home)
    assert finding.level is Level.WARN
    assert "quarantined" in finding.found


def test_standing_of_a_revoked_node(home: NodeHome, portal: FakePortal) -> None:
    portal.refusals["/api/v1/exchange"] = RefusedError(403, "node_revoked", "This node was revoked.")
    finding = standing_check(home)
    assert finding.level is Level.FAIL
    assert "node_revoked" in finding.found


def test_standing_that_cannot_be_asked(home: NodeHome, portal: FakePortal) -> None:
    portal.outage = True
    assert standing_check(home).level is Level.WARN


@pytest.mark.parametrize(
    ("heard", "state", "level"),
    [
        ("ok", "working", Level.OK),
        ("ok", "paused", Level.WARN),
        ("ok", "draining", Level.WARN),
        ("node_revoked: no", "working", Level.WARN),
        (None, None, Level.WARN),
    ],
)
def test_running_worker_keeps_the_conversation_to_itself(  # noqa: PLR0917  parameters of pytest
    home: NodeHome, portal: FakePortal, journal: Journal, running: HomeLock, heard: str | None, state: str | None, level: Level
) -> None:
    for fact, value in ((Fact.PORTAL, heard), (Fact.STATE, state)):
        if value is not None:
            journal.fact_note(fact, value)
    assert standing_check(home).level is level
    assert portal.exchanges == []


def test_running_worker_without_a_journal_yet(home: NodeHome, running: HomeLock, tmp_path: Path) -> None:
    assert standing_check(home).level is Level.WARN
