"""`nexa audit`: the ledger's log, looked at from outside."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from client.audit.auditing import Report, log_audit
from client.audit.errors import AuditError
from client.audit.findings import KEPT_PER_CODE
from client.audit.folder_source import FolderSource
from client.audit.last_run import Memory, state_folder
from client.audit.portal_source import PortalSource
from client.audit.source import LogSource
from client.audit.trust import coordinator_read
from client.settings import LoginMissingError, coordinator_key_id_known, login_load
from client.terminal import plain, say
from workers.portal import PortalError
from workers.protocol.digests import digest_parse
from workers.protocol.errors import VerificationError
from workers.protocol.plurals import counted

EXIT_FOUND = 1


@click.command()
@click.argument("where", required=False)
@click.option("--coordinator", help="the coordinator's key id (sha256:…) to trust; default: the one pinned at login or by the last audit")
@click.option("--json", "as_json", is_flag=True, help="one JSON document instead of lines")
def audit(where: str | None, coordinator: str | None, as_json: bool) -> None:
    """Audit a portal's ledger: WHERE is its address, or a folder with a mirror of it; default: the portal of your login.

    Downloads the whole log, recomputes its tree, compares it with what is signed and with what the last audit saw, and checks every entry,
    receipt and payment. Exit status: 0 nothing wrong; 1 findings, or it could not be audited; 2 a wrong command line.
    """
    try:
        report = _audited(where, coordinator)
    except (AuditError, VerificationError) as error:
        _refuse(as_json, error.code, str(error))
    except (PortalError, LoginMissingError) as error:
        _refuse(as_json, "source_unreadable", str(error))
    except OSError as error:
        _refuse(as_json, "source_unreadable", f"{error.filename or 'a file'}: {error.strerror}")
    else:
        if as_json:
            click.echo(json.dumps(report_document(report), indent=2))
        else:
            report_print(report, Console())
        if not report.is_clean:
            sys.exit(EXIT_FOUND)


def report_document(report: Report) -> dict[str, Any]:
    """For machines: all of a report. At most KEPT_PER_CODE findings of a code are listed, `finding_counts` counts all."""
    return {
        "clean": report.is_clean,
        "source": report.source,
        "log": report.log,
        "coordinator": report.coordinator_key_id,
        "size": report.size,
        "root": report.root.hex(),
        "size_before": report.before,
        "counts": asdict(report.counts),
        "findings": [asdict(finding) for finding in report.findings.kept],
        "finding_counts": dict(report.findings.counts),
        "warnings": report.findings.warnings,
        "proof": str(report.proof) if report.proof else None,
        "seconds": round(report.seconds, 3),
    }


def report_print(report: Report, console: Console) -> None:
    """For people."""
    counts, findings = report.counts, report.findings
    say(console, f"audited {report.log} at {report.source}: {counted(report.size, 'leaf', 'leaves')} in {report.seconds:.1f} s")
    say(console, f"  root {report.root.hex()}, signed by {report.coordinator_key_id}")
    say(
        console,
        "  first audit of this log here"
        if report.before is None
        else f"  compared with the {counted(report.before, 'leaf', 'leaves')} of the last audit",
    )
    say(
        console,
        f"  {counted(counts.entries, 'entry', 'entries')}; {counted(counts.payments, 'payment')} of {counts.paid_micro / 1e6:.6f} credits",
    )
    say(console, f"  {counted(counts.receipts, 'receipt')}, under {counted(counts.node_keys, 'node key')}")
    if counts.jobs_ruled:
        say(console, f"  {counted(counts.jobs_ruled, 'job')} decided by a ruling, whatever the quorum")
    if counts.spot_choices:
        say(
            console,
            f"  {counted(counts.spot_choices, 'draw')}, {counts.spot_choices_open} of them by a key that is not published yet: "
            "not to be checked now",
        )
    for warning in findings.warnings:
        say(console, f"warning: {warning}")
    for finding in findings.kept:
        where = "" if finding.leaf is None else f"leaf {finding.leaf}: "
        say(console, f"{finding.code}: {where}{finding.message}")
    for code, count in findings.counts.items():
        if count > KEPT_PER_CODE:
            say(console, f"{code}: {count} in all")
    if report.proof:
        say(console, f"Two notes that contradict each other, kept in {report.proof}:")
        for line in report.proof.read_text(encoding="utf-8").splitlines():
            say(console, f"    {line}")
    total = findings.counts.total()
    say(console, "nothing wrong found" if report.is_clean else f"{total} finding{'s' if total > 1 else ''}")


def _audited(where: str | None, coordinator: str | None) -> Report:
    source = _source(where or login_load().origin)
    if coordinator is not None:
        try:
            digest_parse(coordinator)
        except VerificationError as error:
            raise click.UsageError(f"--coordinator: {error}") from error
    pinned = coordinator or coordinator_key_id_known(authority=coordinator_read(source).authority)
    with tempfile.TemporaryDirectory(prefix="nexa-audit-") as folder, _bar() as progress:
        return log_audit(source, pinned=pinned, memory=Memory(state_folder()), folder=Path(folder), progress=progress)


def _source(where: str) -> LogSource:
    if where.startswith(("http://", "https://")):
        return PortalSource(where)
    if Path(where).is_dir():
        return FolderSource(Path(where))
    raise click.UsageError(f"Expected the address of a portal (https://…) or a folder with a mirror; found {plain(where)!r}.")


def _refuse(as_json: bool, code: str, message: str) -> None:
    """Ends with status 1 and the reason why there is no report."""
    if as_json:
        click.echo(json.dumps({"clean": False, "error": {"code": code, "message": message}}, indent=2))
        sys.exit(EXIT_FOUND)
    raise click.ClickException(plain(f"Not audited: {message} ({code})", characters_max=2000))


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("leaves"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
