"""`celery -A tests.faults.server_app`: the coordinator's workers as they are, in processes that can be told to die at a named moment."""

from __future__ import annotations

import os
from pathlib import Path

import django

from nexaportal.celery import app
from tests.faults.moments import moments_arm
from tests.faults.server_moments import MOMENT_VARIABLE, SERVER_MOMENTS

__all__ = ["app"]

django.setup()

from jobs.checking import claims  # noqa: E402  it needs the apps that the line above has loaded
from jobs.services import settlement  # noqa: E402  as above

settlement.SLICE_JOBS = 1  # type: ignore[misc]  # a constant: here two jobs are two slices, and there is a moment between them
claims.SLICE_SECONDS = 0.002  # type: ignore[misc]  # as above, of a header: two jobs are two tasks
moments_arm(SERVER_MOMENTS, Path(os.environ[MOMENT_VARIABLE]))
