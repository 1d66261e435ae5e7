"""`nexa pause`, `resume` and `drain`: what the contributor tells this node. A running worker hears it within a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from workers.home import NodeHome
from workers.intent import Intent, IntentKind, duration_parse
from workers.intent_file import intent_write
from workers.status import worker_runs
from workers.telling import told


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return duration_parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--for", "lasting", type=_Duration(), default=None, help="Go on by itself after this long: 90m, 2h, 1d12h.")
@told
def pause(lasting: timedelta | None) -> None:
    """Take no more work. What runs goes on to its end; `nexa resume` takes work again."""
    now = datetime.now(UTC)
    until = now + lasting if lasting else None
    running = _tell(Intent(kind=IntentKind.PAUSE, since=now, until=until))
    end = f"until {until.astimezone():%Y-%m-%d %H:%M}" if until else "until `nexa resume`"
    click.echo(f"Paused {end}. {'What runs is finished; no more is taken.' if running else 'No worker runs; one that starts waits.'}")


@click.command()
@told
def resume() -> None:
    """Take work again, after `nexa pause` or `nexa drain`."""
    running = _tell(Intent(kind=IntentKind.WORK, since=datetime.now(UTC)))
    click.echo(f"This node takes work{'.' if running else ' as soon as a worker runs: `nexa worker`, or start its service.'}")


@click.command()
@told
def drain() -> None:
    """Take no more work, finish and report what runs, then stop, and stay stopped until `nexa resume`."""
    running = _tell(Intent(kind=IntentKind.DRAIN, since=datetime.now(UTC)))
    how = "The worker finishes what it has and stops; `nexa status` shows how far it is." if running else "No worker runs."
    click.echo(f"{how} None starts to work here again before `nexa resume`.")


def _tell(intent: Intent) -> bool:
    """Whether a worker is there to hear it."""
    home = NodeHome.default()
    home.identity()
    intent_write(home.folder, intent)
    return worker_runs(home)
