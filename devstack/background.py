"""`make up` and `make down`: the same stack in the background, with lasting data, without a job or hosts.

`up` starts `serve` in a session of its own and waits for var/dev.env; `serve` is the process that owns everything and ends it when told;
`down` tells it. What `up` leaves between runs: the database, blobs and keys, below the stack's data root.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from devstack.processes import Interrupts, ProcessError, StackInterrupted, Supervisor
from devstack.stack import CHECKOUT, Access, Seed, Stack, StackError
from nexaportal.embedded import EmbeddedError, EmbeddedServices, data_root

STATE = CHECKOUT / "var"
ENVIRONMENT_FILE = STATE / "dev.env"
PID_FILE = STATE / "dev.pid"
LOG_FILE = STATE / "dev.log"
UP_TIMEOUT_SECONDS = 120.0
DOWN_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.1


def up() -> int:
    """Starts the stack unless it runs, waits until it answers, prints where it is."""
    if _running_pid() is None:
        STATE.mkdir(exist_ok=True)
        ENVIRONMENT_FILE.unlink(missing_ok=True)
        with LOG_FILE.open("wb") as log:
            served = subprocess.Popen(
                [sys.executable, "-m", "devstack", "serve"],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = time.monotonic() + UP_TIMEOUT_SECONDS
        while not ENVIRONMENT_FILE.exists():
            if served.poll() is not None or time.monotonic() > limit:
                print(f"The stack did not come up; the end of {LOG_FILE}:\n{LOG_FILE.read_text(errors='replace')[-2000:]}", file=sys.stderr)
                return 1
            time.sleep(_POLL_SECONDS)
    print(ENVIRONMENT_FILE.read_text().splitlines()[0].removeprefix("# "))
    print(f"{ENVIRONMENT_FILE.relative_to(CHECKOUT)} has a researcher's and a contributor's token, and how to mint a join token.")
    return 0


def serve() -> int:
    """Runs the stack until SIGTERM. Ended by `down`; run by hand, by Ctrl-C."""
    root = data_root("dev", CHECKOUT)
    keys = STATE / "dev"
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys.chmod(0o700)
    with Interrupts() as interrupts:
        try:
            with interrupts.shield():
                services = EmbeddedServices(root)
            try:
                with Supervisor(interrupts) as supervisor:
                    PID_FILE.write_text(str(os.getpid()))
                    shutil.rmtree(keys / "logs", ignore_errors=True)
                    stack = Stack(folder=keys, services=services, supervisor=supervisor)
                    access = stack.start(Seed(), report=print)
                    _environment_write(stack, access)
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
            PID_FILE.unlink(missing_ok=True)
            ENVIRONMENT_FILE.unlink(missing_ok=True)


def down() -> int:
    """Stops the stack and waits until it is gone. Nothing to do is success."""
    pid = _running_pid()
    if pid is None:
        print("Nothing runs.")
        return 0
    ended = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if not poll.poll(DOWN_TIMEOUT_SECONDS * 1000):
        print(f"Process {pid} did not end within {DOWN_TIMEOUT_SECONDS:g} s; see {LOG_FILE}.", file=sys.stderr)
        return 1
    print("Stopped.")
    return 0


def _running_pid() -> int | None:
    """The pid of the stack that runs, or None. A number that another program got since is not taken for it."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"devstack\0serve" in command else None


def _environment_write(stack: Stack, access: Access) -> None:
    """var/dev.env, readable by us only: to be sourced, and to be read."""
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
    draft = ENVIRONMENT_FILE.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    draft.rename(ENVIRONMENT_FILE)
