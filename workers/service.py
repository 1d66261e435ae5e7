"""The systemd unit of a host: the worker as a service that starts with the machine, is stopped gently, and may do little beside its work.

infra/host/nexa-worker.service is this unit with the usual user and paths; `nexa service print` fills in others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.caps import WorkerSettings

UNIT_NAME: Final = "nexa-worker.service"
STOP_MARGIN_SECONDS: Final = 40
"""What a stopping worker needs beside its drain and report limits: for containers that are killed and threads that end."""

_UNIT: Final = """\
# Written by `nexa service print`. To install it:
#   nexa service print | sudo tee /etc/systemd/system/{name}
#   sudo systemctl daemon-reload && sudo systemctl enable --now nexa-worker
# Look at it with `journalctl -u nexa-worker` and `nexa status`.

[Unit]
Description=NEXAPod host: runs scientific jobs in containers
Wants=network-online.target
After=network-online.target docker.service

[Service]
Type=exec
User={user}
# Whoever may use the engine's socket can become root: give this user nothing else to do.
SupplementaryGroups={engine_group}
Environment="NEXA_HOME={home}"
# A key kept as a systemd credential is handed over here (see `nexa key`):
#LoadCredentialEncrypted=nexa-key:/etc/credstore.encrypted/nexa-key
ExecStart="{program}" worker

# 0: it was told to stop, or drained (`nexa drain`). 78: starting again without a change would not help; its last line says what to change.
Restart=always
RestartSec=10
RestartPreventExitStatus=0 78

# SIGTERM to the worker alone: it takes no more work and lets its runs go on for `drain_seconds` of node.toml ({drain_seconds:g} s), then
# reports them for `report_seconds` ({report_seconds:g} s). Containers are the engine's children, not this unit's; the worker ends them.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={stop_seconds}

# What it may do: talk to the engine and the portal, write its home. No PrivateDevices and no ProtectClock, which hide GPUs and terminals.
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths="{home}"
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class ServicePlace:
    """Who runs the worker, with which `nexa`, on which node home. The group is the one that owns the engine's socket."""

    user: str = "nexa"
    home: Path = Path("/var/lib/nexa")
    program: Path = Path("/opt/nexa/bin/nexa")
    engine_group: str = "docker"


def unit_render(place: ServicePlace, settings: WorkerSettings) -> str:
    """The unit's text. Raises ValueError for a name or path that can't stand in a unit."""
    for text in (place.user, str(place.home), str(place.program), place.engine_group):
        # Specifiers (%) and quotes would mean something to systemd (systemd.syntax(7)); a line break would end the setting.
        if not text.isprintable() or any(character in text for character in '%"\\$'):
            raise ValueError(f"expected a name or path without %, $, quotes, backslashes and control characters; found {text!r}")
    return _UNIT.format(
        name=UNIT_NAME,
        user=place.user,
        home=place.home,
        program=place.program,
        engine_group=place.engine_group,
        drain_seconds=settings.drain_seconds,
        report_seconds=settings.report_seconds,
        stop_seconds=math.ceil(settings.drain_seconds + settings.report_seconds) + STOP_MARGIN_SECONDS,
    )
