"""Whether a process lives and whether it can serve: each dependency by itself, quickly, and without a word too much."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from celery.signals import heartbeat_sent
from django.conf import settings
from django.test import AsyncClient, override_settings

from nexaportal import health
from nexaportal.health import Readiness
from nexaportal.pulse import pulse_start

DEAD_REDIS = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1"}}


def _well() -> None:
    """A dependency that answers."""


def _broken() -> None:
    raise OSError("password=hunter2 was refused by 10.1.2.3")


async def test_a_process_that_answers_lives() -> None:
    response = await AsyncClient().get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.django_db
async def test_with_all_dependencies_well_it_is_ready_and_names_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_readiness", Readiness(health.CHECKS))
    response = await AsyncClient().get("/readyz")
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    assert {name: found["ok"] for name, found in response.json()["checks"].items()} == dict.fromkeys(
        ("database", "redis", "blobs", "coordinator_key"), True
    )
    assert "no-store" in response["Cache-Control"]


@pytest.mark.django_db
async def test_without_redis_it_is_not_ready_and_says_that_the_rest_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_readiness", Readiness(health.CHECKS))
    with override_settings(CACHES=DEAD_REDIS):
        response = await AsyncClient().get("/readyz")
    checks = response.json()["checks"]
    assert response.status_code == 503
    assert checks["redis"]["reason"] == "unavailable"
    assert checks["database"]["ok"] is checks["blobs"]["ok"] is True


async def test_what_a_driver_says_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    found = await Readiness({"database": _broken}).findings()
    assert found["database"].document().keys() == {"ok", "seconds", "reason"}
    assert "hunter2" not in str(found["database"].document())
    assert "hunter2" in caplog.text


async def test_a_dependency_that_hangs_is_given_up_and_takes_no_other_with_it() -> None:
    released = threading.Event()
    began = time.monotonic()
    found = await Readiness({"hangs": lambda: _wait(released), "well": _well}, limit_seconds=0.2).findings()
    assert time.monotonic() - began < 5
    released.set()
    assert (found["hangs"].is_well, found["hangs"].reason) == (False, "timeout")
    assert found["well"].is_well


async def test_many_askers_at_once_are_one_question() -> None:
    asked: list[None] = []
    readiness = Readiness({"database": lambda: asked.append(None)})
    await asyncio.gather(*(readiness.findings() for _ in range(50)))
    await readiness.findings()
    assert len(asked) == 1


def test_a_workers_heartbeat_touches_the_file_that_its_containers_check_looks_at(tmp_path: Path) -> None:
    pulse = tmp_path / "pulse"
    pulse_start(pulse)
    heartbeat_sent.send(sender=None)
    assert pulse.exists()


def _wait(event: threading.Event) -> None:
    event.wait(timeout=30)
