"""`celery -A tests.faults.host_app worker`: a contributor's host as it is, in a process that can be told to die at a named moment."""

from __future__ import annotations

from nexaportal.celery import app
from tests.faults.moments import MOMENTS, moment_file, moments_arm
from workers.home import NodeHome

__all__ = ["app"]

moments_arm(MOMENTS, moment_file(NodeHome.default().folder))
