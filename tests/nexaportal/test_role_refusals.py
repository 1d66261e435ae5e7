"""What PostgreSQL refuses to the application and to a verify worker, tried over all tables by processes that really are these users."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from psycopg.errors import CheckViolation, InsufficientPrivilege, RestrictViolation, UniqueViolation

from devstack.stack import APPLICATION_ROLE, VERIFY_ROLE
from jobs.models import Evidence, Job
from ledger.append_only import APPEND_ONLY
from ledger.checkpoints import checkpoint_publish
from ledger.models import Account
from nexaportal.database_grants import APPLICATION, VERIFY, WHOLE
from tests.database_users import connected_as
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.receipts import replica_report

TWO = {"method": "exact", "copies": 2, "quorum": 2}


@pytest.fixture
def life(own_database: str) -> Job:
    """A job with two receipts, and a ledger with a checkpoint: rows in the tables that matter. The roles' rights are set."""
    call_command("database_roles")
    job = job_make(verification=TWO)
    for _ in range(2):
        replica_report(job)
    checkpoint_publish()
    return job


def execute(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def is_refused(statement: str) -> bool:
    """Whether it is for lack of a right. Undone if it is not."""
    with connection.cursor() as cursor, contextlib.suppress(_UndoError), transaction.atomic():
        try:
            cursor.execute(statement)
        except DatabaseError as error:
            if isinstance(error.__cause__, InsufficientPrivilege):
                return True
            if not isinstance(error.__cause__, CheckViolation | RestrictViolation | UniqueViolation):
                raise
        raise _UndoError
    return False


class _UndoError(Exception):
    pass


def entry_insert(amounts: Mapping[uuid.UUID, int]) -> None:
    """An entry with these postings by account, around the services."""
    key = str(uuid.uuid4())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO public.ledger_entry (item_id, kind, idempotency_key, evidence, created_at)"
            " VALUES (nextval('ledger_logitem_id_seq'), 'grant', %s, '{}', now()) RETURNING item_id",
            [key],
        )
        (entry,) = cursor.fetchone()
        for account, amount in amounts.items():
            cursor.execute(
                "INSERT INTO public.ledger_posting (entry_id, account_id, amount_micro) VALUES (%s, %s, %s)", [entry, account, amount]
            )
        cursor.execute(
            "INSERT INTO public.ledger_logitem (id, kind, key, data, created_at) VALUES (%s, 'grant', %s, '{}', now())", [entry, key]
        )


def columns_of(table: str) -> list[str]:
    """Those that anybody could write: what the database generates, nobody can."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            [table],
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.parametrize("role", [APPLICATION_ROLE, VERIFY_ROLE])
def test_every_statement_on_every_table_is_refused_unless_declared(life: Job, role: str) -> None:
    """Not by what the catalog says of the privileges: by trying."""
    declared = {APPLICATION_ROLE: APPLICATION, VERIFY_ROLE: VERIFY}[role]
    wrong = []
    with connected_as(role):
        for table in APPLICATION:
            grant = declared.get(table, {})
            for column in columns_of(table):
                for name, statement in (
                    ("SELECT", f'SELECT "{column}" FROM {table} LIMIT 0'),  # noqa: S608  names of the catalog
                    ("UPDATE", f'UPDATE {table} SET "{column}" = "{column}" WHERE false'),  # noqa: S608  the same
                    ("INSERT", f'INSERT INTO {table} ("{column}") SELECT NULL WHERE false'),
                ):
                    may = name in grant and (grant[name] == WHOLE or column in grant[name])
                    if name == "UPDATE" and may and "SELECT" not in grant:
                        continue
                    if is_refused(statement) == may:
                        wrong.append(f"{name} of {table}.{column} is {'refused' if may else 'not refused'}")
            for name, statement in (("DELETE", f"DELETE FROM {table} WHERE false"), ("TRUNCATE", f"TRUNCATE {table} CASCADE")):  # noqa: S608  names of the catalog
                if is_refused(statement) == (name in grant):
                    wrong.append(f"{name} of {table} is {'refused' if name in grant else 'not refused'}")
            wrong += [
                f"{statement} is not refused"
                for statement in (
                    f"ALTER TABLE {table} DISABLE TRIGGER ALL",
                    f"ALTER TABLE {table} ADD COLUMN more integer",
                    f"DROP TABLE {table} CASCADE",
                    f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE" if not {"UPDATE", "DELETE"} & set(grant) else f"DROP TABLE {table}",
                )
                if not is_refused(statement)
            ]
    assert wrong == []


def test_application_cannot_change_history(life: Job) -> None:
    with connected_as(APPLICATION_ROLE):
        for table in APPEND_ONLY:
            column = columns_of(table)[0]
            for statement in (
                f"UPDATE {table} SET {column} = {column}",  # noqa: S608  names of the catalog
                f"DELETE FROM {table}",  # noqa: S608  names of the catalog
                f"TRUNCATE {table} CASCADE",
                f"ALTER TABLE {table} DISABLE TRIGGER USER",
                f"DROP TRIGGER {table}_append_only ON {table}",
            ):
                assert is_refused(statement), statement


WAYS_AROUND = [
    "UPDATE ledger_account SET balance_micro = balance_micro + 1",
    "DELETE FROM ledger_account",
    "INSERT INTO ledger_pendingitem (item_id) SELECT id FROM ledger_logitem",
    "DELETE FROM ledger_pendingitem",
    "SET session_replication_role = replica",
    "SET ROLE nexapod",
    "SET SESSION AUTHORIZATION nexapod",
    "CREATE TABLE mine (id integer)",
    "CREATE TEMPORARY TABLE ledger_pendingitem (item_id bigint)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER mine BEFORE INSERT ON ledger_posting FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change()",
    "CREATE OR REPLACE FUNCTION ledger_balance_guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE ROLE mine",
    "ALTER ROLE nexapod_application SUPERUSER",
    "COPY people_user TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT setval('ledger_logitem_id_seq', 1)",
]


@pytest.mark.parametrize("role", [APPLICATION_ROLE, VERIFY_ROLE])
def test_there_is_no_way_around(life: Job, role: str) -> None:
    with connected_as(role):
        assert [statement for statement in WAYS_AROUND if not is_refused(statement)] == []


def test_posting_moves_a_balance_that_the_application_may_not_set(life: Job) -> None:
    accounts = [Account.objects.get(kind="treasury").pk, Account.objects.filter(kind="person").first().pk]  # type: ignore[union-attr]  # made
    before = Account.objects.get(pk=accounts[1]).balance_micro
    with connected_as(APPLICATION_ROLE):
        entry_insert(dict(zip(accounts, (-5, 5), strict=True)))
    assert Account.objects.get(pk=accounts[1]).balance_micro == before + 5


def test_trigger_with_the_owners_rights_cannot_be_put_on_a_table_of_ones_own(life: Job) -> None:
    """Where a database lets everybody make temporary tables, too: else such a table's trigger could move any balance."""
    execute(f'GRANT TEMPORARY ON DATABASE "{connection.settings_dict["NAME"]}" TO PUBLIC')
    with connected_as(APPLICATION_ROLE), connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE mine (entry_id bigint, account_id uuid, amount_micro bigint)")
        with pytest.raises(DatabaseError, match="permission denied for function ledger_postings_apply"):
            cursor.execute("CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION ledger_postings_apply()")


@pytest.mark.parametrize("table", ["ledger_posting", "ledger_entry", "ledger_account"])
def test_temporary_table_of_the_same_name_deceives_no_trigger(life: Job, table: str) -> None:
    """A search_path finds temporary tables first, unless the function has one of its own."""
    (treasury,) = Account.objects.filter(kind="treasury")
    execute(f'GRANT TEMPORARY ON DATABASE "{connection.settings_dict["NAME"]}" TO PUBLIC')
    with connected_as(APPLICATION_ROLE):
        execute(f"CREATE TEMPORARY TABLE {table} (LIKE public.{table})")
        with pytest.raises(DatabaseError, match="postings that sum to -5"):
            entry_insert({treasury.pk: -5})


def test_verify_worker_reads_no_person_token_or_session(life: Job) -> None:
    with connected_as(VERIFY_ROLE):
        for table in (
            "people_user",
            "people_apitoken",
            "nodes_jointoken",
            "nodes_node",
            "django_session",
            "ledger_account",
            "jobs_jobevent",
        ):
            for statement in (f"SELECT * FROM {table}", f"SELECT count(*) FROM {table}"):  # noqa: S608  names of the catalog
                assert is_refused(statement), statement
        for statement in (
            "UPDATE jobs_replica SET verdict = 'agree'",
            "UPDATE jobs_evidence SET passed = true",
            "DELETE FROM jobs_evidence",
            "UPDATE jobs_job SET state = 'completed'",
            "SELECT owner_id FROM jobs_job",
            "SELECT order_envelope FROM jobs_replica",
            "SELECT id FROM jobs_job FOR UPDATE",
            "SELECT nextval('jobs_evidence_id_seq')",
        ):
            assert is_refused(statement), statement


def test_verify_worker_checks_a_job(life: Job) -> None:
    with connected_as(VERIFY_ROLE):
        job_check(job_id=life.pk)
        job_check(job_id=life.pk)
    rows = Evidence.objects.filter(replica__job=life).values_list("check_name", "passed")
    assert sorted(rows) == sorted([(name, True) for name in ("signature", "archive", "outputs", "log")] * 2 + [("comparison", True)])


def test_verify_worker_writes_findings_about_hostile_results(own_database: str) -> None:
    call_command("database_roles")
    job = job_make(verification={"method": "exact", "copies": 1, "quorum": 1})
    replica_report(job, archive_bytes=lambda data: data[:-1])
    with connected_as(VERIFY_ROLE):
        job_check(job_id=job.pk)
    assert dict(Evidence.objects.filter(replica__job=job).values_list("check_name", "passed"))["archive"] is False
