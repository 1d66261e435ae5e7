"""Restores from a backup: what the coordinator admits is told, what it does not admit is a fork."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.audit.auditing import Report
from client.audit.errors import SourceError
from client.audit.findings import FindingCode
from client.audit.last_run import Memory
from tests.client.audit.conftest import Audit
from tests.client.audit.test_log import long_log
from tests.factories.logs import COORDINATOR, LOG, LogFolder
from workers.protocol.canonical import canonical_json
from workers.protocol.epochs import ContinuedLog, Epoch, EpochInvalidError, epoch_sign
from workers.protocol.errors import KeyWrongError, VerificationError
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import leaf_hash, tree_root
from workers.protocol.signed_note import Checkpoint, note_sign
from workers.protocol.strict_base64 import base64_encode

STRANGER = PrivateKey.from_raw(b"\x77" * 32)


def root_of(leaves: list[bytes]) -> bytes:
    return tree_root([leaf_hash(leaf) for leaf in leaves])


def note_of(leaves: list[bytes], *, log: str = LOG, key: PrivateKey = COORDINATOR) -> str:
    return note_sign(Checkpoint(log, len(leaves), root_of(leaves)).to_text(), log, key).decode()


def epoch_of(
    number: int, continued: list[bytes], *, after: int = 1, published: str | None = None, key: PrivateKey = COORDINATOR
) -> dict[str, Any]:
    """The envelope of an epoch that goes on from these leaves of the epoch `after`."""
    log = LOG if after == 1 else f"{LOG}/{after}"
    statement = Epoch(
        number=number,
        origin=f"{LOG}/{number}",
        continues=ContinuedLog(origin=log, size=len(continued), root=base64_encode(root_of(continued))),
        published=published,
        reason="the disk died",
        began_at=datetime(2027, 2, 1, tzinfo=UTC),
    )
    return dict(json.loads(epoch_sign(statement, key=key)))


def log_of(folder: Path, leaves: list[bytes], *envelopes: dict[str, Any], log: str | None = None) -> Path:
    """A log in the epoch of the last envelope."""
    log = log or (f"{LOG}/{len(envelopes) + 1}" if envelopes else LOG)
    written = LogFolder(folder, log=log)
    written.append(leaves)
    written.sign()
    documents = [{"number": 0, "origin": "", "envelope": envelope} for envelope in envelopes]
    written.write("ledger/epochs", canonical_json({"origin": log, "epochs": documents}))
    return folder


def forked(report: Report) -> bool:
    return FindingCode.LOG_FORKED in report.findings.counts


LEAVES = long_log(30)
OTHER = long_log(40)[30:]


def test_a_restore_that_lost_nothing_is_consistent_and_says_nothing(audit: Audit, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:20])).is_clean
    epoch = epoch_of(2, LEAVES[:25], published=note_of(LEAVES[:25]))
    report = audit(log_of(tmp_path / "2", LEAVES, epoch))
    assert report.is_clean
    assert report.log == f"{LOG}/2"
    assert report.findings.warnings == []


def test_leaves_lost_in_a_restore_are_told_with_their_number_and_are_no_fork(audit: Audit, memory: Memory, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:20])).is_clean
    epoch = epoch_of(2, LEAVES[:15], published=note_of(LEAVES[:20]))
    report = audit(log_of(tmp_path / "2", [*LEAVES[:15], *OTHER], epoch))
    assert report.is_clean, report.findings.kept
    said = " ".join(report.findings.warnings)
    assert "lost 5 published leaves" in said
    assert "the disk died" in said
    assert "The 5 newest of the 20 leaves" in said
    last = memory.load(LOG)
    assert last is not None
    assert (last.checkpoint.origin, last.checkpoint.size) == (f"{LOG}/2", 25)
    assert audit(log_of(tmp_path / "3", [*LEAVES[:15], *OTHER, *LEAVES[20:]], epoch)).is_clean


def test_a_restore_whose_loss_nobody_knows_says_that(audit: Audit, tmp_path: Path) -> None:
    report = audit(log_of(tmp_path / "2", LEAVES, epoch_of(2, LEAVES[:15])))
    assert report.is_clean
    assert "an unknown number of published leaves" in report.findings.warnings[0]


def test_leaves_that_the_statement_says_were_kept_and_that_are_others_are_a_fork(audit: Audit, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:15])).is_clean
    rewritten = [OTHER[0], *LEAVES[1:20]]
    report = audit(log_of(tmp_path / "2", rewritten, epoch_of(2, rewritten[:15])))
    assert forked(report)
    assert report.proof is not None
    assert "epochs:" in report.proof.read_text()


def test_a_log_that_does_not_begin_with_what_its_statement_says_is_a_fork(audit: Audit, tmp_path: Path) -> None:
    assert forked(audit(log_of(tmp_path / "2", [OTHER[0], *LEAVES[1:]], epoch_of(2, LEAVES[:15]))))


def test_a_log_smaller_than_its_statement_says_is_a_fork(audit: Audit, tmp_path: Path) -> None:
    assert forked(audit(log_of(tmp_path / "2", LEAVES[:10], epoch_of(2, LEAVES[:15]))))


def test_a_published_checkpoint_that_the_log_does_not_continue_is_a_fork(audit: Audit, tmp_path: Path) -> None:
    epoch = epoch_of(2, LEAVES[:15], published=note_of([OTHER[0], *LEAVES[1:12]]))
    assert forked(audit(log_of(tmp_path / "2", LEAVES, epoch)))


def test_a_published_checkpoint_that_is_another_than_the_last_run_saw_is_a_fork(audit: Audit, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:20])).is_clean
    epoch = epoch_of(2, LEAVES[:15], published=note_of([*LEAVES[:19], OTHER[0]]))
    assert forked(audit(log_of(tmp_path / "2", LEAVES, epoch)))


def test_a_rewritten_log_without_a_statement_is_a_fork_whatever_it_is_called(audit: Audit, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:20])).is_clean
    assert forked(audit(log_of(tmp_path / "2", [*LEAVES[:15], *OTHER])))
    with pytest.raises(KeyWrongError):
        audit(log_of(tmp_path / "3", [*LEAVES[:15], *OTHER], log=f"{LOG}/2"))


def test_an_epoch_that_is_gone_again_is_a_fork(audit: Audit, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:20], epoch_of(2, LEAVES[:15], published=note_of(LEAVES[:15])))).is_clean
    assert forked(audit(log_of(tmp_path / "2", LEAVES[:25])))


def test_an_epoch_whose_own_statement_was_lost_can_not_be_compared_and_that_is_told(audit: Audit, tmp_path: Path) -> None:
    second = [*LEAVES[:15], *OTHER]
    assert audit(log_of(tmp_path / "2", second, epoch_of(2, LEAVES[:15], published=note_of(LEAVES[:15])))).is_clean
    third = epoch_of(3, LEAVES, published=note_of(second, log=f"{LOG}/2"))
    report = audit(log_of(tmp_path / "3", LEAVES, third, log=f"{LOG}/3"))
    assert report.is_clean, report.findings.kept
    assert any("can't be compared" in warning for warning in report.findings.warnings)


def test_two_restores_in_a_row(audit: Audit, tmp_path: Path) -> None:
    assert audit(log_of(tmp_path / "1", LEAVES[:20])).is_clean
    second, third = epoch_of(2, LEAVES[:18]), epoch_of(3, LEAVES[:16], after=2)
    report = audit(log_of(tmp_path / "3", [*LEAVES[:16], *OTHER], second, third))
    assert forked(report), "epoch 3 can't begin with the 18 leaves of epoch 2 and have 16 of its own"


@pytest.mark.parametrize(
    "document", [b"[]", b'{"epochs":1}', b'{"epochs":[1]}', b'{"epochs":[{"number":2}]}', b'{"epochs":[{"envelope":[]}]}']
)
def test_a_list_of_epochs_that_is_none(audit: Audit, tmp_path: Path, document: bytes) -> None:
    folder = log_of(tmp_path / "1", LEAVES)
    (folder / "ledger/epochs").write_bytes(document)
    with pytest.raises(SourceError, match="epochs"):
        audit(folder)


def test_statements_that_the_coordinator_did_not_sign(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(KeyWrongError):
        audit(log_of(tmp_path / "1", LEAVES, epoch_of(2, LEAVES[:15], key=STRANGER)))
    with pytest.raises(VerificationError):
        audit(log_of(tmp_path / "2", LEAVES, epoch_of(2, LEAVES[:15], published=note_of(LEAVES[:15], key=STRANGER))))
    with pytest.raises(EpochInvalidError, match="not before it"):
        audit(log_of(tmp_path / "3", LEAVES, epoch_of(2, LEAVES[:15], published=note_of(LEAVES[:15], log=f"{LOG}/2"))))
