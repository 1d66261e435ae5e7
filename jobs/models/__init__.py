"""Tables of jobs. Constraints here are invariants of ARCHITECTURE; writes go through the services."""

from jobs.models.blobs import Blob
from jobs.models.events import JobEvent, UnpushedEvents
from jobs.models.images import Calibration, ImageApproval, ImageBreaker, ImageRequest
from jobs.models.jobs import Job, JobInput, JobKind, SpotKey
from jobs.models.replicas import CoordinatorClock, NodeExchange, Receipt, Replica, Upload
from jobs.models.verification import Evidence, Ruling, VerificationBatch

__all__ = [
    "Blob",
    "Calibration",
    "CoordinatorClock",
    "Evidence",
    "ImageApproval",
    "ImageBreaker",
    "ImageRequest",
    "Job",
    "JobEvent",
    "JobInput",
    "JobKind",
    "NodeExchange",
    "Receipt",
    "Replica",
    "Ruling",
    "SpotKey",
    "UnpushedEvents",
    "Upload",
    "VerificationBatch",
]
