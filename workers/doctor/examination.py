"""All checks, in the order in which they help: a machine before its engine, the portal before the node's standing there."""

from __future__ import annotations

from collections.abc import Iterator

from workers.caps import DISK_RESERVE_GIB_DEFAULT, GIB, Caps, NodeSettings
from workers.doctor.engine import engine_ask, engine_check, limits_check, mounts_check, seccomp_check, storage_check, users_check
from workers.doctor.findings import Finding, Level, fail, warn
from workers.doctor.machine import disk_check, gpu_check, python_check
from workers.doctor.node import key_check, manners_check, place_check, settings_check, standing_check, worker_check
from workers.doctor.portal import clock_check, coordinator_key_check, portal_ask, portal_check, protocol_check
from workers.gpus import gpus_found
from workers.home import HomeError, NodeHome, NodeIdentity


def examine(home: NodeHome) -> Iterator[Finding]:
    """Findings as they come; those about the node only where one has joined. Changes nothing. Raises nothing."""
    yield python_check()
    answer = engine_ask()
    yield engine_check(answer)
    if not isinstance(answer, str):
        yield limits_check(answer)
        yield seccomp_check(answer)
        yield users_check(answer)
        yield storage_check(answer)
        mounts = mounts_check(answer, home.folder)
        if mounts is not None:
            yield mounts
    runtimes = () if isinstance(answer, str) else answer.runtimes
    if not home.joined:
        folder = next(folder for folder in (home.folder, *home.folder.parents) if folder.exists())
        yield disk_check(folder, lent_bytes=None, reserve_bytes=int(DISK_RESERVE_GIB_DEFAULT * GIB))
        yield gpu_check(gpus_found(), joined_with=(), engine_runtimes=runtimes)
        yield warn("node", f"no node has joined in {home.folder}", "Get a token on the portal's page for contributors: `nexa join TOKEN`.")
        return
    try:
        identity, profile = home.identity(), home.profile()
    except HomeError as error:
        yield fail(
            "home", str(error), "Put the file back from a copy of the home; without one, revoke the node in the portal and join anew."
        )
        return
    yield _disk(home)
    yield gpu_check(gpus_found(), joined_with=profile.gpus, engine_runtimes=runtimes)
    yield from _portal(identity)
    yield from _node(home)


def _portal(identity: NodeIdentity) -> Iterator[Finding]:
    answer = portal_ask(identity.portal)
    yield portal_check(answer)
    yield clock_check(answer)
    if not isinstance(answer.coordinator, str):
        yield coordinator_key_check(answer.coordinator, pinned=identity.coordinator_key)
        yield protocol_check(answer.coordinator)


def _node(home: NodeHome) -> Iterator[Finding]:
    settings = settings_check(home)
    yield settings
    yield key_check(home)
    yield worker_check(home)
    place = place_check(home)
    yield place
    try:
        manners = NodeSettings.read(home.settings_path).manners
    except HomeError:
        """Told by the settings' own check."""
    else:
        yield manners_check(manners, home)
    if place.level is not Level.FAIL:  # a copy that asks looks like a thief, and has the real worker sent away
        yield standing_check(home)


def _disk(home: NodeHome) -> Finding:
    try:
        settings = NodeSettings.read(home.settings_path)
        lent_bytes = Caps.of(settings, home.profile()).disk_bytes
    except HomeError:  # told by the settings' own check
        settings, lent_bytes = NodeSettings(), None
    return disk_check(home.folder, lent_bytes=lent_bytes, reserve_bytes=int(settings.lend.disk_reserve_gib * GIB))
