"""Checks of the portal, by two unsigned calls: does it answer, what time is it there, is it ours, do we speak the same protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import requests

from workers.doctor.findings import Finding, fail, ok, warn
from workers.portal import PortalClient, PortalError
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.joining import CoordinatorInfo
from workers.protocol.succession import keys_of
from workers.versions import protocol_gap

CLOCK_GOOD_SECONDS: Final = 5.0
"""The portal's date is exact to a second, and its answer takes its time."""

_ANSWER_SECONDS: Final = (5.0, 10.0)


@dataclass(frozen=True)
class PortalAnswer:
    """`coordinator`, or in words why not. `ahead_seconds`: by how much this machine's clock is ahead of the portal's; None if unknown."""

    origin: str
    coordinator: CoordinatorInfo | str
    took_seconds: float
    ahead_seconds: float | None


def portal_ask(origin: str) -> PortalAnswer:
    """Ask the portal at `origin`. Raises nothing."""
    portal = PortalClient(origin, None)
    began = time.monotonic()
    coordinator: CoordinatorInfo | str
    try:
        coordinator = portal.coordinator()
    except PortalError as error:
        coordinator = str(error)
    finally:
        portal.close()
    return PortalAnswer(origin, coordinator, time.monotonic() - began, _ahead_seconds(origin))


def portal_check(answer: PortalAnswer) -> Finding:
    """Whether the portal answers as one does."""
    if isinstance(answer.coordinator, str):
        advice = "Look at the network, a proxy (HTTPS_PROXY) or firewall, and at the portal in a browser. The worker tries again by itself."
        return fail("portal", answer.coordinator, advice)
    return ok("portal", f"{answer.origin} answers in {answer.took_seconds * 1000:.0f} ms")


def clock_check(answer: PortalAnswer) -> Finding:
    """Whether this machine's clock agrees with the portal's. Where it doesn't, workers/clock.py makes up for it."""
    if answer.ahead_seconds is None:
        return warn("clock", "can't be compared with the portal's", "Mend the connection to the portal first.")
    off = abs(answer.ahead_seconds)
    found = f"{off:.0f} s {'ahead of' if answer.ahead_seconds > 0 else 'behind'} the portal's; this host goes by the portal's"
    advice = "Let the system keep the time: `timedatectl set-ntp true` on Linux, 'set time automatically' elsewhere."
    if off > CLOCK_GOOD_SECONDS:
        return warn("clock", found, advice)
    return ok("clock", "agrees with the portal's")


def coordinator_key_check(coordinator: CoordinatorInfo, *, pinned: str) -> Finding:
    """Whether the portal has the coordinator key (base64) that was pinned when this node joined."""
    pinned_id = PublicKey.from_base64(pinned).key_id
    try:
        # The id that the portal claims is worth nothing: it is taken from the key.
        found = PublicKey.from_base64(coordinator.public_key)
        keys = keys_of(coordinator.predecessors, present=found, origin=coordinator.origin)
    except VerificationError as error:
        return fail("coordinator key", f"the portal's can't be read: {error}", "Tell the portal's operator.")
    found_id = found.key_id
    if pinned_id in [key.key_id for key in keys[:-1]]:
        return ok("coordinator key", f"{found_id}, which the one pinned at joining has named as its successor; the worker follows")
    if found_id != pinned_id:
        advice = "Orders under another key are refused. Ask the portal's operator, by another way, whether its key was replaced."
        return fail("coordinator key", f"the portal has {found_id}; this node joined under {pinned_id}", advice)
    return ok("coordinator key", f"{pinned_id}, as when this node joined")


def protocol_check(coordinator: CoordinatorInfo) -> Finding:
    """Whether portal and host speak one protocol."""
    if gap := protocol_gap(coordinator.protocol_versions):
        return fail("protocol", gap.found, gap.advice)
    return ok("protocol", f"version {PROTOCOL_VERSION}")


def _ahead_seconds(origin: str) -> float | None:
    before = time.time()
    try:
        # Any answer will do: its Date (RFC 9110, section 6.6.1) is what is read of it.
        with requests.get(f"{origin}/api/v1/coordinator", timeout=_ANSWER_SECONDS, allow_redirects=False, stream=True) as response:
            portal_seconds = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (requests.RequestException, OSError, ValueError, TypeError, OverflowError):
        return None
    # The date is cut to whole seconds: on average half a second has passed since.
    return (before + time.time()) / 2 - (portal_seconds + 0.5)
