"""The `nexa` command: what a researcher does (login, submit, jobs, result, verify, audit), beside a host's commands from workers/cli.py.

Exit status: 0 done; 1 refused, failed or not verified, with one line that says why; 2 a wrong command line. A token is never an argument:
process lists and shell histories are read by others.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from client.api import PortalApi, origin_parse
from client.arrays import array_upload, items_load, requests_of
from client.cli_audit import audit
from client.settings import Login, LoginMissingError, coordinator_key_id_pinned, login_load, login_save
from client.submission import DescriptorFileError, descriptor_load, inputs_upload
from client.terminal import plain, say
from client.verification import Report, bundle_verify
from client.watching import job_watch
from workers.cli import COMMANDS
from workers.portal import PortalError
from workers.protocol.digests import digest_parse
from workers.protocol.errors import VerificationError
from workers.protocol.plurals import counted


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """NEXAPod: shared scientific computing. Run a node, or have jobs run."""


@main.command()
@click.argument("origin")
@click.option("--coordinator", help="the coordinator's key id (sha256:…) to pin, from a place you trust; else the portal is believed once")
@click.option("--plain-http", is_flag=True, help="send the token over http to another machine, where others may read it")
def login(origin: str, coordinator: str | None, plain_http: bool) -> None:
    """Remember a portal and an API token (asked for and not shown; or on standard input)."""
    with _errors_told():
        origin = origin_parse(origin)
        if not plain_http and not _is_private(origin):
            raise click.ClickException(
                f"Over {origin} the token can be read on its way. Use https://, or --plain-http if you know this network."
            )
        if coordinator:
            digest_parse(coordinator)
        found = PortalApi(origin).coordinator_key_id()
        if coordinator and coordinator != found:
            raise click.ClickException(f"The portal's coordinator key is {plain(found)}, not {coordinator}. Don't use this portal.")
        digest_parse(found)
        # Not from a terminal: the token is piped in, and a prompt that opens the terminal would wait for ever.
        token = click.prompt("API token", hide_input=True).strip() if sys.stdin.isatty() else sys.stdin.readline(4096).strip()
        PortalApi(origin, token).me()  # a wrong token is told now, and kept nowhere
        path = login_save(Login(origin, token, found))
        click.echo(f"Kept in {path}. Coordinator key: {found}")


@main.command()
@click.argument("descriptor", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--watch/--no-watch", default=True, help="follow the job until it ends; arrays are not followed")
@click.option(
    "--array",
    "items_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="submit a job for each line of this file, which says how it differs: JSON lines, or CSV",
)
def submit(descriptor: Path, watch: bool, items_path: Path | None) -> None:
    """Submit a job, or an array of them: uploads inputs (from beside the file, or inputs/), then follows the job."""
    with _errors_told():
        api = _api()
        console = Console()
        document = descriptor_load(descriptor)
        if items_path is not None:
            _array_submit(api, document, items_path, descriptor.parent, console)
            return
        with _transfer_bars(console) as bar:
            document = inputs_upload(api, document, descriptor.parent, progress=bar)
        job = api.job_submit(document)
        say(console, f"{job['job_id']}: {job['id']} ({job['state']})")
        if watch:
            _watch(api, job, console)


@main.command("jobs")
@click.argument("job_id", required=False)
@click.option("--state", help="only jobs in this state")
@click.option("--before", help="go on behind an earlier page, by the word that it ended with")
@click.option("--watch", is_flag=True, help="follow the job JOB_ID until it ends")
@click.option("--json", "as_json", is_flag=True, help="the API's answer as it is")
def jobs_list(job_id: str | None, state: str | None, before: str | None, watch: bool, as_json: bool) -> None:
    """List your jobs, newest first; or show one, by its id."""
    filters = {name: value for name, value in (("state", state), ("before", before)) if value is not None}
    if (watch and job_id is None) or (job_id is not None and filters):
        raise click.UsageError("--watch goes with a JOB_ID, --state and --before without one.")
    with _errors_told():
        api = _api()
        page = {"jobs": [api.job(job_id)]} if job_id else api.jobs(**filters)
        if as_json:
            click.echo(json.dumps(page["jobs"][0] if job_id else page, indent=2))
            return
        table = Table(
            "label", Column("id", no_wrap=True, min_width=36), "state", "tier", "submitted", box=None
        )  # ids are there to be copied
        for job in page["jobs"]:
            table.add_row(*(Text(plain(job.get(name, ""))) for name in ("job_id", "id", "state", "tier", "submitted_at")))
        console = Console()
        console.print(table)
        if page.get("next"):
            say(console, f"There are older ones: nexa jobs --before {page['next']}")
        if job_id and watch:
            _watch(api, page["jobs"][0], console)


@main.command()
@click.argument("job_id")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="where to write the bundle; default: <label>.nexa.zip")
def result(job_id: str, out: Path | None) -> None:
    """Download a result with its evidence, and verify it. A bundle that is refused is kept under another name."""
    with _errors_told():
        api = _api()
        pinned = login_load().coordinator_key_id
        path = out or Path(_file_name(api.job(job_id)["job_id"]))
        console = Console()
        if not pinned:
            say(
                console,
                "No coordinator's key is pinned: the portal is believed this once. Log in with --coordinator, or set NEXA_COORDINATOR.",
            )
        key_id = pinned or api.coordinator_key_id()
        partial = path.with_name(f"{path.name}.part")
        _bundle_fetch(api, job_id, partial, console)
        try:
            report = bundle_verify(partial, coordinator_key_id=key_id)
        except VerificationError as error:
            raise click.ClickException(plain(f"{error} ({error.code}) It is kept as {partial}.", characters_max=2000)) from error
        partial.replace(path)
        report_print(report, console)
        say(console, f"{path}. Verify it again, offline: nexa verify {path} --coordinator {key_id}")


@main.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--coordinator", help="the coordinator's key id (sha256:…) to trust; default: the one pinned at login")
def verify(bundle: Path, coordinator: str | None) -> None:
    """Verify a result bundle offline: signatures, digests, logs, payment proofs."""
    with _errors_told():
        key_id = coordinator or coordinator_key_id_pinned()
        digest_parse(key_id)
        report_print(bundle_verify(bundle, coordinator_key_id=key_id), Console())


for _command in (audit, *COMMANDS):
    main.add_command(_command)


def report_print(report: Report, console: Console) -> None:
    """What a bundle proves, for people."""
    say(console, f"verified {report.label} ({report.job_id})")
    say(console, f"  result {report.result_digest}, {counted(report.files, 'file')}, {counted(report.size_bytes, 'byte')}")
    say(console, f"  {counted(len(report.replicas), 'accepted replica')}, quorum {report.quorum}")
    for replica in report.replicas:
        paid = "payment not in a checkpoint yet" if replica.paid_micro is None else f"paid {replica.paid_micro / 1e6:.6f} credits"
        mark = "canonical" if replica.canonical else "agrees"
        say(console, f"  {replica.node_name}: key {replica.node_key_id[:15]}…, {mark}, log of {counted(replica.log_lines, 'line')}, {paid}")
    if report.checkpoint_size is not None:
        say(console, f"  payments proved under the ledger's checkpoint of {counted(report.checkpoint_size, 'leaf', 'leaves')}")


def _api() -> PortalApi:
    known = login_load()
    return PortalApi(known.origin, known.token)


def _array_submit(api: PortalApi, document: dict[str, Any], items_path: Path, folder: Path, console: Console) -> None:
    """Submits a job for each line of a file, in as many requests as it takes, and says what came of each request."""
    template = {name: value for name, value in document.items() if name != "job_id"}
    items = items_load(items_path, label=str(document.get("job_id", "job")))
    with _transfer_bars(console) as bar:
        template, items = array_upload(api, template, items, folder, progress=bar)
    for request in requests_of(items):
        jobs = api.jobs_submit(template, request)
        new = sum(job.get("created") is True for job in jobs)
        first, last = jobs[0], jobs[-1]
        say(
            console, f"{counted(len(jobs), 'job')}, {new} of them new: {first['job_id']} ({first['id']}) to {last['job_id']} ({last['id']})"
        )


def _watch(api: PortalApi, job: dict[str, Any], console: Console) -> None:
    """Follows the job, says how it ended, and exits 1 unless it was completed."""
    try:
        job = job_watch(api, str(job["id"]), console)
    except KeyboardInterrupt:
        say(console, f"The job goes on. Follow it again: nexa jobs {job['id']} --watch")
        sys.exit(130)
    if job["state"] != "completed":
        why = f": {job.get('failure_message') or ''} ({job['failure_code']})" if job.get("failure_code") else ""
        raise click.ClickException(plain(f"The job is {job['state']}{why}", characters_max=1500))
    say(console, f"completed. The result: nexa result {job['id']}")


def _bundle_fetch(api: PortalApi, job_id: str, path: Path, console: Console) -> None:
    """Downloads to `path`; nothing stays there unless all of it came."""
    try:
        with path.open("wb") as file, _transfer_bars(console) as bar:
            api.bundle_download(job_id, file, progress=bar(path.name))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _file_name(label: str) -> str:
    """A file name in the working folder, whatever the portal says that the label is."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', label).lstrip('.')[:128] or 'result'}.nexa.zip"


def _is_private(origin: str) -> bool:
    """Whether nobody on the network reads what goes to `origin`: TLS, or this very machine."""
    parts = urlsplit(origin)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turns what a user can do something about into one line and exit status 1."""
    try:
        yield
    except VerificationError as error:
        raise click.ClickException(plain(f"{error} ({error.code})", characters_max=2000)) from error
    except (PortalError, DescriptorFileError, LoginMissingError) as error:
        raise click.ClickException(plain(error, characters_max=2000)) from error
    except OSError as error:
        raise click.ClickException(plain(f"{error.filename or 'a file'}: {error.strerror}")) from error


@contextmanager
def _transfer_bars(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A progress bar for each named transfer."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def bar(name: str) -> Callable[[int, int], None]:
            task = bars.add_task(plain(name, characters_max=60), total=None)

            def update(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total or None)

            return update

        yield bar
