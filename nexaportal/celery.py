"""The one Celery app, `celery -A nexaportal`.

NEXA_ROLE says whose process this is: `server` (set by manage.py, asgi, wsgi and the coordinator's workers) configures it from Django's
settings; anything else is a contributor's host, where neither Django nor a broker is within reach.
"""

import os

from celery import Celery

app = Celery("nexaportal")

if os.environ.get("NEXA_ROLE") == "server":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexaportal.settings")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
else:
    from workers.celery_host import host_configure

    host_configure(app)
