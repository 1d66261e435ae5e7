"""What a Docker engine, or Podman behind the same API, says of itself: above all, which limits it would accept and not enforce."""

from __future__ import annotations

from typing import Any, Final

from workers.protocol.messages.machine import EngineProfile
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.interface import RuntimeFailureError

AUTO: Final = "auto"
GVISOR: Final = "runsc"
NVIDIA: Final = "nvidia"


def engine_profile(info: dict[str, Any], version: dict[str, Any], *, swap_bytes: int, runtime: str | None = None) -> EngineProfile:
    """What an engine's answers amount to, when containers are run by `runtime` (None: its default one).

    Limits are ignored if the engine says so, or is rootless under cgroup v1, which sets none. The filter of system calls is one of them.
    """
    options = [str(option) for option in info.get("SecurityOptions") or []]
    rootless = any("name=rootless" in option for option in options)
    cgroup = str(info.get("CgroupVersion") or "unknown")
    helpless = info.get("CgroupDriver") == "none" or (rootless and cgroup == "1")
    ignored = [
        name for name, key in (("memory", "MemoryLimit"), ("pids", "PidsLimit"), ("cpus", "CpuCfsQuota")) if helpless or not info.get(key)
    ]
    if swap_bytes and "memory" not in ignored and not info.get("SwapLimit"):
        ignored.append("swap")
    if not any(_is_filter(option) for option in options):
        ignored.append("seccomp")
    names = [str(part.get("Name", "")) for part in version.get("Components") or []]
    return EngineProfile(
        name="podman" if any("podman" in name.lower() for name in names) else "docker",
        version=str(version.get("Version", ""))[:200],
        cgroup_version="1" if cgroup == "1" else "2" if cgroup == "2" else "unknown",
        rootless=rootless,
        runtime=str(runtime or info.get("DefaultRuntime") or "")[:200],
        limits_ignored=tuple(ignored),
    )


def runtime_choose(info: dict[str, Any], wanted: str) -> str | None:
    """The engine's runtime to ask for; None: no other than its default.

    `auto` is gVisor where the engine has it, but for a machine set up for NVIDIA's GPUs, which gVisor does not pass on by itself.
    Raises RuntimeFailureError (`host_refused`): one that is wanted by name and not there.
    """
    names = set(info.get("Runtimes") or {})
    if wanted == AUTO:
        wanted = GVISOR if GVISOR in names and NVIDIA not in names else ""
    elif wanted not in names:
        raise RuntimeFailureError(
            FailureCode.HOST_REFUSED,
            f"node.toml wants containers run by {wanted!r}; this engine has {', '.join(sorted(names)) or 'none that it names'}. "
            "Add it to the engine's configuration, or take `runtime` out of [sandbox].",
        )
    return wanted if wanted and wanted != info.get("DefaultRuntime") else None


def _is_filter(option: str) -> bool:
    """Whether a security option, as `name=seccomp,profile=builtin`, says that the engine filters system calls."""
    parts = dict(part.partition("=")[::2] for part in option.split(","))
    return parts.get("name") == "seccomp" and parts.get("profile", "default") not in {"", "unconfined"}
