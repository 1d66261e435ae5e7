"""The roles' privileges as the database has them: exactly the declared ones, after one run of the command and after many."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from psycopg.conninfo import make_conninfo

from devstack.stack import APPLICATION_ROLE, VERIFY_ROLE
from ledger.append_only import APPEND_ONLY
from ledger.checkpoints import checkpoint_publish
from nexaportal.database_grants import APPLICATION, VERIFY
from nexaportal.database_roles import faults_find, place_of, roles_configured, tables_of
from tests.database_users import connected_as
from tests.factories.ledger import entries_make

DECLARED_IN = "nexaportal/database_grants.py"


def faults() -> list[str]:
    with connection.cursor() as cursor:
        return faults_find(cursor, roles_configured())


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def granted(own_database: str) -> Iterator[None]:
    """A database of the test's own on which the command has run: a clone does not take its source's rights on the database along."""
    call_command("database_roles")
    yield
    # Roles are the whole server's: what a test made of them is put right.
    execute("ALTER ROLE nexapod_verify NOCREATEROLE PASSWORD NULL")
    execute("REVOKE pg_read_all_data FROM nexapod_verify")


def test_privileges_of_every_table_are_exactly_those_declared(granted: None) -> None:
    """A new table fails here until nexaportal/database_grants.py says who may do what with it."""
    assert faults() == []


def test_every_table_is_declared_and_what_verify_reads_is_there(granted: None) -> None:
    with connection.cursor() as cursor:
        schema, owner = place_of(cursor)
        assert set(tables_of(cursor, schema=schema, owner=owner)) == set(APPLICATION)
    assert set(VERIFY) <= set(APPLICATION)


def test_append_only_tables_are_those_with_the_triggers_that_refuse(granted: None) -> None:
    """The one list, what migrations made, and what is granted are the same."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.tgrelid::regclass::text, bit_or(t.tgtype::int) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
            " WHERE p.proname = 'ledger_refuse_change' AND t.tgenabled = 'O' GROUP BY 1"
        )
        found = dict(cursor.fetchall())
    refused = 8 + 16 + 32  # DELETE, UPDATE, TRUNCATE: <catalog/pg_trigger.h>
    assert set(found) == set(APPEND_ONLY)
    assert all(events & refused == refused for events in found.values()), found
    for table in APPEND_ONLY:
        assert set(APPLICATION[table]) == {"SELECT", "INSERT"}
        assert table not in VERIFY


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("GRANT UPDATE ON ledger_entry TO nexapod_application", "to have no UPDATE on ledger_entry; found UPDATE"),
        ("GRANT TRUNCATE ON jobs_job TO nexapod_application", "to have no TRUNCATE on jobs_job; found TRUNCATE"),
        ("GRANT SELECT ON people_user TO PUBLIC", "nexapod_verify to have no SELECT on people_user"),
        ("GRANT SELECT (password) ON people_user TO nexapod_verify", "found SELECT of password"),
        ("GRANT UPDATE (balance_micro) ON ledger_account TO nexapod_application", "found UPDATE of balance_micro, owner_id"),
        ("REVOKE INSERT ON jobs_job FROM nexapod_application", "to have INSERT on jobs_job; found no INSERT"),
        ("GRANT USAGE ON SEQUENCE jobs_evidence_id_seq TO nexapod_verify", "nothing on the sequence jobs_evidence_id_seq; found ['USAGE']"),
        ("GRANT UPDATE ON SEQUENCE ledger_logitem_id_seq TO nexapod_application", "found ['USAGE', 'UPDATE']"),
        ("REVOKE ALL ON SEQUENCE ledger_logitem_id_seq FROM nexapod_application", "to have ['USAGE'] on the sequence"),
        ("GRANT EXECUTE ON FUNCTION ledger_postings_apply() TO PUBLIC", "not to be able to execute ledger_postings_apply()"),
        ("GRANT CREATE ON SCHEMA public TO nexapod_application", "may make objects in the schema"),
    ],
)
def test_what_is_not_as_declared_is_found_and_put_right(granted: None, statement: str, said: str) -> None:
    execute(statement)
    assert any(said in fault for fault in faults()), faults()
    with pytest.raises(CommandError, match="not as declared"):
        call_command("database_roles", "--check")
    (one, *_) = run_checks(databases=["default"], tags=["database"])
    assert one.id == "nexaportal.W001"
    call_command("database_roles")
    call_command("database_roles", "--check")
    assert run_checks(databases=["default"], tags=["database"]) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER ROLE nexapod_verify CREATEROLE", "nexapod_verify may make roles"),
        ("GRANT pg_read_all_data TO nexapod_verify", "nexapod_verify is a member of another role"),
        ("ALTER FUNCTION ledger_postings_apply() RESET search_path", r"Expected ledger_postings_apply\(\), .* a search_path"),
    ],
)
def test_what_the_command_did_not_make_is_named_and_left(granted: None, statement: str, said: str) -> None:
    execute(statement)
    with pytest.raises(CommandError, match=said):
        call_command("database_roles")


def test_new_table_is_nobodys_until_it_is_declared(granted: None) -> None:
    execute("CREATE TABLE jobs_later (id integer)")
    said = f"The table jobs_later is not declared: say in {DECLARED_IN} who may do what with it."
    assert faults() == [said]
    with pytest.raises(CommandError, match="jobs_later is not declared"):
        call_command("database_roles")
    with connected_as(APPLICATION_ROLE), pytest.raises(Exception, match="permission denied for table jobs_later"):
        execute("SELECT * FROM jobs_later")


def test_rights_given_by_default_to_tables_to_come_are_taken_back(granted: None) -> None:
    execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO nexapod_verify")
    call_command("database_roles")
    execute("CREATE TABLE jobs_later (id integer)")
    with connected_as(VERIFY_ROLE), pytest.raises(Exception, match="permission denied for table jobs_later"):
        execute("SELECT * FROM jobs_later")


def test_table_that_is_declared_and_not_there_is_named(granted: None) -> None:
    execute("DROP TABLE jobs_coordinatorclock")
    with pytest.raises(CommandError, match=r"jobs_coordinatorclock is declared .* and not there"):
        call_command("database_roles")


def test_database_without_our_tables_is_told_to_migrate(own_database: str) -> None:
    execute("ALTER TABLE django_migrations RENAME TO django_migrations_gone")
    with pytest.raises(CommandError, match="expected a migrated database"):
        call_command("database_roles")
    assert run_checks(databases=["default"], tags=["database"]) == []


def test_only_the_owner_can_run_it_and_anybody_can_check(granted: None) -> None:
    with connected_as(APPLICATION_ROLE):
        call_command("database_roles", "--check")
        with pytest.raises(CommandError, match="expected to be connected as the owner"):
            call_command("database_roles")


@pytest.fixture
def plain_owner(granted: None) -> Iterator[str]:
    """As on a managed PostgreSQL: who owns database and tables is no superuser and may not make roles."""
    execute("CREATE ROLE plain_owner LOGIN NOINHERIT")
    execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" OWNER TO plain_owner')
    for table in APPLICATION:
        execute(f"ALTER TABLE {table} OWNER TO plain_owner")
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        functions = [signature for (signature,) in cursor.fetchall()]
    for function in functions:
        execute(f"ALTER FUNCTION {function} OWNER TO plain_owner")
    yield "plain_owner"
    execute("REASSIGN OWNED BY plain_owner TO CURRENT_USER")
    execute("DROP OWNED BY plain_owner")
    execute("DROP ROLE plain_owner")


def test_owner_without_other_rights_can_run_it_and_the_ledger_works(plain_owner: str) -> None:
    execute("GRANT UPDATE ON ledger_account TO nexapod_application")
    with connected_as(plain_owner):
        call_command("database_roles")
    with connected_as(APPLICATION_ROLE):
        call_command("database_roles", "--check")
        (entry,) = entries_make(1)
        checkpoint_publish()
    assert sorted(entry.postings.values_list("account__balance_micro", flat=True)) == [-1, 1]


def test_role_that_is_missing_and_cannot_be_made_is_an_administrators_to_make(plain_owner: str) -> None:
    with connected_as(plain_owner), override_settings(NEXA_VERIFY_ROLE="not_there"):
        with pytest.raises(CommandError, match="no role not_there, and this user can't make it: an administrator runs what --print prints"):
            call_command("database_roles")
        with pytest.raises(CommandError, match="There is no role not_there"):
            call_command("database_roles", "--check")


def test_printed_sql_makes_everything(own_database: str) -> None:
    """Under names that need quotes, too."""
    names = {"NEXA_APPLICATION_ROLE": 'portal "app"', "NEXA_VERIFY_ROLE": "portal verify"}
    with override_settings(**names):
        try:
            with psycopg.connect(_dsn(own_database, str(connection.settings_dict["USER"])), autocommit=True) as administrator:
                for _ in ("for a new server", "after a later migration, when the roles are there"):
                    out = io.StringIO()
                    call_command("database_roles", "--print", stdout=out)
                    administrator.execute(out.getvalue().encode())
            assert [fault for fault in faults() if "portal" in fault] == []
        finally:
            for name in names.values():
                quoted = connection.ops.quote_name(name.replace('"', '""'))
                execute(f"DROP OWNED BY {quoted}")
                execute(f"DROP ROLE {quoted}")


def test_password_comes_from_a_file_and_is_kept_hashed(granted: None, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("a long secret\n")
    call_command("database_roles", "--verify-password-file", str(secret))
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)", [[APPLICATION_ROLE, VERIFY_ROLE]])
        found = dict(cursor.fetchall())
    assert found[APPLICATION_ROLE] is None
    assert found[VERIFY_ROLE].startswith("SCRAM-SHA-256$")


def test_password_file_that_cannot_be_read_is_named(granted: None) -> None:
    with pytest.raises(CommandError, match="/nonexistent"):
        call_command("database_roles", "--verify-password-file", "/nonexistent")


def _dsn(database: str, user: str) -> str:
    parameters: dict[str, Any] = connection.get_connection_params()
    return make_conninfo(host=parameters["host"], port=parameters["port"], dbname=database, user=user)
