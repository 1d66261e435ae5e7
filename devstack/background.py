"""`make up` and `make down`: the same stack in the background, with lasting data, without a job or hosts.

`up` starts `serve` in a session of its own and waits for var/dev.env; `serve` is the process that owns everything and ends it when told;
`down` tells it. Beside dev.env lies manage.env, for management commands. What `up` leaves between runs: the database, blobs and keys,
below the stack's data root.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devstack.processes import Interrupts, ProcessError, StackInterrupted, Supervisor
from devstack.stack import CHECKOUT, Access, Seed, Stack, StackError
from nexaportal.embedded import EmbeddedError, EmbeddedServices, data_root

STATE = CHECKOUT / "var"
"""Where `make up` keeps dev.env, manage.env, dev.pid, dev.log and the folder dev/, unless it is told another place."""
MANAGE_FILE = "manage.env"
UP_TIMEOUT_SECONDS = 120.0
DOWN_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.1


def up(state: Path) -> int:
    """Starts the stack unless it runs, waits until it answers, prints where it is."""
    environment_file, log_file = state / "dev.env", state / "dev.log"
    if _running_pid(state) is None:
        state.mkdir(exist_ok=True)
        environment_file.unlink(missing_ok=True)
        with log_file.open("wb") as log:
            served = subprocess.Popen(
                [sys.executable, "-m", "devstack", "serve", "--state", str(state)],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = time.monotonic() + UP_TIMEOUT_SECONDS
        while not environment_file.exists():
            if served.poll() is not None or time.monotonic() > limit:
                print(f"The stack did not come up; the end of {log_file}:\n{log_file.read_text(errors='replace')[-2000:]}", file=sys.stderr)
                return 1
            time.sleep(_POLL_SECONDS)
    print(environment_file.read_text().splitlines()[0].removeprefix("# "))
    print(f"{_shown(environment_file)} has a researcher's and a contributor's token, and how to mint a join token.")
    print(f"Management commands, as the owner of the tables: {_manage_line(state / MANAGE_FILE, 'createsuperuser')}")
    return 0


def serve(state: Path) -> int:
    """Runs the stack until SIGTERM. Ended by `down`; run by hand, by Ctrl-C."""
    root = data_root("dev", CHECKOUT if state == STATE else state)
    pid_file, environment_file, manage_file = state / "dev.pid", state / "dev.env", state / MANAGE_FILE
    keys = state / "dev"
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys.chmod(0o700)
    with Interrupts() as interrupts:
        try:
            with interrupts.shield():
                services = EmbeddedServices(root)
            try:
                with Supervisor(interrupts) as supervisor:
                    pid_file.write_text(str(os.getpid()))
                    shutil.rmtree(keys / "logs", ignore_errors=True)
                    stack = Stack(folder=keys, services=services, supervisor=supervisor)
                    access = stack.start(Seed(), report=print)
                    _manage_write(stack, manage_file)
                    _environment_write(stack, access, environment_file)  # last: `up` waits for it
                    while True:
                        time.sleep(2.0)
                        supervisor.expect_alive()
            finally:
                services.stop()
        except StackInterrupted:
            return 0
        except (EmbeddedError, ProcessError, StackError) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            pid_file.unlink(missing_ok=True)
            environment_file.unlink(missing_ok=True)
            manage_file.unlink(missing_ok=True)


def down(state: Path) -> int:
    """Stops the stack and waits until it is gone. Nothing to do is success."""
    pid = _running_pid(state)
    if pid is None:
        print("Nothing runs.")
        return 0
    ended = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if not poll.poll(DOWN_TIMEOUT_SECONDS * 1000):
        print(f"Process {pid} did not end within {DOWN_TIMEOUT_SECONDS:g} s; see {state / 'dev.log'}.", file=sys.stderr)
        return 1
    print("Stopped.")
    return 0


def _running_pid(state: Path) -> int | None:
    """The pid of the stack that runs, or None. A number that another program got since is not taken for it."""
    try:
        pid = int((state / "dev.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"devstack\0serve" in command else None


def _environment_write(stack: Stack, access: Access, path: Path) -> None:
    """dev.env: to be sourced, and to be read."""
    contributor = next(iter(access.contributor_tokens.values()))
    lines = [
        f"# portal: {stack.origin}",
        f"NEXA_PORTAL={stack.origin}",
        f"NEXA_COORDINATOR={stack.coordinator_key_id}",
        "# an approved researcher: nexa submit, nexa jobs, nexa result",
        f"NEXA_TOKEN={access.researcher_token}",
        "# a contributor; a join token for a host of theirs:",
        '#   curl -s -X POST -H "Authorization: Bearer $NEXA_CONTRIBUTOR_TOKEN" -H "Content-Type: application/json" \\\n'
        "#     -d '{}' $NEXA_PORTAL/api/v1/join-tokens",
        f"NEXA_CONTRIBUTOR_TOKEN={contributor}",
    ]
    _private_write(path, lines)


def _manage_write(stack: Stack, path: Path) -> None:
    """manage.env: to be sourced in a shell of its own, since it names the owner of the tables."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in stack.manage_settings().items()]
    _private_write(
        path, ["# The portal's settings, as the owner of the tables. One command at a time:", f"#   {_manage_line(path, '...')}", *settings]
    )


def _manage_line(path: Path, command: str) -> str:
    return f"(set -a; . {_shown(path)}; .venv/bin/python manage.py {command})"


def _shown(path: Path) -> Path:
    return path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path


def _private_write(path: Path, lines: Sequence[str]) -> None:
    """Readable by us only, and there once it is whole."""
    draft = path.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    draft.rename(path)
