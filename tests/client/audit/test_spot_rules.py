"""The draw of `spot` jobs: bound before it is made, checked when its key is published."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from client.audit.findings import FindingCode
from tests.client.audit.conftest import Audit
from tests.factories.logs import Leaf, LogMaker, log_make
from workers.protocol.leaves import spot_chosen

SECRET = bytes(range(32))


def found(audit: Audit, log: LogMaker) -> set[FindingCode]:
    return set(audit(log.leaves).findings.counts)


def of_kind(log: LogMaker, kind: str) -> list[Leaf]:
    return [leaf for leaf in log.leaves if leaf["kind"] == kind]


def drawn(*, share: str = "0.5", quorum: int = 1, chosen: bool | None = None, publish_first: bool = False, commit: bool = True) -> LogMaker:
    """A log with one draw."""
    log = LogMaker()
    person, spot_key, job = log.uuid(), log.uuid(), log.uuid()
    log.grant(person, 100)
    host = log.host()
    if commit:
        log.spot_commitment(spot_key, SECRET)
    if publish_first:
        log.spot_key(spot_key, SECRET)
    log.reservation(job, person, 10)
    is_chosen = spot_chosen(secret=SECRET, job_id=job, share=0.5) if chosen is None else chosen
    log.receipt(job, host, accepted=False, quorum=quorum, spot={"spot_key": str(spot_key), "share": share, "chosen": is_chosen})
    return log


def test_a_draw_can_be_checked_once_its_key_is_published(audit: Audit) -> None:
    log = log_make()
    report = audit(log.leaves[:-1])
    assert report.is_clean
    assert (report.counts.spot_choices, report.counts.spot_choices_open) == (4, 4)
    report = audit(log.leaves)
    assert report.is_clean
    assert (report.counts.spot_choices, report.counts.spot_choices_open) == (4, 0)


def test_a_job_that_was_chosen_and_is_said_not_to_be(audit: Audit) -> None:
    log = log_make()
    leaf = next(leaf for leaf in of_kind(log, "receipt") if leaf["spot"])
    for other in of_kind(log, "receipt"):
        if other["job"] == leaf["job"]:
            other["spot"]["chosen"] = not other["spot"]["chosen"]
            other["quorum"] = 2
    report = audit(log.leaves)
    assert FindingCode.SPOT_CHOICE_WRONG in report.findings.counts
    assert log.leaves.index(leaf) in {one.leaf for one in report.findings.kept if one.code == FindingCode.SPOT_CHOICE_WRONG}


def test_a_chosen_job_that_asks_nobody_else(audit: Audit) -> None:
    assert found(audit, drawn(chosen=True)) == {FindingCode.SPOT_QUORUM_LOW}


def test_a_key_that_is_not_committed_to_before_it_chooses(audit: Audit) -> None:
    assert found(audit, drawn(commit=False, quorum=2)) == {FindingCode.SPOT_KEY_UNCOMMITTED}


def test_a_key_that_is_public_before_the_job_is_concluded(audit: Audit) -> None:
    log = drawn(publish_first=True)
    of_kind(log, "receipt")[0]["quorum"] = 2
    assert found(audit, log) == {FindingCode.SPOT_KEY_EARLY}


@pytest.mark.parametrize("share", ["0", "1.5", "nan", "half", "0.50", "-0.5", ""])
def test_a_share_that_is_none(audit: Audit, share: str) -> None:
    assert found(audit, drawn(share=share, chosen=False)) == {FindingCode.SPOT_CHOICE_WRONG}


def another_secret(log: LogMaker) -> None:
    of_kind(log, "spot_key")[0]["secret"] = "00" * 32


def no_commitment(log: LogMaker) -> None:
    log.spot_key(UUID(int=9), SECRET)


def committed_twice(log: LogMaker) -> None:
    log.spot_commitment(UUID(of_kind(log, "spot_commitment")[0]["spot_key"]), bytes(32))
    log.leaves[-1]["key"] += "-again"


def published_twice(log: LogMaker) -> None:
    log.spot_key(UUID(of_kind(log, "spot_key")[0]["spot_key"]), SECRET)
    log.leaves[-1]["key"] += "-again"


@pytest.mark.parametrize(
    ("cheat", "codes"),
    [
        (another_secret, {FindingCode.SPOT_KEY_WRONG}),
        (no_commitment, {FindingCode.SPOT_KEY_UNCOMMITTED}),
        (committed_twice, {FindingCode.SPOT_KEY_REPEATED, FindingCode.KEY_WRONG}),
        (published_twice, {FindingCode.SPOT_KEY_REPEATED, FindingCode.KEY_WRONG}),
    ],
)
def test_a_key_that_is_not_what_was_committed_to(audit: Audit, cheat: Callable[[LogMaker], None], codes: set[FindingCode]) -> None:
    log = log_make()
    cheat(log)
    assert found(audit, log) == codes
