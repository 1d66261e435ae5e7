"""The one Celery app, `celery -A nexaportal`.

NEXA_ROLE says whose process this is: `server` (set by manage.py, asgi, wsgi and the coordinator's workers) configures it from Django's
settings; anything else is a contributor's host, where neither Django nor a broker is within reach.
"""

import os
import signal
from typing import Any

from celery import Celery
from celery.signals import beat_embedded_init

app = Celery("nexaportal")


@beat_embedded_init.connect
def beat_ends_with_its_worker(**_: Any) -> None:
    """In the beat of a worker with `--beat`, as development has it: a worker that dies at once could not end it."""
    from billiard import current_process  # noqa: PLC0415  a host needs neither

    from nexaportal.embedded import die_with  # noqa: PLC0415  as above

    die_with(current_process()._parent_pid, signal.SIGTERM)  # type: ignore[attr-defined]  # billiard writes it, its stubs do not


if os.environ.get("NEXA_ROLE") == "server":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexaportal.settings")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
else:
    from workers.celery_host import host_configure

    host_configure(app)
