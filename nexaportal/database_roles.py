"""The declared grants (database_grants.py) as SQL, and what in a database is not as declared.

Everything is within one schema, that of our tables, and about tables that their owner made: what an extension put beside them is let alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from ledger.guards import FUNCTIONS, OWNER_FUNCTIONS
from nexaportal.database_grants import APPLICATION, VERIFY, WHOLE, Grant

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
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = %(schema)s::regnamespace AND c.relowner = %(owner)s
  AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(%(role)s, c.oid, 'USAGE, SELECT, UPDATE') ELSE false END ORDER BY 1
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
SELECT p.proname, p.prosecdef, coalesce('search_path=' || %(path)s = ANY(p.proconfig), false),
  ARRAY(SELECT r FROM unnest(%(roles)s::text[]) r WHERE has_function_privilege(r, p.oid, 'EXECUTE') ORDER BY 1)
FROM pg_proc p WHERE p.pronamespace = %(schema)s::regnamespace AND (p.prosecdef OR p.proname = ANY(%(functions)s)) ORDER BY 1
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


def roles_configured() -> Roles:
    """As the settings name them."""
    return Roles(settings.NEXA_APPLICATION_ROLE, settings.NEXA_VERIFY_ROLE)


def role_statements(roles: Roles) -> list[str]:
    """Makes the roles, without a password: by itself this lets nobody in who must give one."""
    limits = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS"
    return [_text("CREATE ROLE {} {}", sql.Identifier(role), sql.SQL(limits)) for role in roles.grants]


def grant_statements(roles: Roles, *, database: str, schema: str, tables: Sequence[str], sequences: Sequence[str] = ()) -> list[str]:
    """Takes everything from the two roles and from PUBLIC on these, and grants what is declared. For the owner; twice is once."""
    everyone = sql.SQL(", ").join([sql.SQL("PUBLIC"), *map(sql.Identifier, roles.grants)])
    both = sql.SQL(", ").join(map(sql.Identifier, roles.grants))
    inside = sql.Identifier(schema)
    made = [
        _text("REVOKE CREATE, TEMPORARY ON DATABASE {} FROM {}", sql.Identifier(database), everyone),
        _text("GRANT CONNECT ON DATABASE {} TO {}", sql.Identifier(database), both),
        _text("REVOKE CREATE ON SCHEMA {} FROM {}", inside, everyone),
        _text("GRANT USAGE ON SCHEMA {} TO {}", inside, both),
        # What a later migration makes is nobody's but the owner's until it is declared.
        _text("ALTER DEFAULT PRIVILEGES IN SCHEMA {} REVOKE ALL ON TABLES FROM {}", inside, everyone),
        _text("ALTER DEFAULT PRIVILEGES IN SCHEMA {} REVOKE ALL ON SEQUENCES FROM {}", inside, everyone),
    ]
    made += [_text("REVOKE ALL ON TABLE {} FROM {}", sql.Identifier(schema, table), everyone) for table in tables]
    made += [_text("REVOKE ALL ON SEQUENCE {} FROM {}", sql.Identifier(schema, name), everyone) for name in sequences]
    for role, grants in roles.grants.items():
        for table, grant in grants.items():
            made += [
                _text("GRANT {} ON TABLE {} TO {}", _privilege(name, columns), sql.Identifier(schema, table), sql.Identifier(role))
                for name, columns in grant.items()
            ]
    return made + list(_function_statements(schema, everyone))


def faults_find(cursor: CursorWrapper, roles: Roles) -> list[str]:
    """What in this database is not as declared, a sentence each; any role may ask. `[]`: the privileges are exactly the declared ones."""
    schema, owner = place_of(cursor)
    cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(roles.grants)])
    there = {name for (name,) in cursor.fetchall()}
    faults = [f"There is no role {role}." for role in roles.grants if role not in there]
    tables = tables_of(cursor, schema=schema, owner=owner)
    faults += table_faults(tables)
    for role in sorted(there):
        about: dict[str, Any] = {"role": role, "schema": schema, "owner": owner}
        cursor.execute(_ROLE, about)
        wrong = [what for what, is_so in zip(_ROLE_FAULTS, cursor.fetchone() or (), strict=True) if is_so]
        faults += [f"The role {role} {what}." for what in wrong]
        if _ROLE_FAULTS[0] not in wrong:  # a superuser has every privilege; a line for each would hide that
            faults += _privilege_faults(cursor, role, roles.grants[role], {**about, "tables": tables})
    return faults + _function_faults(cursor, schema, sorted(there))


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


def sequences_of(cursor: CursorWrapper, *, schema: str, owner: int) -> list[str]:
    """The sequences that `owner` made, by name. Ours are identity columns': nobody needs a right to them."""
    cursor.execute(_SEQUENCES, {"schema": schema, "owner": owner})
    return [name for (name,) in cursor.fetchall()]


def _function_statements(schema: str, everyone: sql.Composable) -> Iterator[str]:
    for name in FUNCTIONS:
        function = sql.Identifier(schema, name)
        rights = "DEFINER" if name in OWNER_FUNCTIONS else "INVOKER"
        yield _text(
            "ALTER FUNCTION {}() SECURITY {} SET search_path = pg_catalog, {}, pg_temp", function, sql.SQL(rights), sql.Identifier(schema)
        )
        yield _text("REVOKE ALL ON FUNCTION {}() FROM {}", function, everyone)


def _privilege_faults(cursor: CursorWrapper, role: str, declared: Mapping[str, Grant], about: Mapping[str, Any]) -> list[str]:
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
    return faults + [
        f"Expected {role} to have nothing on the sequence {name}; identity columns need no right." for (name,) in cursor.fetchall()
    ]


def _function_faults(cursor: CursorWrapper, schema: str, roles: Sequence[str]) -> list[str]:
    path = f"pg_catalog, {schema}, pg_temp"
    cursor.execute(_FUNCTIONS, {"schema": schema, "path": path, "roles": list(roles), "functions": list(FUNCTIONS)})
    rows = {name: (is_definer, has_path, able) for name, is_definer, has_path, able in cursor.fetchall()}
    faults = [f"There is no function {name}: migrate, or take it out of ledger/guards.py." for name in FUNCTIONS if name not in rows]
    for name, (is_definer, has_path, able) in rows.items():
        if is_definer != (name in OWNER_FUNCTIONS):
            faults.append(f"Expected {name} to run with the rights of its {'owner' if not is_definer else 'caller'} (ledger/guards.py).")
        if not has_path:
            faults.append(f"Expected {name} to have the search_path {path}.")
        faults += [f"Expected {role} not to be able to execute {name}." for role in able]
    return faults


def _privilege(name: str, columns: Sequence[str]) -> sql.Composable:
    if not columns:
        return sql.SQL(name)
    return sql.SQL("{} ({})").format(sql.SQL(name), sql.SQL(", ").join(map(sql.Identifier, columns)))


def _shown(name: str, columns: Sequence[str] | None) -> str:
    return f"no {name}" if columns is None else f"{name} of {', '.join(columns)}" if columns else name


def _text(template: str, *parts: sql.Composable) -> str:
    return sql.SQL(template).format(*parts).as_string(None)
