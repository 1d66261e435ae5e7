"""`python -m devstack demo|up|down`: what the Makefile runs."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from devstack.background import down, serve, up
from devstack.demo import Demo, DemoError
from devstack.engine import EngineUnavailableError
from devstack.images import ImageUnavailableError
from devstack.processes import Interrupts, ProcessError, StackInterrupted, Supervisor
from devstack.stack import StackError
from nexaportal.embedded import EmbeddedError, EmbeddedServices
from workers.portal import PortalError

FAILURES = (
    DemoError,
    EmbeddedError,
    EngineUnavailableError,
    ImageUnavailableError,
    PortalError,
    ProcessError,
    StackError,
    TimeoutError,
)
"""What can go wrong and is told in a few lines; anything else is a bug and shows its traceback."""


def demo(*, once: bool) -> int:
    """Runs the demo; with `once` ends after its table, else stays up until a signal. Leaves nothing behind but images in the engine."""
    console = Console()
    with Interrupts() as interrupts:
        folder = Path(tempfile.mkdtemp(prefix="nexapod-demo-"))
        try:
            with interrupts.shield():
                services = EmbeddedServices.in_temporary_root(durable=True)
            try:
                with Supervisor(interrupts) as supervisor:
                    running = Demo(console=console, folder=folder, services=services, supervisor=supervisor, interrupts=interrupts)
                    running.run()
                    if not once:
                        console.print(f"\nThe portal stays up at {running.origin} until Ctrl-C.")
                        signal.pause()
            finally:
                services.stop()
        except StackInterrupted as interrupted:
            console.print("stopped; nothing of the demo is left running", highlight=False)
            return 0 if not once and interrupted.signum == signal.SIGINT else interrupted.exit_status
        except FAILURES as error:
            console.print(f"{error}", highlight=False, markup=False, soft_wrap=True)
            return 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m devstack")
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser("demo", help="from nothing to a verified, paid result")
    demo_parser.add_argument("--once", action="store_true", help="end after the table, non-zero if anything in it is wrong")
    commands.add_parser("up", help="start the stack in the background")
    commands.add_parser("serve", help="the stack in the foreground (what `up` puts into the background)")
    commands.add_parser("down", help="stop what `up` started")
    arguments = parser.parse_args()
    match arguments.command:
        case "demo":
            return demo(once=arguments.once)
        case "up":
            return up()
        case "serve":
            return serve()
        case _:
            return down()


if __name__ == "__main__":
    sys.exit(main())
