"""One worker on one node home: everything that it is made of, put together, started and stopped in the right order."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from workers.caps import GIB, Caps, NodeSettings
from workers.coordinator_pin import CoordinatorPin
from workers.disk_watch import DiskWatch
from workers.engine_watch import EngineWatch, limits_hold
from workers.execution import Executor
from workers.folders import folder_remove
from workers.gpus import GpuWatch
from workers.home import HomeLock, NodeHome, NodeIdentity
from workers.inputs import InputCache
from workers.intent_file import drained_check
from workers.journal import LEASES_KEPT, Fact, Journal, LeaseRow
from workers.lease_client import DrainLimits, LeaseClient
from workers.machine_reading import machine_read
from workers.manners_watch import MannersWatch
from workers.order_run import Launch, Workplace, container_name
from workers.portal import PortalClient
from workers.protocol.errors import VerificationError
from workers.protocol.messages.exchange import NoWork
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode
from workers.resources import Resources, ResourcesExhaustedError
from workers.runtime.interface import Runtime, RuntimeFailureError
from workers.transport import OrderQueue
from workers.worker_queues import queues_check

log = logging.getLogger(__name__)


class Host:
    """A worker's parts. `open` claims the node home; from then on `close` must be called."""

    def __init__(
        self,
        *,
        home: NodeHome,
        lock: HomeLock,
        journal: Journal,
        queues: tuple[Tier, ...],
        runtime: Runtime,
        orders: OrderQueue,
        dismissed: Callable[[], None],
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
        disk_reserve_bytes = int(settings.lend.disk_reserve_gib * GIB)
        cache = InputCache(home.cache_folder / "inputs", limit_bytes=self.caps.disk_bytes // 4, reserve_bytes=disk_reserve_bytes)
        self._disk_watch = DiskWatch(
            home_folder=home.folder,
            work_folder=home.work_folder,
            inputs=cache,
            images=runtime.images,
            reserve_bytes=disk_reserve_bytes,
        )
        self._resources = Resources(
            self.caps,
            disk_free=self._disk_watch.free_bytes,
            disk_written=self._disk_watch.written_bytes,
            gpus_present=GpuWatch(self.caps.gpus).present,
        )
        self._manners = MannersWatch(
            settings.manners,
            home_folder=home.folder,
            read=lambda: machine_read(users=settings.manners.pause_when_active, gpus=bool(self.caps.gpus)),
            owed=lambda: bool(journal.leases_open()),
            stop=_terminate,
        )
        portal = PortalClient(identity.portal, key)
        self._pin = CoordinatorPin(home, identity)
        self.lease_client = LeaseClient(
            pin=self._pin,
            queues=queues,
            journal=journal,
            portal=portal,
            resources=self._resources,
            limits=DrainLimits(settings.worker.drain_seconds, settings.worker.report_seconds),
            order_take=self._order_take,
            order_give_back=self._give_back,
            hold=self._hold,
            machine=self._manners.load,
            dismissed=dismissed,
            drained=_terminate,
        )
        self._engine_watch = EngineWatch(runtime, home_id=str(identity.node_id), keep=self._containers_kept, changed=self.lease_client.wake)
        self.executor = Executor(
            home=home,
            pin=self._pin,
            key=key,
            profile=profile,
            workplace=Workplace(
                identity=identity,
                journal=journal,
                runtime=runtime,
                resources=self._resources,
                runs=self.lease_client.runs,
                cache=cache,
                clock=portal.clock,
            ),
            portal_make=portal.clone,
            give_up=self.lease_client.give_up,
        )
        self._helpers: list[threading.Thread] = []
        self._started = False

    @classmethod
    def open(
        cls,
        home: NodeHome,
        *,
        queues: Sequence[str] | None,
        runtime_make: Callable[[], Runtime],
        orders: OrderQueue,
        dismissed: Callable[[], None] = lambda: None,
    ) -> Host:
        """Claim the home and check everything that can be wrong before work starts. `dismissed`: see LeaseClient.

        An engine that is away is waited for: a machine starts its services in any order. Raises HomeError, JournalError,
        QueuesRefusedError, RuntimeFailureError (an engine that ignores limits).
        """
        identity = home.identity()
        served = queues_check(queues, allowed=identity.queues)
        lock = home.lock()
        try:
            home.place_check()
            journal = Journal.open(home.journal_path)
            drained_check(home.folder, owed=bool(journal.leases_open()))
            runtime = runtime_make()
            _engine_check(runtime)
            return cls(home=home, lock=lock, journal=journal, queues=served, runtime=runtime, orders=orders, dismissed=dismissed)
        except BaseException:
            lock.release()
            raise

    def start(self) -> None:
        """Take up what an earlier process left, then talk to the coordinator."""
        self._journal.fact_note(Fact.STATE, "working")
        self._journal.fact_note(Fact.DISMISSED, "")
        self._journal.prune(keep=LEASES_KEPT)
        for row in self._journal.leases_open():
            log.info("lease %s: left open by an earlier worker, taken up again", row.lease_id)
            self._lease_resume(row)
        self._work_folder_tidy()
        self._engine_watch.start()
        self._disk_watch.start(owed=self._resources.disk_owed, changed=self.lease_client.wake)
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
            if not self.lease_client.stopping:
                self.lease_client.drain()
            self._orders.close()
            for lease_id in self._orders.undelivered():
                self.lease_client.runs.cancel(lease_id, FailureCode.HOST_STOPPED, "The worker is stopping and takes no more work.")
                self._give_back(lease_id)
            for helper in self._helpers:
                helper.join()
            self._manners.close()
            self._engine_watch.stop()
            self._disk_watch.stop()
            self.lease_client.close()
            # Whoever still reports, after a stop that waited for nobody, would try for ever on a journal that is closed.
            self.lease_client.give_up.set()
            self._journal.fact_note(Fact.STATE, "stopped")
        else:
            self._manners.close()
        left = self._journal.leases_open()
        if left:
            log.warning("%d finished runs could not be reported yet; the next start of this worker does it", len(left))
        self._journal.close()
        self._lock.release()

    def _hold(self) -> NoWork | None:
        """Why this host wants no work now, if so."""
        return self._manners.hold() or self._engine_watch.hold() or self._disk_watch.hold()

    def _order_take(self, lease_id: UUID) -> None:
        # What was set aside for it may have to be cleared of caches, before it writes.
        self._disk_watch.wake()
        self._orders.put(lease_id)

    def _lease_resume(self, row: LeaseRow) -> None:
        """Count a lease of an earlier process from the first exchange on, with what it was granted."""
        try:
            order = self._pin.order_reopen(row.envelope).order
            self.lease_client.runs.add(row.lease_id, deadline_at=order.deadline_at)
            if row.receipt is None and row.launch is not None:
                self._resources.book(row.lease_id, order.limits, Launch.model_validate_json(row.launch).gpus)
            elif row.receipt is None:
                self._resources.reserve(row.lease_id, order.limits)
        except (VerificationError, ResourcesExhaustedError) as error:
            log.warning("lease %s: %s", row.lease_id, error)  # the executor finds the same, and ends the lease for it
        self._resources.hold_slot(row.lease_id)
        self._orders.put(row.lease_id)

    def _containers_kept(self) -> set[str]:
        """Those that run, or that a restarted run may want to follow."""
        return {container_name(row.lease_id) for row in self._journal.leases_open() if row.result is None and row.receipt is None}

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
    if not runtime.alive():
        log.warning("the container engine does not answer yet; no work is taken until it does")
        return
    try:
        hold = limits_hold(runtime)
    except RuntimeFailureError as error:
        if error.failure.code is not FailureCode.HOST_ENGINE:
            raise
        log.warning("%s No work is taken until it does.", error)
        return
    if hold is not None:
        raise RuntimeFailureError(FailureCode.HOST_REFUSED, hold.message)
