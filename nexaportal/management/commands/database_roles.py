"""Makes the database roles of the processes, and gives them exactly what nexaportal/database_grants.py declares.

Run it as the owner of the tables, after every `migrate`. It makes the roles where it may; where it may not (a managed PostgreSQL), an
administrator runs what --print prints. It is one transaction: processes that run meanwhile never find less than they need. Twice is once.
A role that is made here has no password: give it one with --application-password-file and --verify-password-file, or in psql.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction
from psycopg import sql

from nexaportal.database_roles import (
    Roles,
    faults_find,
    grant_statements,
    place_of,
    role_statements,
    roles_configured,
    roles_there,
    table_faults,
    tables_of,
)

_LOCK = 0x6E786472  # "nxdr": two at once would update the same rows of the catalog


class Command(BaseCommand):
    """NEXA_APPLICATION_ROLE and NEXA_VERIFY_ROLE name the roles."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        act = parser.add_mutually_exclusive_group()
        act.add_argument("--print", action="store_true", help="print the SQL for an administrator and do nothing. Any role may")
        act.add_argument("--check", action="store_true", help="change nothing; fail if a privilege is not as declared. Any role may")
        parser.add_argument("--application-password-file", type=Path, help="its content becomes the application role's password")
        parser.add_argument("--verify-password-file", type=Path, help="its content becomes the verify role's password")

    def handle(self, *args: Any, **options: Any) -> None:
        roles = roles_configured()
        try:
            if options["print"]:
                self._print(roles)
            elif options["check"]:
                with connection.cursor() as cursor:
                    _faults_refuse(faults_find(cursor, roles))
            else:
                passwords = {
                    roles.application: options["application_password_file"],
                    roles.verify: options["verify_password_file"],
                }
                with transaction.atomic(), connection.cursor() as cursor:
                    _roles_apply(cursor, roles, {role: path.read_text().strip() for role, path in passwords.items() if path})
                    _faults_refuse(faults_find(cursor, roles))
        except (LookupError, OSError) as error:
            raise CommandError(str(error)) from error

    def _print(self, roles: Roles) -> None:
        with connection.cursor() as cursor:
            made, statements = role_statements(cursor, roles), grant_statements(cursor, roles)
        for statement in [*made, "BEGIN", *statements, "COMMIT"]:
            self.stdout.write(f"{statement};")


def _roles_apply(cursor: Any, roles: Roles, passwords: dict[str, str]) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    schema, owner = place_of(cursor)
    cursor.execute("SELECT %s = oid, rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user", [owner])
    is_owner, may_create = cursor.fetchone()
    if not is_owner:
        raise CommandError(f"expected to be connected as the owner of the tables; found {connection.settings_dict['USER']}")
    _faults_refuse(table_faults(tables_of(cursor, schema=schema, owner=owner)))
    missing = [role for role in roles.grants if role not in roles_there(cursor, roles)]
    if missing and not may_create:
        raise CommandError(f"There is no role {missing[0]}, and this user can't make it: an administrator runs what --print prints.")
    for statement in role_statements(cursor, roles):
        cursor.execute(statement)
    for role, password in passwords.items():
        # Hashed here: the server's log never sees it.
        hashed = connection.connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(hashed)).as_string(None))
    for statement in grant_statements(cursor, roles):
        cursor.execute(statement)


def _faults_refuse(faults: list[str]) -> None:
    if faults:
        raise CommandError("\n".join(["The database's privileges are not as declared.", *faults]))
