"""`python -m devstack demo|compose-demo|up|down`: what the Makefile runs."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from client.submission import DescriptorFileError
from devstack.background import STATE, down, serve, up
from devstack.compose import ComposeError
from devstack.compose_demo import ComposeDemo
from devstack.demo import Demo, DemoError, Options
from devstack.engine import EngineUnavailableError
from devstack.images import ImageUnavailableError
from devstack.processes import Interrupts, ProcessError, StackInterrupted, Supervisor
from devstack.stack import StackError
from nexaportal.embedded import EmbeddedError, EmbeddedServices
from workers.portal import PortalError

FAILURES = (
    ComposeError,
    DemoError,
    DescriptorFileError,
    EmbeddedError,
    EngineUnavailableError,
    ImageUnavailableError,
    PortalError,
    ProcessError,
    StackError,
    subprocess.TimeoutExpired,
)
"""What can go wrong and is told in a few lines; anything else is a bug and shows its traceback."""


def demo(options: Options, *, once: bool) -> int:
    """Runs the demo; with `once` ends after its table, else stays up until a signal. Leaves behind what devstack/demo.py says."""
    console = Console()
    with Interrupts() as interrupts:
        try:
            with contextlib.ExitStack() as cleanup:  # ends in reverse order: processes, containers, services, folder
                with interrupts.shield():
                    folder = Path(tempfile.mkdtemp(prefix="nexapod-demo-"))
                    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
                    services = EmbeddedServices.in_temporary_root(durable=True)
                    cleanup.callback(services.stop)
                    supervisor = Supervisor(interrupts)
                    running = Demo(options=options, console=console, folder=folder, services=services, supervisor=supervisor)
                    cleanup.callback(running.containers_remove)
                    cleanup.enter_context(supervisor)
                try:
                    running.run()
                except FAILURES as error:
                    return _failure_tell(console, running.evidence(), error)  # while the processes and their logs are still there
                if not once:
                    console.print(f"\nThe portal stays up at {running.origin} until Ctrl-C.", highlight=False, soft_wrap=True)
                    signal.pause()
        except StackInterrupted as interrupted:
            console.print("stopped; nothing of the demo is left running", highlight=False)
            return 0 if not once and interrupted.signum == signal.SIGINT else interrupted.exit_status
        except EmbeddedError as error:
            console.print(f"The demo failed: {error}", highlight=False, markup=False, soft_wrap=True)
            return 1
    return 0


def compose_demo(options: Options) -> int:
    """Runs the demo of compose.yaml to its end. Leaves behind what devstack/compose_demo.py says."""
    console = Console()
    with Interrupts() as interrupts:
        try:
            with contextlib.ExitStack() as cleanup:  # ends in reverse order: project, folder
                with interrupts.shield():
                    folder = Path(tempfile.mkdtemp(prefix="nexapod-compose-"))
                    folder.chmod(0o711)  # containers' users go through it
                    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
                    running = ComposeDemo(
                        console=console, folder=folder, keep=options.keep, example=options.example, limit_seconds=options.limit_seconds
                    )
                    cleanup.callback(running.remove)
                try:
                    running.run()
                except FAILURES as error:
                    return _failure_tell(console, running.evidence(), error)
        except StackInterrupted as interrupted:
            console.print("stopped; nothing of the demo is left running", highlight=False)
            return interrupted.exit_status
    return 0


def _failure_tell(console: Console, evidence: str, error: Exception) -> int:
    """Says what happened, the reason last, where it is read; the exit status."""
    console.print(evidence, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nThe demo failed: {error}", highlight=False, markup=False, soft_wrap=True)
    return 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m devstack")
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = Options()
    one = commands.add_parser("demo", help="from nothing to a verified, paid result")
    one.add_argument("--once", action="store_true", help="end after the table, non-zero if anything in it is wrong")
    one.add_argument("--example", type=Path, default=defaults.example, help="a folder with job.json, Dockerfile and inputs/")
    one.add_argument("--keep", type=Path, default=defaults.keep, help="where the result's bundle goes, or after a failure the logs")
    one.add_argument("--limit", type=float, default=defaults.limit_seconds, metavar="SECONDS", help="how long the job may take")
    composed = commands.add_parser("compose-demo", help="compose.yaml as an operator uses it; every service killed; a restore")
    composed.add_argument("--example", type=Path, default=defaults.example, help="a folder with job.json, Dockerfile and inputs/")
    composed.add_argument("--keep", type=Path, default=defaults.keep, help="where a result's bundle goes, or after a failure the logs")
    composed.add_argument("--limit", type=float, default=defaults.limit_seconds, metavar="SECONDS", help="how long a job may take")
    for name, what in (
        ("up", "start the stack in the background"),
        ("serve", "the stack in the foreground (what `up` puts into the background)"),
        ("down", "stop what `up` started"),
    ):
        commands.add_parser(name, help=what).add_argument(
            "--state", type=Path, default=STATE, help="the folder of keys, blobs, logs, dev.env and manage.env"
        )
    arguments = parser.parse_args()
    match arguments.command:
        case "demo":
            options = Options(arguments.example.resolve(), arguments.keep.resolve(), arguments.limit)
            return demo(options, once=arguments.once)
        case "compose-demo":
            return compose_demo(Options(arguments.example.resolve(), arguments.keep.resolve(), arguments.limit))
        case "up":
            return up(arguments.state.resolve())
        case "serve":
            return serve(arguments.state.resolve())
        case _:
            return down(arguments.state.resolve())


if __name__ == "__main__":
    sys.exit(main())
