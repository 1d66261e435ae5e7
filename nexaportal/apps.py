"""The project as a Django app: commands, and the Celery app in every process that loads Django."""

from __future__ import annotations

from pathlib import Path

from django.apps import AppConfig


class NexaportalConfig(AppConfig):
    """Without this a web process would send its tasks through Celery's default app, to nobody."""

    name = "nexaportal"

    def ready(self) -> None:
        from django.conf import settings  # noqa: PLC0415
        from django.contrib.auth.signals import user_logged_in  # noqa: PLC0415

        import nexaportal.checks  # noqa: F401, PLC0415  it registers itself
        from nexaportal.celery import app  # noqa: PLC0415  it reads the settings, which must be complete
        from nexaportal.logs import task_logs_start  # noqa: PLC0415
        from nexaportal.pulse import pulse_start  # noqa: PLC0415
        from nexaportal.session_watch import session_begun  # noqa: PLC0415  its models are loaded now

        app.set_default()  # for all threads; being current holds for the importing thread only
        task_logs_start()
        user_logged_in.connect(session_begun)
        if settings.NEXA_PULSE_FILE:
            pulse_start(Path(settings.NEXA_PULSE_FILE))
