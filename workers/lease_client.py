"""The lease client: one thread that holds the conversation with the coordinator, and the only one that asks for work.

1. One exchange at a time, always the next one at once: it asks for work as long as there are free slots, renews every lease that it
   names, and tells the coordinator that this node lives.
2. With leases running, an exchange waits a few seconds only (a fraction of the lease time), so that progress and renewals get through;
   without, up to 25 seconds. With nothing free it doesn't wait at the portal at all, but here, where a run that enters its next stage or
   ends, ends the wait; progress within a stage does not, however often a program prints it.
3. A request keeps its id until it was answered, also across restarts: an answer that got lost is given again, with the same orders.
4. Orders are in the journal before the next exchange is sent. Errors stay in this thread: runs go on, the next try comes after a backoff.
5. `drain` takes effect at once: the exchange in progress is broken off, and repeated (same id) with no slots free, which brings the
   orders that it may have claimed and no others; those are given back.
6. Where the portal no longer speaks this software's protocol, the conversation is tried on: the portal may be set back, and what is to
   report is kept for newer software on this home.
7. Told to drain by the portal, it asks for nothing as long as that is repeated. Told again with nothing left to run or to report, the
   worker ends, as by SIGTERM. Told no more before that, it works on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from uuid import UUID, uuid4

from workers.backoff import Backoff
from workers.coordinator_pin import CoordinatorPin
from workers.journal import Fact, Journal, JournalError
from workers.patience import Patience
from workers.portal import PortalClient, PortalError, PortalInterruptedError, PortalRefusedError, ProtocolUnspokenError
from workers.protocol.errors import VerificationError
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import (
    EXCHANGE_WAIT_SECONDS_MAX,
    Command,
    CommandKind,
    ExchangeAnswer,
    ExchangeRequest,
    FreeResources,
    LeaseReport,
    MachineLoad,
    NoWork,
    Stage,
)
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode
from workers.protocol.version import SOFTWARE_VERSION
from workers.resources import NOTHING_FREE, Resources
from workers.retrying import retry_after_seconds
from workers.runs import Runs
from workers.upgrade_notice import UpgradeNotice

log = logging.getLogger(__name__)

RENEW_SHARE = 0.2
"""Renewals come at least five times in a lease's time, so that four may get lost; cancelling reaches a run as soon."""
RENEW_SECONDS_MIN, RENEW_SECONDS_MAX = 0.2, 2.0
IDLE_SECONDS = 5.0
"""Between heartbeats of a node that neither works nor wants to."""
PROGRESS_SECONDS_MIN = 0.2
"""However often things change, exchanges are at least this far apart."""
FINAL_CODES = frozenset({"node_revoked", "key_retired", "session_superseded"})
"""Refusals that no waiting ends: asking for ever would help nobody."""
QUICK_ANSWER_SECONDS = 1.0
"""A portal that answers a long poll at once with nothing is asked again this much later."""


@dataclass
class DrainLimits:
    """How long a stopping worker lets runs go on, and then tries to report them."""

    drain_seconds: float
    report_seconds: float


@dataclass
class _Stopping:
    """Written by signal handlers, in plain fields; read by the thread."""

    requests: int = 0
    since: float | None = None
    cancelled_at: float | None = None
    thread_over: bool = False
    dismissed: bool = False
    gave_up: Patience = field(default_factory=Patience)


class LeaseClient:
    """Start once, `drain` (twice to cancel what runs), then `close`. Doesn't run orders: it journals them and passes lease ids on."""

    def __init__(
        self,
        *,
        pin: CoordinatorPin,
        queues: tuple[Tier, ...],
        journal: Journal,
        portal: PortalClient,
        resources: Resources,
        limits: DrainLimits,
        order_take: Callable[[UUID], None],
        order_give_back: Callable[[UUID], None],
        hold: Callable[[], NoWork | None] = lambda: None,
        machine: Callable[[], MachineLoad | None] = lambda: None,
        dismissed: Callable[[], None] = lambda: None,
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        """`hold` says why this host wants no work now, None when it does; `machine` what the machine does. Both must be quick.

        `dismissed` is called when the coordinator won't talk to this worker any more, `drained` when it has drained this node: the process
        is to end.
        """
        self._queues = queues
        self._pin = pin
        self._dismissed = dismissed
        self._drained = drained
        self._machine = machine
        self._journal = journal
        self._portal = portal
        self._resources = resources
        self._limits = limits
        self._order_take = order_take
        self._order_give_back = order_give_back
        self._hold = hold
        self._upgrade = UpgradeNotice(journal)
        self._session_id = uuid4()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._stopping = _Stopping()
        self._paused = False
        self._hold_told: str | None = None
        self._asking = False
        """An exchange that asks for work is out."""
        self._heard = False
        """The portal answered the last exchange. The first one doesn't wait, so that `nexa status` soon knows how things stand."""
        self._sent_away = False
        """The coordinator drains this node: as long as its answers say so."""
        self._journal_failed = False
        """No work is asked for until the journal was written again: an order that can't be noted would expire."""
        self._told_stages: dict[UUID, Stage] = {}
        """Where leases stood in the newest exchange."""
        self._noted: dict[UUID, tuple[Stage, float | None, str]] = {}
        self._renew_seconds = 2.0
        self._lease_seconds = 60.0
        """The shortest of the leases as last renewed."""
        self._backoff = Backoff(longest_seconds=30)
        self._thread = threading.Thread(target=self._loop, name="nexa-lease-client", daemon=True)
        self.runs = Runs(self._runs_changed)
        self.give_up = self._stopping.gave_up
        """Set when reporting has to stop: the worker is to exit, and what is left stays in the journal."""

    def start(self) -> None:
        """Begin the conversation."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something changed which the coordinator should hear of soon. Safe in a signal handler."""
        self._wakes.put(None)

    def _runs_changed(self) -> None:
        if self.runs.stages() != self._told_stages:
            self.wake()

    def withdraw(self) -> None:
        """Break off an exchange that asks for work: `hold` has come to say why none is wanted. Harmless while none does."""
        if self._asking:
            self._portal.interrupt()

    def drain(self) -> None:
        """Take no more work. A second call stops what runs. Safe in a signal handler: takes no lock, doesn't block."""
        self._stopping.requests += 1
        if self._stopping.since is None:
            self._stopping.since = time.monotonic()
        self._portal.interrupt()
        self.wake()

    @property
    def stopping(self) -> bool:
        """Whether this process is to end."""
        return self._stopping.since is not None

    @property
    def draining(self) -> bool:
        return self._stopping.since is not None or self._sent_away

    def close(self) -> None:
        """End the conversation; leases that are still open will be renewed no more."""
        self._stopping.thread_over = True
        while self._thread.is_alive():
            self._portal.interrupt()
            self.wake()
            self._thread.join(timeout=0.1)
        self._portal.close()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping.thread_over:
            try:
                self._drain_enforce()
                if self._portal.clock.is_confirmed:
                    self.runs.deadlines_enforce(self._portal.clock.now())
                self._pause(self._exchange())
            except JournalError as error:
                self._journal_failed = True
                log.error("%s No work is taken until that is mended.", error)  # noqa: TRY400  the message says it all
                self._pause(self._renew_seconds if self._renew() else self._failed_seconds())
            except Exception:
                # Whatever it is, runs in progress need their renewals: the conversation goes on.
                log.exception("a fault of this software in the lease client")
                self._pause(self._failed_seconds())

    def _exchange(self) -> float:
        """One exchange; returns the seconds to wait before the next."""
        if self._stopping.dismissed:
            return 1.0
        if self._journal_failed:
            self._journal.write_check()
            self._journal_failed = False
        # Before it is looked at what there may be to interrupt for: whoever comes while the request is made ends it too.
        self._asking, interruptions = True, self._portal.interruptions
        request = self._request()
        self._progress_note(request.leases)
        began = time.monotonic()
        self._asking = request.free.slots > 0
        try:
            answer = self._portal.exchange(request, interruptions=interruptions)
        except PortalInterruptedError:
            return 0.0
        except PortalError as error:
            if isinstance(error, PortalRefusedError) and error.code in FINAL_CODES:
                self._dismiss(error)
            self._trouble(error)
            return self._failed_seconds(error)
        finally:
            self._asking = False
        if self._journal.fact(Fact.PORTAL) != "ok":
            log.info("connected to %s", self._portal.origin)
        self._backoff.worked()
        if not self._heard:
            self._stopping.gave_up.portal_back()
        self._heard = True
        try:
            self._answer_apply(answer)
        except (PortalError, OSError) as error:
            # An order under a new coordinator key, which could not be followed now: the same request brings it again.
            log.warning("orders can't be taken yet: %s", error)
            return self._failed_seconds()
        if request.free.slots == 0:
            return self._renew_seconds if len(self.runs) else IDLE_SECONDS
        quick = time.monotonic() - began < QUICK_ANSWER_SECONDS and request.wait_seconds >= QUICK_ANSWER_SECONDS
        return QUICK_ANSWER_SECONDS if quick and not answer.orders else 0.0

    def _failed_seconds(self, error: Exception | None = None) -> float:
        """How long to wait after a failure, and what the portal asks for. With runs in hand, a portal that is back is asked twice before
        their leases, which it lets live as long as after a renewal, can expire, whatever it asks for.
        """
        seconds = self._backoff.failed(at_least_seconds=0.0 if error is None else retry_after_seconds(error))
        return min(seconds, self._lease_seconds / 2.5) if len(self.runs) else seconds

    def _renew(self) -> bool:
        """An exchange without the journal, which brings no orders: what runs is renewed, and stopped if it must be. Whether it worked."""
        try:
            answer = self._portal.exchange(self._message(uuid4(), free=NOTHING_FREE, wait_seconds=0.0))
        except PortalRefusedError as error:
            if error.code in FINAL_CODES:
                self._dismiss(error)
            log.warning("exchange: %s", error)
        except PortalError as error:
            log.warning("exchange: %s", error)
        except Exception:
            log.exception("a fault of this software in the lease client")
        else:
            self._renewals_apply(answer)
            return True
        return False

    def _request(self) -> ExchangeRequest:
        request_id = self._journal.fact(Fact.REQUEST_ID)
        if request_id is None:
            request_id = str(uuid4())
            self._journal.fact_note(Fact.REQUEST_ID, request_id)
        hold = self._hold_noted()
        free = NOTHING_FREE if self.draining or self._paused or hold else self._resources.free()
        patience = self._renew_seconds if len(self.runs) else float(EXCHANGE_WAIT_SECONDS_MAX)
        return self._message(UUID(request_id), free=free, wait_seconds=patience if free.slots and self._heard else 0.0, hold=hold)

    def _message(self, request_id: UUID, *, free: FreeResources, wait_seconds: float, hold: NoWork | None = None) -> ExchangeRequest:
        leases = self.runs.reports()
        self._told_stages = {lease.lease_id: lease.stage for lease in leases}
        return ExchangeRequest(
            protocol_version=PROTOCOL_VERSION,
            request_id=request_id,
            wait_seconds=wait_seconds,
            queues=self._queues,
            free=free,
            wishes=self._resources.caps.wishes,
            leases=leases,
            session_id=self._session_id,
            hold=hold,
            machine=self._machine(),
            software_version=SOFTWARE_VERSION,
        )

    def _hold_noted(self) -> NoWork | None:
        """Why no work is wanted now, kept in the journal as well, for `nexa status`."""
        hold = self._hold()
        told = f"{hold.code}: {hold.message}" if hold else ""
        if told != self._hold_told:
            self._journal.fact_note(Fact.HOLD, told)
            self._hold_told = told
        return hold

    def _progress_note(self, leases: tuple[LeaseReport, ...]) -> None:
        """Keep what the coordinator is told in the journal as well, for `nexa status`."""
        shown = {lease.lease_id: (lease.stage, lease.progress, lease.message) for lease in leases}
        self._journal.leases_progress({lease_id: values for lease_id, values in shown.items() if self._noted.get(lease_id) != values})
        self._noted = shown

    def _answer_apply(self, answer: ExchangeAnswer) -> None:
        was_sent_away = self._sent_away
        self._sent_away = was_sent_away and any(command.kind is CommandKind.DRAIN for command in answer.commands)
        for envelope in answer.orders:
            self._order_accept(envelope)
        self._renewals_apply(answer)
        paused = any(command.kind is CommandKind.PAUSE for command in answer.commands)
        if paused != self._paused:
            log.info("the coordinator %s this node", "pauses" if paused else "resumes")
        self._paused = paused
        self._upgrade.hear(next((command.reason for command in answer.commands if command.kind is CommandKind.UPGRADE), ""))
        self._answer_note(answer)
        if was_sent_away and self._sent_away and not self.stopping and not self._journal.leases_open():
            log.warning("drained by the portal: nothing is left to do or report. Resume the node on its page there, then start it again.")
            self._drained()

    def _answer_note(self, answer: ExchangeAnswer) -> None:
        """One write for an answer, after its orders: had this process died before, the same request would have brought them again."""
        no_work = answer.no_work
        values = {
            Fact.REQUEST_ID: str(uuid4()),
            Fact.PORTAL: "ok",
            Fact.NO_WORK: "" if no_work is None else f"{no_work.code}: {no_work.message}",
            Fact.STATE: "draining" if self.draining else "paused" if self._paused else "working",
        }
        if answer.checkpoint is not None:
            values[Fact.CHECKPOINT] = answer.checkpoint
        self._journal.facts_note(values)

    def _renewals_apply(self, answer: ExchangeAnswer) -> None:
        self._portal.clock.learn(answer.server_time)
        remaining = [(renewal.expires_at - answer.server_time).total_seconds() for renewal in answer.renewed]
        if remaining:
            self._lease_seconds = max(1.0, min(remaining))
            self._renew_seconds = min(RENEW_SECONDS_MAX, max(RENEW_SECONDS_MIN, self._lease_seconds * RENEW_SHARE))
        for command in answer.commands:
            self._command_apply(command)

    def _order_accept(self, envelope: dict[str, object]) -> None:
        try:
            opened = self._pin.order_open(envelope, portal=self._portal)
        except VerificationError as error:
            log.error("the portal sent what is no order of our coordinator, dropped: %s: %s", error.code, error)  # noqa: TRY400
            return
        order = opened.order
        new = self._journal.lease_add(
            lease_id=order.lease_id,
            replica_id=order.replica_id,
            envelope=opened.envelope,
            order_digest=opened.digest,
            job_type=order.job_type,
            image=order.image.name,
        )
        if not new:
            return
        log.info("lease %s: %s, image %s", order.lease_id, order.job_type, order.image.name)
        self.runs.add(order.lease_id, deadline_at=order.deadline_at)
        try:
            self._resources.reserve(order.lease_id, order.limits)
        except Exception as error:
            # Whatever it is, the executor finds the same and ends the lease; one that is journaled must not be left to nobody.
            log.warning("lease %s: %s", order.lease_id, error)
            self._resources.hold_slot(order.lease_id)
        if self.draining:
            self.runs.cancel(order.lease_id, FailureCode.HOST_STOPPED, "The worker is stopping and takes no more work.")
            self._order_give_back(order.lease_id)
        else:
            self._order_take(order.lease_id)

    def _command_apply(self, command: Command) -> None:
        match command.kind:
            case CommandKind.CANCEL:
                if command.lease_id is not None:
                    self.runs.cancel(command.lease_id, FailureCode.CANCELLED, command.reason or "Cancelled by the coordinator.")
            case CommandKind.DRAIN:
                if not self._sent_away:
                    log.warning("the coordinator drains this node: %s", command.reason)
                self._sent_away = True
            case CommandKind.PAUSE | CommandKind.RESUME | CommandKind.UPGRADE:
                """So for as long as the command is repeated; see _answer_apply."""

    def _trouble(self, error: PortalError) -> None:
        text = f"{error.code}: {error.detail}" if isinstance(error, PortalRefusedError) else str(error)
        self._heard = False
        self._journal.fact_note(Fact.PORTAL, text)
        if isinstance(error, ProtocolUnspokenError):
            self._upgrade.hear(error.detail)  # which waiting alone won't end: no line for each try
        else:
            log.warning("exchange: %s", text)

    def _dismiss(self, error: PortalRefusedError) -> None:
        """No exchange of this worker will be answered again: what runs is cancelled, what can be reported is, and the process ends."""
        log.error("this worker stops for good: %s: %s", error.code, error.detail)
        self._stopping.dismissed = True
        self._stopping.cancelled_at = time.monotonic()
        self._stopping.since = self._stopping.since or self._stopping.cancelled_at
        self._dismissed()
        with suppress(JournalError):  # for `nexa status` only
            self._journal.fact_note(Fact.DISMISSED, f"{error.code}: {error.detail}")

    def _drain_enforce(self) -> None:
        stopping, now = self._stopping, time.monotonic()
        if stopping.since is None:
            return
        if stopping.cancelled_at is None and (stopping.requests > 1 or now - stopping.since > self._limits.drain_seconds):
            stopping.cancelled_at = now
        if stopping.cancelled_at is not None:
            self.runs.cancel_all(FailureCode.HOST_STOPPED, "The worker was stopped before the run had ended.")
            if now - stopping.cancelled_at > self._limits.report_seconds:
                stopping.gave_up.set()

    def _pause(self, seconds: float) -> None:
        """Wait, unless something happens that the coordinator should hear of; never less than a moment after something did."""
        if self._stopping.thread_over:
            return
        if seconds > 0:
            if self.draining:
                seconds = min(seconds, 1.0)
            try:
                self._wakes.get(timeout=seconds)
            except Empty:
                return
            if not self.draining:
                time.sleep(min(seconds, PROGRESS_SECONDS_MIN))
        with suppress(Empty):
            while True:
                self._wakes.get_nowait()
