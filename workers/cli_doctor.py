"""`nexa doctor`: every check with a mark, what was found, and what to do. Exit status 0 only if nothing failed."""

from __future__ import annotations

import sys

import click
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.doctor.examination import examine
from workers.doctor.findings import Finding, Level
from workers.home import NodeHome
from workers.status_view import plain
from workers.telling import told

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@told
def doctor(as_json: bool) -> None:
    """Check this machine, its engine, the portal and this node, and say what to do about what is wrong."""
    findings = []
    console = Console(stderr=as_json)
    with console.status("Looking..."):
        for finding in examine(NodeHome.default()):
            findings.append(finding)
            if not as_json:
                console.print(_line(finding))
    if as_json:
        click.echo(TypeAdapter(list[Finding]).dump_json(findings, indent=2))
    sys.exit(any(finding.level is Level.FAIL for finding in findings))


def _line(finding: Finding) -> Table:
    line = Table.grid(padding=(0, 2))
    line.add_column(width=4)
    line.add_column(width=15)
    line.add_column()
    line.add_row(Text(finding.level, _STYLES[finding.level]), finding.check, Text(plain(finding.found)))
    if finding.advice:
        line.add_row("", "", Text(finding.advice, "italic"))
    return line
