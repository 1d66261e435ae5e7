"""Checks of the node: its settings, its key, its worker, its manners, and its standing at the portal."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from workers.caps import Caps, NodeSettings
from workers.doctor.findings import Finding, fail, ok, warn
from workers.home import HomeError, NodeHome
from workers.intent import IntentKind
from workers.intent_file import intent_read
from workers.journal import Fact, Journal, JournalError
from workers.machine_reading import machine_read
from workers.manners import Manners, holds
from workers.portal import PortalClient, PortalError, PortalRefusedError
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import CommandKind, ExchangeRequest
from workers.protocol.plurals import counted
from workers.resources import NOTHING_FREE
from workers.status import status_read


def settings_check(home: NodeHome) -> Finding:
    """Whether node.toml can be read, and lends what is there."""
    try:
        caps = Caps.of(NodeSettings.read(home.settings_path), home.profile())
    except HomeError as error:
        return fail("settings", str(error), "Correct it; docs/host.md describes every setting.")
    gpus = f", {len(caps.gpus)} of the GPUs" if caps.gpus else ""
    return ok(
        "settings",
        f"lends {counted(caps.cpus, 'core')}, {caps.memory_bytes / 2**30:.1f} GiB of memory{gpus}; {counted(caps.slots, 'run')} at once",
    )


def key_check(home: NodeHome) -> Finding:
    """Whether the node's key can be read, by this user and nobody else, and is the one that joined."""
    try:
        found, joined = home.key().public.key_id, home.identity().key_id
    except HomeError as error:
        return fail("key", str(error), "Only the user whose node this is may have it: run this as that user, and see to the file's mode.")
    if found != joined:
        return fail("key", f"{found}, but the node joined with {joined}", "Put the node's own key back, or `nexa leave` and join anew.")
    return ok("key", found)


def worker_check(home: NodeHome) -> Finding:
    """Whether a worker runs here and is alive."""
    try:
        status = status_read(home)
    except (HomeError, JournalError) as error:
        return fail("worker", str(error), "Look at the worker's log.")
    if status.worker_running and status.worker_silent(datetime.now(UTC)):
        return warn("worker", "runs, but has not tried to reach the portal for two minutes", "If it was not started just now: see its log.")
    if status.told is IntentKind.DRAIN:
        return warn("worker", "draining" if status.worker_running else "drained, and stays stopped", "`nexa resume` lets it work again.")
    if status.told is IntentKind.PAUSE:
        return warn("worker", f"paused{'' if status.worker_running else ', and not running'}", "`nexa resume` lets it work again.")
    if not status.worker_running:
        return warn("worker", "none runs", "Start it: `nexa worker`, or its service (`nexa service print` writes one for systemd).")
    return ok("worker", "runs")


def manners_check(manners: Manners, home: NodeHome) -> Finding:
    """What this machine tells of battery, users and heat, and what holds it from work now."""
    reading = machine_read(users=manners.pause_when_active, gpus=True)
    told = {
        "battery": None if reading.on_battery is None else "in use" if reading.on_battery else "charging or full",
        "last input": None if reading.idle_seconds is None else f"{reading.idle_seconds:.0f} s ago",
        "processor": None if reading.cpu_celsius is None else f"{reading.cpu_celsius:.0f} °C",
        "GPU": None if reading.gpu_celsius is None else f"{reading.gpu_celsius:.0f} °C",
    }
    sensors = ", ".join(f"{name} {value}" for name, value in told.items() if value) or "this machine tells of no battery, users or heat"
    try:
        found = holds(manners, intent_read(home.folder), reading, before=())
    except HomeError as error:
        return fail("manners", str(error), "No work is taken until then.")
    if found:
        return warn("manners", f"{found[0].message} ({sensors})", "As node.toml or `nexa pause` have it: see docs/host.md.")
    return ok("manners", f"nothing holds this host from work ({sensors})")


def place_check(home: NodeHome) -> Finding:
    """Whether the home is where it was when its key was made."""
    try:
        home.place_check()
    except HomeError as error:
        return fail("place", str(error), "`nexa key rotate` here makes every other copy worthless.")
    return ok("place", "the home is where its key was made")


def standing_check(home: NodeHome) -> Finding:
    """What the portal thinks of this node.

    Asked by an exchange for nothing while the home is locked, so that no worker starts meanwhile; where one runs, its own last exchange
    tells: a second conversation beside it would look like a copied key.
    """
    try:
        lock = home.lock()
    except HomeError:
        return _standing_heard(home)
    try:
        portal = PortalClient(home.identity().portal, home.key())
        try:
            answer = portal.exchange(
                ExchangeRequest(
                    protocol_version=PROTOCOL_VERSION,
                    request_id=uuid4(),
                    wait_seconds=0,
                    queues=home.identity().queues,
                    free=NOTHING_FREE,
                    session_id=uuid4(),
                )
            )
        finally:
            portal.close()
    except PortalRefusedError as error:
        return fail("standing", f"the portal refuses this node: {error.detail} ({error.code})", "Its page in the portal says more.")
    except (HomeError, PortalError) as error:
        return warn("standing", f"can't be asked: {error}", "Mend what failed above first.")
    finally:
        lock.release()
    for command in answer.commands:
        if command.kind in {CommandKind.PAUSE, CommandKind.DRAIN}:
            return warn("standing", command.reason, "Its page in the portal says more, and resumes a paused node.")
    return ok("standing", "active: the portal gives this node work")


def _standing_heard(home: NodeHome) -> Finding:
    try:
        journal = Journal.read_only(home.journal_path)
    except JournalError as error:
        return warn("standing", str(error), "Look again when the worker has talked to the portal.")
    try:
        heard, state = journal.fact(Fact.PORTAL), journal.fact(Fact.STATE)
    finally:
        journal.close()
    match heard, state:
        case "ok", "paused" | "draining":
            return warn("standing", "the portal gives this node no work", "Its page in the portal says why, and resumes a paused node.")
        case "ok", _:
            return ok("standing", "active: the portal answered the worker's last exchange")
        case _:
            return warn("standing", f"the worker's last exchange: {heard or 'none yet'}", "See the worker's log; it tries again by itself.")
