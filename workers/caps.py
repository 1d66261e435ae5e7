"""`node.toml`: what the contributor lends, and how this worker behaves. Everything in it may be left out; docs/host.md explains it all."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.home_errors import HomeDamagedError
from workers.manners import Manners
from workers.protocol.messages.exchange import PATTERNS_MAX, Pattern, Wishes
from workers.protocol.messages.machine import Gpu, NodeProfile

GIB = 2**30
MEMORY_SHARE = 0.8
DISK_SHARE = 0.5
DISK_RESERVE_GIB_DEFAULT = 2.0
DISK_DEFAULT_BYTES_MAX = 100 * GIB
SLOTS_DEFAULT_MAX = 8


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Lend(_Section):
    """What is lent; None stands for the default, which depends on the machine."""

    cores: Annotated[float, Field(gt=0, le=4096)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    disk_gib: Annotated[float, Field(gt=0)] | None = None
    disk_reserve_gib: Annotated[float, Field(ge=0)] = DISK_RESERVE_GIB_DEFAULT
    slots: Annotated[int, Field(ge=1, le=256)] | None = None
    gpus: tuple[str, ...] | None = None


class Images(_Section):
    """Which images may run here, and what they may take."""

    allowed: tuple[Pattern, ...] = Field(default=("*",), max_length=PATTERNS_MAX)
    pull_max_gib: Annotated[float, Field(gt=0)] = 20
    budget_gib: Annotated[float, Field(ge=0)] = 30


class WorkWishes(_Section):
    """What else a job must be to be offered here."""

    job_types: tuple[Pattern, ...] = Field(default=("*",), max_length=PATTERNS_MAX)
    credit_rate_min: Annotated[float, Field(ge=0, le=1000)] = 0


class WorkerSettings(_Section):
    """How the worker behaves."""

    drain_seconds: Annotated[float, Field(ge=0)] = 600
    report_seconds: Annotated[float, Field(ge=0)] = 20


class Sandbox(_Section):
    """How containers are kept apart from this machine."""

    runtime: Annotated[str, Field(min_length=1, max_length=100)] = "auto"


class NodeSettings(_Section):
    """`node.toml` as written."""

    lend: Lend = Lend()
    images: Images = Images()
    wishes: WorkWishes = WorkWishes()
    sandbox: Sandbox = Sandbox()
    manners: Manners = Manners()
    worker: WorkerSettings = WorkerSettings()

    @classmethod
    def read(cls, path: Path) -> NodeSettings:
        """The settings in `path`, or the defaults where there is no such file. Raises HomeDamagedError."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise HomeDamagedError(f"{path} can't be read: {error}.") from error
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise HomeDamagedError(f"{path} is not TOML: {error}.") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HomeDamagedError(f"{path}: {where}: {first['msg']}; found {first['input']!r}.") from error


@dataclass(frozen=True)
class Caps:
    """What this worker may use at once, in the units of orders: settings applied to the machine that is there."""

    slots: int
    cpus: float
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[Gpu, ...]
    wishes: Wishes = field(default_factory=Wishes)

    @classmethod
    def of(cls, settings: NodeSettings, profile: NodeProfile) -> Caps:
        """Never more than the machine has, whatever the settings say. Raises HomeDamagedError for a GPU that isn't there."""
        lend = settings.lend
        known = {gpu.uuid: gpu for gpu in profile.gpus}
        wanted = tuple(known) if lend.gpus is None else lend.gpus
        absent = [uuid for uuid in wanted if uuid not in known]
        if absent:
            raise HomeDamagedError(
                f"node.toml lends the GPU {absent[0]!r}, which this machine does not have; it has: {', '.join(known) or 'none'}."
            )
        memory_bytes = int(profile.memory_bytes * MEMORY_SHARE) if lend.memory_gib is None else int(lend.memory_gib * GIB)
        disk_bytes = (
            min(int(profile.disk_free_bytes * DISK_SHARE), DISK_DEFAULT_BYTES_MAX) if lend.disk_gib is None else int(lend.disk_gib * GIB)
        )
        return cls(
            slots=lend.slots or max(1, min(SLOTS_DEFAULT_MAX, profile.cores // 2)),
            cpus=min(lend.cores or float(profile.cores), float(profile.cores)),
            memory_bytes=min(memory_bytes, profile.memory_bytes),
            disk_bytes=disk_bytes,
            gpus=tuple(known[uuid] for uuid in wanted),
            wishes=Wishes(
                images=settings.images.allowed,
                job_types=settings.wishes.job_types,
                credit_rate_min=settings.wishes.credit_rate_min,
            ),
        )
