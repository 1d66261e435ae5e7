"""The declared grants (database_grants.py) as SQL, and what in a database is not as declared.

Everything is within one schema, that of our tables, and about tables that their owner made: what an extension put beside them is let alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from nexaportal.database_grants import APPLICATION, NUMBERED, VERIFY, WHOLE, Grant

_TABLE_PRIVILEGES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_COLUMN_PRIVILEGES: Final = frozenset({"SELECT", "INSERT", "UPDATE", "REFERENCES"})
_DECLARED_IN: Final = "nexaportal/database_grants.py"

_TABLES: Final = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = %(schema)s::regnamespace AND c.relowner = %(owner)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""
_PRIVILEGES: Final = """
SELECT c.relname, p.name, has_table_privilege(%(role)s, c.oid, p.name),
  CASE WHEN p.name = ANY(%(by_column)s) THEN
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND has_column_privilege(%(role)s, c.oid, a.attnum, p.name) ORDER BY 1)
  ELSE '{}' END
FROM pg_class c CROSS JOIN unnest(%(privileges)s::text[]) AS p(name)
WHERE c.relnamespace = %(schema)s::regnamespace AND c.relname = ANY(%(tables)s)
ORDER BY 1, 2
"""
_SEQUENCES: Final = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = %(schema)s::regnamespace AND c.relowner = %(owner)s AND c.relkind = 'S' ORDER BY 1
"""
_SEQUENCE_PRIVILEGES: Final = """
SELECT c.relname, CASE WHEN c.relkind = 'S' THEN
  ARRAY(SELECT p FROM unnest('{USAGE,SELECT,UPDATE}'::text[]) p WHERE has_sequence_privilege(%(role)s, c.oid, p)) END
FROM pg_class c WHERE c.relnamespace = %(schema)s::regnamespace AND c.relowner = %(owner)s AND c.relkind = 'S' ORDER BY 1
"""
_ROLE: Final = """
SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
  EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid),
  EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid),
  has_schema_privilege(r.oid, %(schema)s, 'CREATE'),
  has_database_privilege(r.oid, current_database(), 'CREATE'),
  has_database_privilege(r.oid, current_database(), 'TEMPORARY'),
  NOT has_schema_privilege(r.oid, %(schema)s, 'USAGE'),
  NOT has_database_privilege(r.oid, current_database(), 'CONNECT')
FROM pg_roles r WHERE rolname = %(role)s
"""
_ROLE_FAULTS: Final = (
    "is a superuser",
    "may make roles",
    "may make databases",
    "may replicate",
    "bypasses row security",
    "is a member of another role",
    "owns tables",
    "may make objects in the schema",
    "may make schemas in the database",
    "may make temporary tables",
    "may not use the schema",
    "may not connect to the database",
)
_FUNCTIONS: Final = """
SELECT p.oid::regprocedure::text,
  EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%%, pg_temp'),
  ARRAY(SELECT r FROM unnest(%(roles)s::text[]) r WHERE has_function_privilege(r, p.oid, 'EXECUTE') ORDER BY 1)
FROM pg_proc p
WHERE p.pronamespace = %(schema)s::regnamespace AND p.proowner = %(owner)s AND p.prosecdef
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1
"""


@dataclass(frozen=True)
class Roles:
    """Names of the two roles, and what they are declared to have."""

    application: str
    verify: str

    @property
    def grants(self) -> Mapping[str, Mapping[str, Grant]]:
        """By role, by table."""
        return {self.application: APPLICATION, self.verify: VERIFY}

    def sequences_of(self, role: str) -> Sequence[str]:
        """From which the role may take numbers."""
        return NUMBERED if role == self.application else ()


def roles_configured() -> Roles:
    """As the settings name them."""
    return Roles(settings.NEXA_APPLICATION_ROLE, settings.NEXA_VERIFY_ROLE)


def role_statements(cursor: CursorWrapper, roles: Roles) -> list[str]:
    """Makes the roles that are not there, without a password: by itself this lets nobody in who must give one."""
    limits = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS"
    there = roles_there(cursor, roles)
    return [_text("CREATE ROLE {} {}", sql.Identifier(role), sql.SQL(limits)) for role in roles.grants if role not in there]


def roles_there(cursor: CursorWrapper, roles: Roles) -> set[str]:
    """Those of the two roles that this server has."""
    cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(roles.grants)])
    return {name for (name,) in cursor.fetchall()}


def grant_statements(cursor: CursorWrapper, roles: Roles) -> list[str]:
    """Takes everything from the two roles and from PUBLIC that is there, and grants what is declared. For the owner; twice is once.

    Raises LookupError before the first migration.
    """
    schema, owner = place_of(cursor)
    everyone = sql.SQL(", ").join([sql.SQL("PUBLIC"), *map(sql.Identifier, roles.grants)])
    both = sql.SQL(", ").join(map(sql.Identifier, roles.grants))
    inside, database = sql.Identifier(schema), sql.Identifier(str(cursor.db.settings_dict["NAME"]))
    made = [
        _text("REVOKE CREATE, TEMPORARY ON DATABASE {} FROM {}", database, everyone),
        _text("GRANT CONNECT ON DATABASE {} TO {}", database, both),
        _text("REVOKE CREATE ON SCHEMA {} FROM {}", inside, everyone),
        _text("GRANT USAGE ON SCHEMA {} TO {}", inside, both),
        # What a later migration makes is nobody's but the owner's until it is declared.
        _text("ALTER DEFAULT PRIVILEGES IN SCHEMA {} REVOKE ALL ON TABLES FROM {}", inside, everyone),
        _text("ALTER DEFAULT PRIVILEGES IN SCHEMA {} REVOKE ALL ON SEQUENCES FROM {}", inside, everyone),
    ]
    about: dict[str, Any] = {"schema": schema, "owner": owner, "roles": []}
    cursor.execute(_SEQUENCES, about)
    made += [_text("REVOKE ALL ON SEQUENCE {} FROM {}", sql.Identifier(schema, name), everyone) for (name,) in cursor.fetchall()]
    made += [
        _text("GRANT USAGE ON SEQUENCE {} TO {}", sql.Identifier(schema, name), sql.Identifier(role))
        for role in roles.grants
        for name in roles.sequences_of(role)
    ]
    cursor.execute(_FUNCTIONS, about)
    # With the owner's rights. A trigger's function runs for whoever changes its table; this is about triggers of one's own.
    made += [_text("REVOKE ALL ON FUNCTION {} FROM {}", sql.SQL(signature), everyone) for signature, *_ in cursor.fetchall()]
    for table in tables_of(cursor, schema=schema, owner=owner):
        made.append(_text("REVOKE ALL ON TABLE {} FROM {}", sql.Identifier(schema, table), everyone))
        for role, grants in roles.grants.items():
            made += [
                _text("GRANT {} ON TABLE {} TO {}", _privilege(name, columns), sql.Identifier(schema, table), sql.Identifier(role))
                for name, columns in grants.get(table, {}).items()
            ]
    return made


def faults_find(cursor: CursorWrapper, roles: Roles) -> list[str]:
    """What in this database is not as declared, a sentence each; any role may ask. `[]`: the privileges are exactly the declared ones."""
    schema, owner = place_of(cursor)
    there = roles_there(cursor, roles)
    faults = [f"There is no role {role}." for role in roles.grants if role not in there]
    tables = tables_of(cursor, schema=schema, owner=owner)
    faults += table_faults(tables)
    for role in sorted(there):
        about: dict[str, Any] = {"role": role, "schema": schema, "owner": owner}
        cursor.execute(_ROLE, about)
        wrong = [what for what, is_so in zip(_ROLE_FAULTS, cursor.fetchone() or (), strict=True) if is_so]
        faults += [f"The role {role} {what}." for what in wrong]
        if _ROLE_FAULTS[0] not in wrong:  # a superuser has every privilege; a line for each would hide that
            faults += _privilege_faults(cursor, role, roles.grants[role], roles.sequences_of(role), {**about, "tables": tables})
    return faults + _function_faults(cursor, {"schema": schema, "owner": owner, "roles": sorted(there)})


def table_faults(tables: Sequence[str]) -> list[str]:
    """Tables that are there and not declared, or the other way round."""
    faults = [
        f"The table {table} is not declared: say in {_DECLARED_IN} who may do what with it."
        for table in sorted(set(tables) - set(APPLICATION))
    ]
    missing = sorted((set(APPLICATION) | set(VERIFY)) - set(tables))
    return faults + [f"The table {table} is declared in {_DECLARED_IN} and not there: migrate, or take it out." for table in missing]


def place_of(cursor: CursorWrapper) -> tuple[str, int]:
    """The schema and owner (its oid) of our tables. Raises LookupError before the first migration."""
    cursor.execute("SELECT relnamespace::regnamespace::text, relowner FROM pg_class WHERE oid = to_regclass('django_migrations')")
    if (row := cursor.fetchone()) is None:
        raise LookupError("expected a migrated database, found no table django_migrations; run `manage.py migrate` as the owner")
    return str(row[0]).strip('"'), int(row[1])


def tables_of(cursor: CursorWrapper, *, schema: str, owner: int) -> list[str]:
    """The tables and views that `owner` made, by name."""
    cursor.execute(_TABLES, {"schema": schema, "owner": owner})
    return [name for (name,) in cursor.fetchall()]


def _privilege_faults(
    cursor: CursorWrapper, role: str, declared: Mapping[str, Grant], numbered: Sequence[str], about: Mapping[str, Any]
) -> list[str]:
    cursor.execute("SHOW server_version_num")
    version = int((cursor.fetchone() or ("0",))[0])
    privileges = [*_TABLE_PRIVILEGES, *(["MAINTAIN"] if version >= 170000 else [])]
    cursor.execute(_PRIVILEGES, {**about, "privileges": privileges, "by_column": sorted(_COLUMN_PRIVILEGES)})
    faults = []
    for table, name, is_whole, columns in cursor.fetchall():
        wanted = declared.get(table, {}).get(name)
        found = WHOLE if is_whole else tuple(columns) or None
        if found != (wanted and tuple(sorted(wanted))):
            faults.append(f"Expected {role} to have {_shown(name, wanted)} on {table}; found {_shown(name, found)}.")
    cursor.execute(_SEQUENCE_PRIVILEGES, about)
    for name, has in cursor.fetchall():
        expected = ["USAGE"] if name in numbered else []
        if has != expected:
            faults.append(f"Expected {role} to have {expected or 'nothing'} on the sequence {name}; found {has or 'nothing'}.")
    return faults


def _function_faults(cursor: CursorWrapper, about: Mapping[str, Any]) -> list[str]:
    cursor.execute(_FUNCTIONS, about)
    faults = []
    for signature, has_path, able in cursor.fetchall():
        if not has_path:  # else a temporary table of the caller's can stand in for one of ours
            faults.append(f"Expected {signature}, which runs with its owner's rights, to set a search_path that ends in pg_temp.")
        faults += [f"Expected {role} not to be able to execute {signature}." for role in able]
    return faults


def _privilege(name: str, columns: Sequence[str]) -> sql.Composable:
    if not columns:
        return sql.SQL(name)
    return sql.SQL("{} ({})").format(sql.SQL(name), sql.SQL(", ").join(map(sql.Identifier, columns)))


def _shown(name: str, columns: Sequence[str] | None) -> str:
    return f"no {name}" if columns is None else f"{name} of {', '.join(columns)}" if columns else name


def _text(template: str, *parts: sql.Composable) -> str:
    return sql.SQL(template).format(*parts).as_string(None)
