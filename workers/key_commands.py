"""`nexa key`: show where the node's key is kept, move it to another storage, replace it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from workers.home import NodeHome
from workers.journal import Journal
from workers.key_rotation import key_protect, key_rotate
from workers.keystore.choice import KeyStorageChoice
from workers.keystore.interface import KeyStorageKind
from workers.portal import PortalRefusedError
from workers.telling import told

KIND = click.Choice([kind.value for kind in KeyStorageKind])
PASSPHRASE_FILE_OPTION = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="For `sealed`: a file whose first line is the passphrase, readable by you only; else it is asked for, at each start of a worker.",
)


def choice_of(kind: str, *, folder: Path, passphrase_file: Path | None) -> KeyStorageChoice:
    """What the options say. Raises click.UsageError for a passphrase that nothing needs."""
    if passphrase_file is not None and kind != KeyStorageKind.SEALED:
        raise click.UsageError("--passphrase-file goes with the storage `sealed`.")
    return KeyStorageChoice.of(KeyStorageKind(kind), folder=folder, passphrase_file=passphrase_file)


@click.group()
def key() -> None:
    """The node's key: where it is kept (docs/host-keys.md compares), and replacing it."""


@key.command()
@click.argument("storage", type=KIND)
@PASSPHRASE_FILE_OPTION
@told
def protect(storage: str, passphrase_file: Path | None) -> None:
    """Move the key to STORAGE. No worker may run."""
    with _home_locked() as home:
        key_protect(home, choice_of(storage, folder=home.folder, passphrase_file=passphrase_file))
        click.echo(f"The key of {home.identity().name} is kept in: {storage}.")


@key.command()
@click.option("--give-up", is_flag=True, help="Drop leases that have no receipt yet, instead of having a worker report them first.")
@told
def rotate(give_up: bool) -> None:
    """Replace the key: a new one is made here, the portal confirms it, and the old one opens nothing any more. No worker may run.

    Also what to do after moving a node home: every copy elsewhere becomes worthless. Interrupted, run it again.
    """
    with _home_locked() as home:
        journal = Journal.open(home.journal_path)
        try:
            new = key_rotate(home, journal, give_up=give_up)
        finally:
            journal.close()
        click.echo(f"The key of {home.identity().name} is now {new.public.key_id}. The old one opens nothing any more.")


@contextmanager
def _home_locked() -> Iterator[NodeHome]:
    """The home, with no worker on it."""
    home = NodeHome.default()
    lock = home.lock()
    try:
        yield home
    except PortalRefusedError as error:
        hint = " If somebody else rotated it, revoke the node on its page there." if error.code == "key_retired" else ""
        raise click.ClickException(f"{error}{hint}") from error
    finally:
        lock.release()
