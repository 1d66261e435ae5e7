"""What a check comes to."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Level(StrEnum):
    """`warn`: works, but not as well as it could, or not at this moment. `fail`: no work can be done until it is mended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(BaseModel):
    """`found` is what is, `advice` what to do about it; empty where there is nothing to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, level=Level.OK, found=found)


def warn(check: str, found: str, advice: str) -> Finding:
    return Finding(check=check, level=Level.WARN, found=found, advice=advice)


def fail(check: str, found: str, advice: str) -> Finding:
    return Finding(check=check, level=Level.FAIL, found=found, advice=advice)
