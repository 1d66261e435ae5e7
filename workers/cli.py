"""The contributor's commands: `join`, `worker`, `profile`, `status`, `leave` here, the others in files of their own (see `COMMANDS`).
client/cli.py hangs them under `nexa`.

Each command prints for people and exits 0, or prints one paragraph that says what was expected, found and to do, and exits 1.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click
from rich.console import Console

from workers.caps import NodeSettings
from workers.celery_host import EXIT_UNUSABLE
from workers.cli_doctor import doctor
from workers.cli_manners import drain, pause, resume
from workers.cli_service import service
from workers.home import HomeError, NodeHome
from workers.intent import Intent
from workers.intent_file import intent_write
from workers.joining import coordinator_check, node_join
from workers.journal import Journal
from workers.key_commands import KIND, PASSPHRASE_FILE_OPTION, choice_of, key
from workers.keystore.interface import KeyStorageKind
from workers.portal import PortalClient, PortalError
from workers.profile import machine_profile
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.messages.machine import NodeProfile
from workers.protocol.plurals import counted
from workers.runtime.docker_engine import DockerRuntime
from workers.status import status_read
from workers.status_view import status_render
from workers.telling import told
from workers.worker_queues import QueuesRefusedError, queues_check


@click.command()
@click.argument("token", required=False)
@click.option(
    "--token-file", type=click.File("r"), help="Read the token from a file (`-`: standard input), so that it shows in no process list."
)
@click.option("--name", default=None, help="What to call this node; default: the name chosen with the token, else the machine's.")
@click.option("--key-storage", type=KIND, default=KeyStorageKind.FILE.value, show_default=True, help="Where to keep the node's key.")
@PASSPHRASE_FILE_OPTION
@told
def join(token: str | None, token_file: IO[str] | None, name: str | None, key_storage: str, passphrase_file: Path | None) -> None:
    """Make this machine a node, with the one-time TOKEN from the portal's page for contributors."""
    console = Console()
    home = NodeHome.default()
    home.free_check()
    storage = choice_of(key_storage, folder=home.folder, passphrase_file=passphrase_file)
    text = token_file.read(4096) if token_file is not None else token
    if text is None:
        raise click.UsageError("Give the token, or --token-file.")
    content = join_token_decode(text)
    coordinator = coordinator_check(content)
    console.print(f"Portal {content.portal}, coordinator key {coordinator.key_id}: as the token says.")
    profile = _profile(console)
    answer = node_join(home, token=content, coordinator=coordinator, name=name, profile=profile, key_storage=storage)
    console.print(f"Joined as [bold]{answer.name}[/] of {answer.owner}, tier {answer.tier}; queues: {', '.join(answer.queues)}.")
    console.print(f"Node home: {home.folder}. Its key is kept in: {key_storage}. Whoever has the key is this node.")
    console.print("Start working with: [bold]nexa worker[/], or as a service: [bold]nexa service print[/]")


@click.command()
@click.option("--queues", "-Q", default=None, help="Tier queues to serve, separated by commas; default: all that this node may.")
@click.option("--loglevel", "-l", default="INFO", show_default=True)
@told
def worker(queues: str | None, loglevel: str) -> None:
    """Work: take jobs from the queues of this machine's tier until stopped (Ctrl-C or SIGTERM; twice to cancel what runs)."""
    try:
        identity = NodeHome.default().identity()
        served = queues_check(queues.split(",") if queues else None, allowed=identity.queues)
    except (HomeError, QueuesRefusedError) as error:
        # As the worker itself would: a service manager must not try this again every ten seconds.
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_UNUSABLE)
    arguments = [sys.executable, "-m", "celery", "-A", "nexaportal", "worker", "-Q", ",".join(served), "--loglevel", loglevel]
    sys.stdout.flush()
    # A plain Celery worker takes this process's place: signals reach it directly.
    os.execv(sys.executable, arguments)  # noqa: S606  our own interpreter, no shell


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
@told
def profile(as_json: bool) -> None:
    """Show what this machine is: processor, memory, disk, GPUs, container engine, speed."""
    console = Console(stderr=as_json)
    found = _profile(console)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    gib = 2**30
    console.print(f"Processor  {found.cpu_model}, {counted(found.cores, 'core')}, {found.benchmark_gflops:.1f} GFLOP/s a core")
    console.print(f"Memory     {found.memory_bytes / gib:.1f} GiB")
    console.print(f"Disk       {found.disk_free_bytes / gib:.1f} GiB free")
    for gpu in found.gpus:
        console.print(f"GPU {gpu.index}      {gpu.name}, {gpu.memory_bytes / gib:.1f} GiB, {gpu.uuid}")
    if not found.gpus:
        console.print("GPU        none found")
    engine = found.engine
    console.print(f"Engine     {engine.title}, cgroup v{engine.cgroup_version}{', rootless' if engine.rootless else ''}")
    if engine.limits_ignored:
        console.print(f"[red]The engine would ignore the limits {', '.join(engine.limits_ignored)}: this machine gets no jobs.[/]")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--check", is_flag=True, help="Print nothing; exit with status 1 unless a worker does its work here.")
@told
def status(as_json: bool, check: bool) -> None:
    """Show what this node is doing, how far it has come, and why there is no work."""
    found = status_read(NodeHome.default())
    now = datetime.now(UTC)
    if check:
        sys.exit(1 if found.worker_silent(now) else 0)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        Console().print(status_render(found, now=now))


@click.command()
@click.option("--yes", is_flag=True, help="Don't ask.")
@told
def leave(yes: bool) -> None:
    """Stop being a node: the portal is told, and the key removed from this machine. Credits stay with their owner."""
    home = NodeHome.default()
    identity = home.identity()
    lock = home.lock()
    try:
        home.place_check()  # leaving in a copy would revoke the original
        journal = Journal.open(home.journal_path)
        owed = journal.leases_open()
        journal.close()
        if owed:
            click.echo(f"{counted(len(owed), 'result')} not reported yet and lost with it; `nexa worker` reports what is owed.")
        if not yes:
            click.confirm(f"Remove the key of node {identity.name!r} ({identity.portal}) from {home.folder}?", abort=True)
        try:
            portal = PortalClient(identity.portal, home.key())
            try:
                portal.leave()
            finally:
                portal.close()
        except (PortalError, HomeError) as error:
            click.echo(f"The portal could not be told: {error}\nRevoke the node on its page there.", err=True)
        home.forget()
        intent_write(home.folder, Intent())  # what this node was told is not for the next one
        click.echo("This machine is no node any more.")
    finally:
        lock.release()


COMMANDS: tuple[click.Command, ...] = (join, worker, profile, status, doctor, pause, resume, drain, service, key, leave)
"""For the root command."""


def _profile(console: Console) -> NodeProfile:
    with console.status("Looking at this machine and measuring its speed..."):
        settings = NodeSettings.read(NodeHome.default().settings_path)
        return machine_profile(DockerRuntime(runtime=settings.sandbox.runtime).profile())
