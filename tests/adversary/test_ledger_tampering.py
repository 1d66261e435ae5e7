"""The operator as the adversary: whoever owns the database, and even the coordinator's key, is found out by `nexa audit` from outside.

A real portal serves the log; the tests change its rows as the database's superuser, with all triggers off. What breaks hashes is found by
hashes; what is sequenced and signed like anything else is found by the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import pytest
from click.testing import CliRunner
from django.db import connection, transaction
from django.test import override_settings
from psycopg import sql

from client.cli import main
from jobs.models import Job
from jobs.services.disputes import dispute_rule
from jobs.services.settlement import job_settle
from jobs.states import JobState
from ledger.append_only import APPEND_ONLY
from ledger.checkpoints import checkpoint_publish, log_origin
from ledger.coordinator_key import coordinator_private_key
from ledger.epochs import epoch_begin
from ledger.models import Checkpoint, LogItem, LogLeaf
from ledger.publication import PublishedAheadError
from tests.client.live_portal import LivePortal
from tests.factories.checking import job_check
from tests.factories.honest_ledger import WORTH, HonestLedger
from tests.factories.jobs import job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make
from tests.factories.receipts import FILES, replica_report
from tests.services import COORDINATOR_KEY_RAW
from workers.protocol import signed_note
from workers.protocol.canonical import canonical_json
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import CompactRange, leaf_hash

KEY_ID = PrivateKey.from_raw(COORDINATOR_KEY_RAW).public.key_id
STRANGER = PrivateKey.from_raw(b"\x77" * 32)
TABLES = ("ledger_account", "ledger_pendingitem", *APPEND_ONLY)


@pytest.fixture(scope="module")
def published_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the portal looks for files of the log. Tests publish elsewhere unless they say so: then readers see the database."""
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def portal(
    django_db_setup: None, django_db_blocker: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, published_root: Path
) -> Iterator[LivePortal]:
    """A running portal whose ledger has what an honest coordinator wrote."""
    live = LivePortal(django_db_blocker)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NEXA_LOG_ROOT", str(published_root))
        environment.setenv("NO_PROXY", "127.0.0.1,localhost")
        try:
            live.start(tmp_path_factory.mktemp("portal") / "web.log")
            yield live
        finally:
            live.stop()


@pytest.fixture
def ledger(portal: LivePortal) -> Iterator[HonestLedger]:
    """An honest ledger with a checkpoint, on the portal's database. Afterwards the database is as it was before."""
    with portal.database(), backup("clean") as restore:
        honest = HonestLedger().start()
        for hosts in (1, 2, 1):
            honest.conclude(hosts=hosts)
        checkpoint_publish()
        yield honest
        restore()


@pytest.fixture
def audit(portal: LivePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """`nexa audit URL --json` by one and the same auditor: the document, with the exit status as `exit`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")

    def audited() -> dict[str, Any]:
        done = CliRunner().invoke(main, ["audit", portal.origin, "--coordinator", KEY_ID, "--json"])
        assert isinstance(done.exception, SystemExit | None), done.exception
        return {**json.loads(done.stdout), "exit": done.exit_code}

    return audited


@contextmanager
def backup(name: str) -> Iterator[Callable[[], None]]:
    """A copy of the ledger's tables; what is yielded puts it back, as an operator restores a backup."""
    with superuser() as execute:
        for table in TABLES:
            execute(_sql("CREATE TABLE {copy} AS TABLE {table}", name, table))

    def restore() -> None:
        with superuser() as execute:
            for table in TABLES:
                execute(_sql("DELETE FROM {table}", name, table))
                execute(_sql("INSERT INTO {table} SELECT * FROM {copy}", name, table))

    try:
        yield restore
    finally:
        with superuser() as execute:
            for table in TABLES:
                execute(_sql("DROP TABLE {copy}", name, table))


def _sql(statement: LiteralString, name: str, table: str) -> sql.Composed:
    return sql.SQL(statement).format(copy=sql.Identifier(f"{name}_{table}"), table=sql.Identifier(table))


@contextmanager
def superuser() -> Iterator[Callable[..., None]]:
    """SQL with all triggers and foreign keys off."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor.execute


def leaf_rewrite(index: int, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Changes what the leaf's item says, and its hash with it; returns the new data."""
    item = LogItem.objects.get(leaf__index=index)
    document = json.loads(bytes(item.data))
    change(document)
    data = canonical_json(document)
    with superuser() as execute:
        execute("UPDATE ledger_logitem SET data = %s WHERE id = %s", [data, item.pk])
        execute("UPDATE ledger_logleaf SET hash = %s WHERE index = %s", [leaf_hash(data), index])
    return data


def log_sign_anew() -> None:
    """What the operator can do who has the coordinator's key: a checkpoint over whatever is there now, as if there had been no other."""
    tree = CompactRange()
    tree.extend(bytes(leaf) for leaf in LogLeaf.objects.order_by("index").values_list("hash", flat=True))
    origin = log_origin()
    note = signed_note.note_sign(signed_note.Checkpoint(origin, tree.size, tree.root()).to_text(), origin, coordinator_private_key())
    with superuser() as execute:
        execute("DELETE FROM ledger_checkpoint")
        execute(
            "INSERT INTO ledger_checkpoint (epoch, size, root, compact_range, note, created_at) VALUES (1, %s, %s, %s, %s, now())",
            [tree.size, tree.root(), json.dumps([one.hex() for one in tree.hashes]), note.decode()],
        )


def item_sneak(document: dict[str, Any]) -> None:
    """An item past all services and triggers; the sequencer takes it in and signs it like any other."""
    document = {"at": "2027-01-15T08:00:00+00:00", **document}
    with superuser() as execute:
        execute(
            "INSERT INTO ledger_logitem (kind, key, data, created_at) VALUES (%s, %s, %s, now())",
            [document["kind"], document["key"], canonical_json(document)],
        )
        execute("INSERT INTO ledger_pendingitem SELECT max(id) FROM ledger_logitem")
    checkpoint_publish()


def richer(document: dict[str, Any]) -> None:
    """A grant of ten times as much."""
    for posting in document["postings"]:
        posting["amount_micro"] += "0"


def index_of(kind: str) -> int:
    """The last leaf of this kind."""
    return int(LogLeaf.objects.filter(item__kind=kind).latest("index").index)


def codes(document: dict[str, Any]) -> set[str]:
    assert document["exit"] == 1, document
    assert document["clean"] is False
    return set(document["finding_counts"])


def leaves(document: dict[str, Any], code: str) -> list[int | None]:
    return [one["leaf"] for one in document["findings"] if one["code"] == code]


# --- nothing wrong ----------------------------------------------------------------------------------------------------


def test_an_honest_ledger_is_clean_and_stays_so_as_it_grows(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    first = audit()
    assert (first["exit"], first["clean"], first["findings"], first["size_before"]) == (0, True, [], None)
    assert first["size"] == LogLeaf.objects.count()
    assert first["counts"]["receipts"] == first["counts"]["payments"] == 4
    for _ in range(3):
        ledger.conclude(hosts=2)
    checkpoint_publish()
    second = audit()
    assert (second["exit"], second["clean"], second["findings"], second["size_before"]) == (0, True, [], first["size"])
    assert second["counts"]["payments"] == 10


def test_what_the_portal_settles_itself_is_clean_also_when_a_moderator_rules(
    ledger: HonestLedger, audit: Callable[[], dict[str, Any]]
) -> None:
    other = {**FILES, "summary.json": b"{}"}
    settled = [([FILES], JobState.COMPLETED), ([FILES, FILES], JobState.COMPLETED), ([FILES, other], JobState.DISPUTED)]
    for files, state in settled:
        job = job_make(verification={"method": "exact", "copies": len(files), "quorum": len(files)})
        Job.objects.filter(pk=job.pk).update(replicas_max=len(files))
        replicas = []
        for one in files:
            node, key = node_make(user_make())
            replicas.append(replica_report(job, one, node=node, key=key))
        job_check(job_id=job.pk)
        job_settle(job_id=job.pk)
        job.refresh_from_db()
        assert job.state == state
        if state == JobState.DISPUTED:
            dispute_rule(job=job, by=moderator_make(), canonical=replicas[0], reason="The other one is broken.")
    checkpoint_publish()
    found = audit()
    assert found["findings"] == []
    assert (found["counts"]["receipts"], found["counts"]["payments"]) == (4 + 5, 4 + 4)
    assert found["counts"]["jobs_ruled"] == 1


# --- history changed under a signature: found by hashes -----------------------------------------------------------------


def test_an_entry_that_was_altered_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    with superuser() as execute:
        execute(
            "UPDATE ledger_logitem SET data = convert_to(replace(convert_from(data, 'UTF8'), '1000000000', '9000000000'), 'UTF8') "
            "WHERE kind = 'grant'"
        )
        execute("UPDATE ledger_posting SET amount_micro = amount_micro * 9 WHERE abs(amount_micro) = 1000000000")
    found = audit()
    assert {"log_root_wrong", "tile_wrong"} <= codes(found)
    assert leaves(found, "tile_wrong")[0] == index_of("grant")


def test_an_entry_that_was_altered_with_its_hash_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    leaf_rewrite(index_of("grant"), richer)
    assert codes(audit()) == {"log_root_wrong"}


def test_an_altered_entry_is_found_also_when_the_log_has_grown_since(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    assert audit()["clean"]
    leaf_rewrite(index_of("grant"), richer)
    ledger.conclude()
    checkpoint_publish()
    found = audit()
    assert "log_root_wrong" in codes(found)
    assert "log_forked" not in found["finding_counts"], "what was never signed contradicts no signature"


def test_an_entry_that_was_removed_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    with superuser() as execute:
        execute("DELETE FROM ledger_logleaf WHERE index = %s", [index_of("grant")])
    assert codes(audit()) == {"log_incomplete"}


def test_an_entry_that_was_removed_without_leaving_a_gap_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    removed = index_of("payment")
    with superuser() as execute:
        execute("DELETE FROM ledger_logleaf WHERE index = %s", [removed])
        execute("UPDATE ledger_logleaf SET index = index + 1000000 WHERE index > %s", [removed])
        execute("UPDATE ledger_logleaf SET index = index - 1000001 WHERE index >= 1000000")
    assert codes(audit()) == {"log_incomplete"}, "the signed size has one more"
    ledger.conclude()
    latest = Checkpoint.objects.latest("pk")
    with superuser() as execute:
        # The operator fills the hole at the end with the next item.
        execute(
            "INSERT INTO ledger_logleaf (index, item_id, hash) SELECT %s, id, sha256('\\x00'::bytea || data) FROM ledger_logitem"
            " WHERE id = (SELECT min(item_id) FROM ledger_pendingitem)",
            [latest.size - 1],
        )
        execute("DELETE FROM ledger_pendingitem WHERE item_id = (SELECT min(item_id) FROM ledger_pendingitem)")
    checkpoint_publish()
    assert "log_root_wrong" in codes(audit())


def test_entries_that_were_reordered_are_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    with superuser() as execute:
        execute("UPDATE ledger_logleaf SET index = index + 1000000 WHERE index IN (0, 2)")
        execute("UPDATE ledger_logleaf SET index = 1000002 - index WHERE index >= 1000000")
    assert "log_root_wrong" in codes(audit())


# --- history forked: found by what was signed before ----------------------------------------------------------------------


def test_a_history_that_was_rewritten_and_signed_anew_is_a_proven_fork(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    assert audit()["clean"]
    before = Checkpoint.objects.latest("pk").note
    leaf_rewrite(index_of("grant"), richer)
    log_sign_anew()
    found = audit()
    assert codes(found) == {"log_forked"}
    proof = Path(found["proof"]).read_text()
    assert before in proof
    assert Checkpoint.objects.latest("pk").note in proof


def test_a_rewritten_history_that_has_grown_since_is_a_proven_fork(
    ledger: HonestLedger, audit: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    assert audit()["clean"]
    leaf_rewrite(index_of("grant"), richer)
    log_sign_anew()
    ledger.conclude()
    with override_settings(NEXA_LOG_ROOT=tmp_path / "another"):  # the operator has the files of the log as well
        checkpoint_publish()
    assert codes(audit()) == {"log_forked"}


def test_a_history_that_was_cut_is_a_fork(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    assert audit()["clean"]
    with superuser() as execute:
        execute("DELETE FROM ledger_logleaf WHERE index >= 6")
    log_sign_anew()
    assert "log_forked" in codes(audit())


def test_an_auditor_who_saw_nothing_before_can_not_know_of_a_fork(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    """Why auditors remember, and why there must be more than one."""
    leaf_rewrite(index_of("grant"), richer)
    log_sign_anew()
    assert audit()["clean"]


# --- signed by an unsuspecting coordinator: found by the rules -------------------------------------------------------------


def test_an_unbalanced_posting_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    postings = [
        {"account": "00000000-0000-4000-8000-000000000001", "amount_micro": "-1"},
        {"account": str(ledger.hosts[0].account), "amount_micro": "1000000000"},
    ]
    item_sneak({"kind": "grant", "key": "grant:gift", "entry": "1000000", "evidence": {"reason": "a gift"}, "postings": postings})
    found = audit()
    assert codes(found) == {"postings_unbalanced"}
    assert leaves(found, "postings_unbalanced") == [index_of("grant")]


def test_a_credit_without_a_receipt_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    job = ledger.reserve()
    ledger.pay(job, ledger.payment(ledger.hosts[0], replica=uuid4(), digest="sha256:" + "0" * 64))
    checkpoint_publish()
    found = audit()
    assert codes(found) == {"payment_without_receipt"}
    assert leaves(found, "payment_without_receipt") == [index_of("payment")]


def test_a_receipt_signed_by_another_key_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    host, job = ledger.hosts[0], ledger.reserve()
    ledger.pay(job, ledger.receipt(job, host, sign_key=STRANGER, key_id=host.key.public.key_id))
    checkpoint_publish()
    found = audit()
    assert "receipt_signature_invalid" in codes(found)
    assert leaves(found, "receipt_signature_invalid") == [index_of("receipt")]
    assert leaves(found, "payment_without_receipt") == [index_of("payment")], "what it was paid is a credit without a receipt"


def test_a_receipt_of_a_key_that_no_node_has_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    job = ledger.reserve()
    ledger.pay(job, ledger.receipt(job, ledger.hosts[0], sign_key=STRANGER))
    checkpoint_publish()
    found = audit()
    assert "receipt_key_unknown" in codes(found)
    assert leaves(found, "receipt_key_unknown") == [index_of("receipt")]


def test_pay_above_the_formula_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    job = ledger.reserve()
    ledger.pay(job, replace(ledger.receipt(job, ledger.hosts[0]), amount_micro=WORTH + 1))
    checkpoint_publish()
    found = audit()
    assert codes(found) == {"payment_amount_wrong"}
    assert leaves(found, "payment_amount_wrong") == [index_of("payment")]


def test_a_receipt_that_was_paid_twice_is_found(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    payment = json.loads(bytes(LogItem.objects.filter(kind="payment").latest("pk").data))
    item_sneak({**payment, "key": payment["key"] + "-again", "entry": "1000000"})
    assert {"payment_repeated", "reservation_exceeded"} <= codes(audit())


# --- restores ------------------------------------------------------------------------------------------------------------


def test_a_restore_with_a_new_epoch_is_told_and_is_no_fork(ledger: HonestLedger, audit: Callable[[], dict[str, Any]]) -> None:
    with backup("aside") as restore:
        ledger.conclude()
        checkpoint_publish()
        seen = audit()
        assert seen["clean"]
        restore()
    ledger.conclude(hosts=2)
    with pytest.raises(PublishedAheadError):
        checkpoint_publish()
    epoch_begin(reason="the disk died")
    checkpoint_publish()
    found = audit()
    assert (found["exit"], found["findings"]) == (0, [])
    assert found["log"].endswith("/ledger/2")
    assert any("The 4 newest of the" in warning for warning in found["warnings"]), found["warnings"]
    assert any("lost 4 published leaves" in warning and "the disk died" in warning for warning in found["warnings"])
    assert audit()["clean"]


def test_a_restore_that_is_not_admitted_is_a_fork(ledger: HonestLedger, audit: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    with backup("aside") as restore:
        ledger.conclude()
        checkpoint_publish()
        assert audit()["clean"]
        restore()
    ledger.conclude(hosts=2)
    with override_settings(NEXA_LOG_ROOT=tmp_path / "another"):  # where nothing says that more was published
        checkpoint_publish()
    assert "log_forked" in codes(audit())


# --- files of the log -------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(ledger: HonestLedger, published_root: Path) -> Iterator[Path]:
    """Enough leaves for a full tile, published as files that the portal serves."""
    with override_settings(NEXA_LOG_ROOT=published_root):
        while LogItem.objects.count() < 300:
            ledger.conclude(hosts=2)
        checkpoint_publish()
        yield published_root / "current"
    for path in sorted(published_root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_what_is_published_stays_true_when_the_database_is_changed(published: Path, audit: Callable[[], dict[str, Any]]) -> None:
    """Outsiders are served the files: what happened, not what the database says now. `manage.py ledger_verify` compares the two."""
    assert audit()["clean"]
    leaf_rewrite(index_of("grant"), richer)
    assert audit()["clean"]


def test_what_is_not_in_a_full_tile_yet_is_served_from_the_database(published: Path, audit: Callable[[], dict[str, Any]]) -> None:
    size = Checkpoint.objects.latest("pk").size
    assert size % 256 > 0
    leaf_rewrite(index_of("payment"), lambda document: document["evidence"].update(receipt="sha256:" + "0" * 64))
    assert "log_root_wrong" in codes(audit())


@pytest.mark.parametrize("name", ["tile/entries/000", "tile/0/000"])
def test_a_published_file_that_was_changed_is_found(published: Path, audit: Callable[[], dict[str, Any]], name: str) -> None:
    path = published / name
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert "tile_wrong" in codes(audit())


def test_a_published_checkpoint_that_was_changed_is_not_believed(published: Path, audit: Callable[[], dict[str, Any]]) -> None:
    path = published / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n3", b"\n2", 1))
    found = audit()
    assert (found["exit"], found["error"]["code"]) == (1, "signature_invalid")
