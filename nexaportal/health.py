"""Whether this process lives (`/healthz`), and whether it can serve (`/readyz`: each dependency with its own result).

For health checks and monitors, and open to everybody: the answers name dependencies and nothing that is theirs. What is asked within a
second of an answer gets that answer again, so that no crowd of askers becomes a crowd of connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from ledger.coordinator_key import coordinator_public_key

log = logging.getLogger(__name__)

LIMIT_SECONDS: Final = 2.0
KEPT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Finding:
    """Of one dependency. `seconds` is what the check took; `reason` a word, empty where it is well."""

    is_well: bool
    seconds: float
    reason: str = ""

    def document(self) -> dict[str, object]:
        return {"ok": self.is_well, "seconds": round(self.seconds, 4), **({"reason": self.reason} if self.reason else {})}


class Readiness:
    """The last findings, and who finds new ones: one at a time."""

    def __init__(self, checks: Mapping[str, Callable[[], None]], *, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._checks = checks
        self._limit_seconds = limit_seconds
        self._found: dict[str, Finding] = {}
        self._found_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def findings(self) -> Mapping[str, Finding]:
        """Not older than KEPT_SECONDS; there within LIMIT_SECONDS and a little."""
        if time.monotonic() - self._found_at > KEPT_SECONDS:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)  # one asker who leaves takes it from nobody
        return self._found

    async def _ask(self) -> None:
        found = await asyncio.gather(*(_checked(name, check, self._limit_seconds) for name, check in self._checks.items()))
        self._found, self._found_at = dict(zip(self._checks, found, strict=True)), time.monotonic()


async def _checked(name: str, check: Callable[[], None], limit_seconds: float) -> Finding:
    began = time.monotonic()
    try:
        await asyncio.wait_for(asyncio.to_thread(check), limit_seconds)
    except TimeoutError:
        return Finding(is_well=False, seconds=time.monotonic() - began, reason="timeout")
    except Exception:  # whatever a driver raises: the log has it, strangers don't
        log.exception("not ready: %s", name)
        return Finding(is_well=False, seconds=time.monotonic() - began, reason="unavailable")
    return Finding(is_well=True, seconds=time.monotonic() - began)


def _database_ask() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM jobs_coordinatorclock")
    finally:
        connection.close()


def _redis_ask() -> None:
    cache.get("readiness")


def _blobs_ask() -> None:
    root = settings.NEXA_BLOB_ROOT
    place = next(folder for folder in (root, *root.parents) if folder.exists())  # the first blob makes what is missing
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise OSError(f"expected NEXA_BLOB_ROOT to be a folder that can be written to, found {place} not to be")


def _key_ask() -> None:
    coordinator_public_key()


CHECKS: Final = {"database": _database_ask, "redis": _redis_ask, "blobs": _blobs_ask, "coordinator_key": _key_ask}
_readiness = Readiness(CHECKS)


@csrf_exempt  # knows no cookies (nexaportal/handling.py)
@require_safe
async def healthz(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers anything."""
    return JsonResponse({"status": "ok"})


@csrf_exempt
@never_cache
@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """200 if every dependency is well, else 503; both with the findings."""
    found = await _readiness.findings()
    is_ready = all(finding.is_well for finding in found.values())
    return JsonResponse(
        {"status": "ready" if is_ready else "not ready", "checks": {name: finding.document() for name, finding in found.items()}},
        status=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
    )
