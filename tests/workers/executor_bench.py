"""An executor with everything around it: real portal client over HTTP, real journal, a runtime without containers."""

from __future__ import annotations

import threading

from tests.workers.portal_fake import FakePortal
from tests.workers.runtime_fake import FakeRuntime
from workers.caps import Caps, NodeSettings
from workers.clock import PortalClock
from workers.coordinator_pin import CoordinatorPin
from workers.execution import Executor
from workers.home import NodeHome
from workers.inputs import InputCache
from workers.journal import Journal
from workers.order_run import Workplace
from workers.orders import order_open
from workers.portal import PortalClient
from workers.protocol.messages.order import Order
from workers.resources import Resources
from workers.runs import Runs

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


class Bench:
    """An executor with everything around it."""

    def __init__(
        self, home: NodeHome, portal: FakePortal, *, give_up: threading.Event | None = None, unwritable_seconds: float = 60
    ) -> None:
        self.home, self.portal = home, portal
        self.journal = Journal.open(home.journal_path)
        self.runtime = FakeRuntime()
        self.runs = Runs(lambda: None)
        self.give_up = give_up or threading.Event()
        identity, key, profile = home.identity(), home.key(), home.profile()
        self.resources = Resources(Caps.of(NodeSettings.read(home.settings_path), profile), disk_free=lambda: 100 * 2**30)
        self.clock = PortalClock()
        self.executor = Executor(
            home=home,
            pin=CoordinatorPin(home, identity),
            key=key,
            profile=profile,
            workplace=Workplace(
                identity=identity,
                journal=self.journal,
                runtime=self.runtime,
                resources=self.resources,
                runs=self.runs,
                cache=InputCache(home.cache_folder / "inputs"),
                clock=self.clock,
            ),
            portal_make=lambda: PortalClient(portal.origin, key, clock=self.clock),
            give_up=self.give_up,
            unwritable_seconds=unwritable_seconds,
        )

    def accept(self, order: Order) -> None:
        """What the lease client does with an order."""
        opened = order_open(self.portal.envelope(order), coordinator=self.portal.key.public)
        self.portal.leased[order.lease_id] = order
        self.journal.lease_add(
            lease_id=order.lease_id,
            replica_id=order.replica_id,
            envelope=opened.envelope,
            order_digest=opened.digest,
            job_type=order.job_type,
            image=order.image.name,
        )

    def ending(self, order: Order) -> str | None:
        row = self.journal.lease(order.lease_id)
        assert row is not None
        return row.ending
