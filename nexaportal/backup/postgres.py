"""pg_dump and pg_restore, of a version that fits the server, on the database that Django is on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from django.conf import settings
from django.db import connection

from nexaportal.backup.errors import BackupToolError


def database_dump(*, snapshot: str, to: Path) -> None:
    """Dumps what a transaction sees that exported `snapshot`. Raises BackupToolError."""
    _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={to}")


def dump_check(path: Path) -> None:
    """Raises BackupToolError unless pg_restore can read the dump's contents."""
    _run("pg_restore", "--list", str(path), connects=False)


def database_restore(path: Path) -> None:
    """Restores into an empty schema, in one transaction: all of it or nothing. Raises BackupToolError."""
    options = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    _run("pg_restore", *options, f"--dbname={connection.settings_dict['NAME']}", str(path))


def tools_check() -> None:
    """Raises BackupToolError unless both programs are there and not older than the server."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        server = int(cursor.fetchone()[0]) // 10000
    for name in ("pg_dump", "pg_restore"):
        said = _run(name, "--version", connects=False)
        found = re.search(r"\) (\d+)", said)
        if found is None or int(found[1]) < server:
            raise BackupToolError(
                f"Expected {name} of PostgreSQL {server} or later; found {said.strip()!r}. "
                "Set NEXA_POSTGRES_BIN to the folder of its programs."
            )


def _program(name: str) -> str:
    """The program of NEXA_POSTGRES_BIN, else of the embedded PostgreSQL, else of the PATH."""
    if settings.NEXA_POSTGRES_BIN:
        return str(Path(settings.NEXA_POSTGRES_BIN) / name)
    from nexaportal.embedded_place import EmbeddedMissingError, postgres_binaries  # noqa: PLC0415  development only

    try:
        return str(postgres_binaries() / name)
    except EmbeddedMissingError:
        return shutil.which(name) or name


def _run(name: str, *arguments: str, connects: bool = True) -> str:
    """What the program says. The password is in its environment, not in its arguments."""
    place = connection.settings_dict
    there = {"PGHOST": place["HOST"], "PGPORT": place["PORT"], "PGUSER": place["USER"], "PGPASSWORD": place["PASSWORD"]}
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    if connects:
        environment |= {key: str(value) for key, value in {**there, "PGDATABASE": place["NAME"]}.items() if value}
    try:
        done = subprocess.run([_program(name), *arguments], env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BackupToolError(
            f"Expected the program {name}: {error.strerror}. Set NEXA_POSTGRES_BIN to the folder of PostgreSQL's programs."
        ) from error
    if done.returncode:
        raise BackupToolError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
