"""The host's Celery app with a runtime that needs no container engine: `celery -A tests.workers.worker_app worker`."""

from celery import Celery

from tests.workers.runtime_fake import FakeRuntime
from workers.celery_host import host_configure

app = Celery("nexaportal")
host_configure(app, runtime_make=FakeRuntime)
