"""What a Docker engine, or Podman behind the same API, says of itself: above all, which limits it would accept and not enforce."""

from __future__ import annotations

from typing import Any, Final

from workers.protocol.messages.machine import EngineProfile
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.interface import RuntimeFailureError

AUTO: Final = "auto"
GVISOR: Final = "runsc"
NVIDIA: Final = "nvidia"
REMAPPED: Final = "This engine maps the users of containers to others (`userns-remap`), who may not write a run's outputs."
REMAPPED_ADVICE: Final = "Take `userns-remap` out of the engine's configuration (daemon.json) and restart it, or use a rootless engine."


def engine_profile(info: dict[str, Any], version: dict[str, Any], *, swap_bytes: int, runtime: str | None = None) -> EngineProfile:
    """What an engine's answers amount to, when containers are run by `runtime` (None: its default one).

    Limits are ignored if the engine says so, or is rootless under cgroup v1, which sets none. The filter of system calls is one of them.
    """
    options = _options(info)
    rootless = _has(options, "rootless")
    cgroup = str(info.get("CgroupVersion") or "unknown")
    helpless = info.get("CgroupDriver") == "none" or (rootless and cgroup == "1")
    ignored = [
        name for name, key in (("memory", "MemoryLimit"), ("pids", "PidsLimit"), ("cpus", "CpuCfsQuota")) if helpless or not info.get(key)
    ]
    if swap_bytes and "memory" not in ignored and not info.get("SwapLimit"):
        ignored.append("swap")
    if not any(option.get("name") == "seccomp" and option.get("profile", "default") not in {"", "unconfined"} for option in options):
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


def users_remapped(info: dict[str, Any]) -> bool:
    """Whether the engine gives containers users who are neither this machine's nor its own. A rootless one has its own."""
    options = _options(info)
    return _has(options, "userns") and not _has(options, "rootless")


def selinux_labels(info: dict[str, Any]) -> bool:
    """Whether the engine labels containers for SELinux, which keeps them from files without such a label."""
    return _has(_options(info), "selinux")


def _options(info: dict[str, Any]) -> list[dict[str, str]]:
    """An engine's security options, told as `name=seccomp,profile=builtin`."""
    return [dict(part.partition("=")[::2] for part in str(option).split(",")) for option in info.get("SecurityOptions") or []]


def _has(options: list[dict[str, str]], name: str) -> bool:
    return any(option.get("name") == name for option in options)
