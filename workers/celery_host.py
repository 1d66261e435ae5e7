"""Making a Celery app a NEXAPod worker: configuration that needs nothing but a node home, one task, and the signals of its life.

`celery -A nexaportal worker [-Q gpu-tier2]` does, in this order: read the node home, check the queues, claim the home, find the container
engine, clean up what an earlier process left, then start the lease client (see workers/lease_client.py).

SIGTERM (SIGINT and SIGQUIT mean the same): no more work is taken, runs go on within `drain_seconds` of node.toml, are reported, and the
process ends. A second one cancels the runs and reports them as `host_stopped`. A coordinator that will not talk to this worker any more
(the node was revoked, its key replaced, another worker has its place) does the same, and the exit status is 78, after which a service
manager should not start it again.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID

from celery import Celery, signals
from celery.worker import state as worker_state
from kombu import Queue

from workers.caps import GIB, NodeSettings
from workers.home import HomeError, HomeLockedError, NodeHome
from workers.host import Host
from workers.journal import JournalError, JournalVersionError
from workers.protocol.messages.machine import Tier
from workers.runtime.interface import Runtime, RuntimeFailureError
from workers.transport import QUEUE_OPTION, TASK_NAME, OrderQueue, transport_register
from workers.worker_queues import QueuesRefusedError

EXIT_UNUSABLE = 78
"""EX_CONFIG of sysexits.h: starting again without a change will not help."""
EXIT_TEMPORARY = 75
"""EX_TEMPFAIL: a full disk, another process that holds the home for a moment. A service manager starts again."""


def host_configure(app: Celery, *, runtime_make: Callable[[], Runtime] | None = None) -> None:
    """Configure `app` for a contributor's host. Reads nothing from disk yet: that happens when a worker starts."""
    transport_register()
    orders = OrderQueue()
    app.conf.update(
        broker_url="nexa+https://portal.invalid",
        broker_transport_options={QUEUE_OPTION: orders},
        broker_connection_retry_on_startup=True,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,
        task_create_missing_queues=False,
        task_queues=[Queue(tier.value) for tier in Tier],
        task_default_queue=Tier.CPU.value,
        worker_pool="threads",
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    _Worker(app, orders, runtime_make or _engine)


class _Worker:
    """The host behind a Celery worker: made when the worker is, gone when it is."""

    def __init__(self, app: Celery, orders: OrderQueue, runtime_make: Callable[[], Runtime]) -> None:
        self._orders = orders
        self._runtime_make = runtime_make
        self._host: Host | None = None
        app.task(name=TASK_NAME, shared=False)(self.order_run)
        signals.celeryd_init.connect(self._initialise, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.worker_shutting_down.connect(self._shutting_down, weak=False)
        signals.worker_shutdown.connect(self._shutdown, weak=False)

    def order_run(self, lease_id: str) -> None:
        """The task: bring one lease to its end. Raises nothing for a lease's sake; what happens to it is in its receipt."""
        if self._host is not None:
            self._host.executor.order_run(UUID(lease_id))

    def _initialise(self, *, instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
        asked = options.get("queues")
        names = asked.split(",") if isinstance(asked, str) else asked
        try:
            host = Host.open(NodeHome.default(), queues=names, runtime_make=self._runtime_make, orders=self._orders, dismissed=_stop)
        except (HomeError, JournalError, QueuesRefusedError, RuntimeFailureError) as error:
            is_temporary = isinstance(error, HomeLockedError | JournalError) and not isinstance(error, JournalVersionError)
            _refuse(str(error), EXIT_TEMPORARY if is_temporary else EXIT_UNUSABLE)
        except Exception:
            _refuse(traceback.format_exc(), EXIT_TEMPORARY)
        self._host = host
        conf.broker_url = f"nexa+{host.identity.portal}"
        conf.worker_concurrency = host.caps.slots
        if not names:
            conf.task_queues = [Queue(tier.value) for tier in host.identity.queues]

    def _ready(self, **_: Any) -> None:
        # Celery's own second SIGINT, and its SIGQUIT, end the process at once and leave containers that nobody looks after.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.getsignal(signal.SIGTERM))
        try:
            if self._host is not None:
                self._host.start()
        except Exception:
            _refuse(traceback.format_exc(), EXIT_TEMPORARY)

    def _shutting_down(self, **_: Any) -> None:
        """In the signal handler itself: nothing here may block or take a lock."""
        if self._host is not None:
            self._host.drain()

    def _shutdown(self, **_: Any) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close()


def _engine() -> Runtime:
    # Imported by a worker only, not by every `import nexaportal`.
    from workers.runtime.docker_engine import DockerRuntime  # noqa: PLC0415
    from workers.runtime.docker_image_store import ImageLimits  # noqa: PLC0415

    home = NodeHome.default()
    settings = NodeSettings.read(home.settings_path)
    limits = ImageLimits(
        pull_bytes_max=int(settings.images.pull_max_gib * GIB),
        budget_bytes=int(settings.images.budget_gib * GIB),
        reserve_bytes=int(settings.lend.disk_reserve_gib * GIB),
    )
    return DockerRuntime(
        image_record=home.cache_folder / "images.json",
        image_limits=limits,
        runtime=settings.sandbox.runtime,
        disk_floor_bytes=limits.reserve_bytes // 2,  # below the reserve caches make room first
    )


def _stop() -> None:
    # What Celery's own signal handlers do, with another exit status: the consumer's loop looks at it within seconds.
    worker_state.should_stop = EXIT_UNUSABLE  # type: ignore[assignment]  # declared as None only


def _refuse(message: str, status: int) -> NoReturn:
    # Celery logs and goes on after an exception in a signal's receiver, and a worker without a host would sit there for ever; it lets
    # this one through. Logging may not be set up yet.
    sys.stderr.write(f"{message}\n")
    raise SystemExit(status)
