"""What a stack keeps between runs in one folder."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from devstack.processes import Interrupts, Supervisor
from devstack.stack import Stack, StackError
from nexaportal.embedded import EmbeddedServices


def stack_of(folder: Path) -> Stack:
    return Stack(folder=folder, services=EmbeddedServices(folder / "services"), supervisor=Supervisor(Interrupts()))


def test_the_same_folder_gives_the_same_address_so_that_hosts_logins_and_the_ledgers_name_live_on(tmp_path: Path) -> None:
    assert stack_of(tmp_path).origin == stack_of(tmp_path).origin


def test_an_address_that_another_program_took_is_refused_and_not_replaced(tmp_path: Path) -> None:
    port = stack_of(tmp_path).port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        with pytest.raises(StackError, match=f"Port {port} of 127.0.0.1"):
            stack_of(tmp_path)
