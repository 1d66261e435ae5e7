"""`nexa service print`: the systemd unit that runs this node's worker."""

from __future__ import annotations

import getpass
import shutil
import sys
from pathlib import Path

import click

from workers.caps import NodeSettings
from workers.home import NodeHome
from workers.service import ServicePlace, unit_render
from workers.telling import told


@click.group()
def service() -> None:
    """Run the worker as a service of the system."""


@service.command("print")
@click.option("--user", default=None, help="Who runs it; default: you.")
@click.option("--home", "home_folder", type=click.Path(path_type=Path), default=None, help="The node home; default: this command's.")
@click.option("--engine-group", default="docker", show_default=True, help="The group that may use the engine's socket.")
@told
def service_print(user: str | None, home_folder: Path | None, engine_group: str) -> None:
    """Print a systemd unit for this node; its head says how to install it."""
    home = NodeHome(home_folder.absolute()) if home_folder else NodeHome.default()
    program = Path(shutil.which("nexa") or Path(sys.executable).with_name("nexa")).absolute()
    place = ServicePlace(user=user or getpass.getuser(), home=home.folder, program=program, engine_group=engine_group)
    try:
        text = unit_render(place, NodeSettings.read(home.settings_path).worker)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(text, nl=False)
