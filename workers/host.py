"""One worker on one node home: everything that it is made of, put together, started and stopped in the right order."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from workers.caps import Caps, NodeSettings
from workers.execution import Executor
from workers.folders import folder_remove
from workers.home import HomeLock, NodeHome, NodeIdentity
from workers.intent_file import drained_check
from workers.journal import Fact, Journal
from workers.lease_client import DrainLimits, LeaseClient
from workers.machine_reading import machine_read
from workers.manners_watch import MannersWatch
from workers.portal import PortalClient
from workers.protocol.messages import FailureCode, Tier
from workers.resources import Resources
from workers.runtime.interface import Runtime, RuntimeFailureError
from workers.transport import OrderQueue
from workers.worker_queues import queues_check

log = logging.getLogger(__name__)

LEASES_KEPT = 1000
"""How many ended leases the journal remembers, for `nexa status`."""


class Host:
    """A worker's parts. `open` claims the node home; from then on `close` must be called."""

    def __init__(
        self, *, home: NodeHome, lock: HomeLock, journal: Journal, queues: tuple[Tier, ...], runtime: Runtime, orders: OrderQueue
    ) -> None:
        identity, key, profile = home.identity(), home.key(), home.profile()
        settings = NodeSettings.read(home.settings_path)
        self.identity: NodeIdentity = identity
        self.caps = Caps.of(settings, profile)
        self._home = home
        self._lock = lock
        self._journal = journal
        self._runtime = runtime
        self._orders = orders
        self._resources = Resources(self.caps, disk_free=lambda: shutil.disk_usage(home.folder).free)
        self._manners = MannersWatch(
            settings.manners,
            home_folder=home.folder,
            read=lambda: machine_read(users=settings.manners.pause_when_active, gpus=bool(self.caps.gpus)),
            owed=lambda: bool(journal.leases_open()),
            stop=_terminate,
        )
        portal = PortalClient(identity.portal, key)
        self.lease_client = LeaseClient(
            identity=identity,
            queues=queues,
            journal=journal,
            portal=portal,
            resources=self._resources,
            limits=DrainLimits(settings.worker.drain_seconds, settings.worker.report_seconds),
            order_take=orders.put,
            order_give_back=self._give_back,
            hold=self._manners.hold,
        )
        self.executor = Executor(
            home=home,
            identity=identity,
            key=key,
            profile=profile,
            journal=journal,
            runtime=runtime,
            resources=self._resources,
            runs=self.lease_client.runs,
            portal_make=portal.clone,
            give_up=self.lease_client.give_up,
        )
        self._helpers: list[threading.Thread] = []
        self._started = False

    @classmethod
    def open(cls, home: NodeHome, *, queues: Sequence[str] | None, runtime_make: Callable[[], Runtime], orders: OrderQueue) -> Host:
        """Claim the home and check everything that can be wrong before work starts.

        Raises HomeError, JournalError, QueuesRefusedError, RuntimeFailureError (no engine, or one that ignores limits).
        """
        identity = home.identity()
        served = queues_check(queues, allowed=identity.queues)
        lock = home.lock()
        try:
            journal = Journal.open(home.journal_path)
            drained_check(home.folder, owed=bool(journal.leases_open()))
            runtime = runtime_make()
            _engine_check(runtime)
            runtime.leftovers_remove(str(identity.node_id))
            return cls(home=home, lock=lock, journal=journal, queues=served, runtime=runtime, orders=orders)
        except BaseException:
            lock.release()
            raise

    def start(self) -> None:
        """Take up what an earlier process left, then talk to the coordinator."""
        self._journal.fact_note(Fact.STATE, "working")
        self._journal.prune(keep=LEASES_KEPT)
        for row in self._journal.leases_open():
            log.info("lease %s: left open by an earlier worker, taken up again", row.lease_id)
            self._resources.hold_slot(row.lease_id)
            self._orders.put(row.lease_id)
        self._work_folder_tidy()
        self.lease_client.start()
        self._manners.start(self.lease_client)
        self._started = True

    def drain(self) -> None:
        """Take no more work; again: stop what runs. Safe in a signal handler."""
        self.lease_client.drain()
        self._orders.close()

    def close(self) -> None:
        """After the pool has ended: give back what was never begun, end the conversation, let go of the home."""
        if self._started:
            if not self.lease_client.draining:
                self.lease_client.drain()
            self._orders.close()
            for lease_id in self._orders.undelivered():
                self.lease_client.runs.cancel(lease_id, FailureCode.HOST_STOPPED, "The worker is stopping and takes no more work.")
                self._give_back(lease_id)
            for helper in self._helpers:
                helper.join()
            self._manners.close()
            self.lease_client.close()
            # Whoever still reports, after a stop that waited for nobody, would try for ever on a journal that is closed.
            self.lease_client.give_up.set()
            self._journal.fact_note(Fact.STATE, "stopped")
        left = self._journal.leases_open()
        if left:
            log.warning("%d finished runs could not be reported yet; the next start of this worker does it", len(left))
        self._journal.close()
        self._lock.release()

    def _give_back(self, lease_id: UUID) -> None:
        helper = threading.Thread(target=self.executor.order_run, args=(lease_id,), name=f"nexa-give-back-{lease_id}", daemon=True)
        helper.start()
        self._helpers.append(helper)

    def _work_folder_tidy(self) -> None:
        """Remove folders of leases that are over."""
        known = {str(row.lease_id) for row in self._journal.leases_open()}
        if self._home.work_folder.is_dir():
            for folder in self._home.work_folder.iterdir():
                if folder.name not in known:
                    folder_remove(folder)


def _terminate() -> None:
    """End this worker as a service manager would."""
    os.kill(os.getpid(), signal.SIGTERM)


def _engine_check(runtime: Runtime) -> None:
    ignored = runtime.profile().limits_ignored
    if ignored:
        raise RuntimeFailureError(
            FailureCode.HOST_REFUSED,
            f"The container engine would ignore the limits {', '.join(ignored)}, so no jobs are taken. `nexa profile` shows the engine; "
            "a rootless engine needs cgroup v2 with delegated controllers.",
        )
