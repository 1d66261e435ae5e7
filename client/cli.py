"""The `nexa` command: what a researcher does (login, submit, jobs, result, verify), beside a host's commands from workers/cli.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.api import PortalApi
from client.settings import Login, LoginMissingError, login_load, login_save
from client.submission import DescriptorFileError, descriptor_load, inputs_upload
from client.verification import Report, bundle_verify
from client.watching import job_watch
from workers.cli import COMMANDS
from workers.portal import PortalError
from workers.protocol.digests import digest_parse
from workers.protocol.errors import VerificationError

EXIT_REFUSED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """NEXAPod: shared scientific computing. Run a node, or have jobs run."""


@main.command()
@click.argument("origin")
@click.option("--coordinator", help="the coordinator's key id (sha256:…) to pin, from a place you trust; else the portal is believed once")
def login(origin: str, coordinator: str | None) -> None:
    """Remember a portal and an API token (asked for, not shown)."""
    with _errors_told():
        token = click.prompt("API token", hide_input=sys.stdin.isatty())
        found = PortalApi(origin).coordinator_key_id()
        if coordinator and coordinator != found:
            raise click.ClickException(f"The portal's coordinator key is {found}, not {coordinator}. Don't use this portal.")
        path = login_save(Login(origin.rstrip("/"), token, found))
        click.echo(f"Kept in {path}. Coordinator key: {found}")


@main.command()
@click.argument("descriptor", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--watch/--no-watch", default=True, help="follow the job until it ends")
def submit(descriptor: Path, watch: bool) -> None:
    """Submit a job: uploads its inputs (from beside the file, or inputs/), then follows it."""
    with _errors_told():
        api = _api()
        console = Console()
        document = descriptor_load(descriptor)
        with _transfer_bars(console) as bar:
            document = inputs_upload(api, document, descriptor.parent, progress=bar)
        job = api.job_submit(document)
        console.print(f"{job['job_id']}: {job['id']} ({job['state']})")
        if watch:
            job = job_watch(api, str(job["id"]), console)
            sys.exit(0 if job["state"] == "completed" else EXIT_REFUSED)


@main.command("jobs")
@click.option("--state", help="only jobs in this state")
@click.option("--json", "as_json", is_flag=True, help="the API's answer as it is")
def jobs_list(state: str | None, as_json: bool) -> None:
    """List your jobs, newest first."""
    with _errors_told():
        page = _api().jobs(**({"state": state} if state else {}))
        if as_json:
            click.echo(json.dumps(page, indent=2))
            return
        table = Table("label", "id", "state", "tier", "submitted", box=None)
        for job in page["jobs"]:
            table.add_row(job["job_id"], job["id"], job["state"], job["tier"], job["submitted_at"])
        Console().print(table)


@main.command()
@click.argument("job_id")
@click.option("--out", type=click.Path(path_type=Path), help="where to write the bundle; default: <job_id>.nexa.zip")
def result(job_id: str, out: Path | None) -> None:
    """Download a result with its evidence, and verify it."""
    with _errors_told():
        api = _api()
        login_ = login_load()
        path = out or Path(f"{api.job(job_id)['job_id']}.nexa.zip")
        console = Console()
        with path.open("wb") as file, _transfer_bars(console) as bar:
            api.bundle_download(job_id, file, progress=bar(path.name))
        key_id = login_.coordinator_key_id or api.coordinator_key_id()
        report_print(bundle_verify(path, coordinator_key_id=key_id), console)
        console.print(f"{path}. Verify it again, offline: nexa verify {path} --coordinator {key_id}", soft_wrap=True)


@main.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--coordinator", help="the coordinator's key id (sha256:…) to trust; default: the one pinned at login")
def verify(bundle: Path, coordinator: str | None) -> None:
    """Verify a result bundle offline: signatures, digests, logs, payment proofs."""
    with _errors_told():
        key_id = coordinator or login_load().coordinator_key_id
        digest_parse(key_id)
        report_print(bundle_verify(bundle, coordinator_key_id=key_id), Console())


for _command in COMMANDS:
    main.add_command(_command)


def report_print(report: Report, console: Console) -> None:
    """What a bundle proves, for people."""
    console.print(f"[green]verified[/green] {report.label} ({report.job_id})")
    console.print(f"  result {report.result_digest}, {report.files} files, {report.size_bytes} bytes", soft_wrap=True)
    console.print(f"  {len(report.replicas)} accepted replicas, quorum {report.quorum}")
    for replica in report.replicas:
        paid = "payment not in a checkpoint yet" if replica.paid_micro is None else f"paid {replica.paid_micro / 1e6:.6f} credits"
        mark = "canonical" if replica.canonical else "agrees"
        console.print(f"  {replica.node_name}: key {replica.node_key_id[:15]}…, {mark}, log of {replica.log_lines} lines, {paid}")
    if report.checkpoint_size is not None:
        console.print(f"  payments proved under the ledger's checkpoint of {report.checkpoint_size} entries")


def _api() -> PortalApi:
    known = login_load()
    return PortalApi(known.origin, known.token)


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turns what a user can do something about into one line and exit status 1."""
    try:
        yield
    except VerificationError as error:
        raise click.ClickException(f"{error} ({error.code})") from error
    except (PortalError, DescriptorFileError, LoginMissingError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _transfer_bars(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A progress bar for each named transfer."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:

        def bar(name: str) -> Callable[[int, int], None]:
            task = bars.add_task(name, total=None)

            def update(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total or None)

            return update

        yield bar
