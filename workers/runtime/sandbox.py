"""What one container may do, as arguments for the engine: a pure function, so that the whole sandbox can be read and tested in one place.

No network, read-only root, nothing of the host but the run's own two folders, no capabilities and no way to gain any, not root,
bounded processes, memory without swap, cpus, files, /tmp and /dev/shm, an init process that reaps and forwards, no devices but granted
GPUs, the engine's default seccomp filter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from workers.runtime.interface import INPUTS_PATH, OUTPUTS_PATH, RunSpec

CONTAINER_USER: Final = "65534:65534"
ROOTLESS_USER: Final = "0:0"
"""Under a rootless engine, the engine's own user: no more root on the machine than that user is, and who else's the outputs would be."""

_SHM_BYTES_MAX: Final = 64 * 2**20
_OPEN_FILES: Final = 16384
_TMP_INODES: Final = 65536


def host_config_arguments(
    spec: RunSpec, *, volumes: Iterable[str] = (), runtime: str | None = None, selinux: bool = False
) -> dict[str, Any]:
    """Arguments of the engine's HostConfig. `volumes` are paths that the image declares as volumes; `runtime` None is the engine's own.

    Such a volume would be writable space on the host's disk without a bound, so each becomes a tmpfs; what is in a tmpfs counts as memory.
    `selinux`: the engine gives containers labels of SELinux, and so the run's folders have to get the same.
    """
    limits = spec.limits
    tmp_bytes = min(limits.disk_bytes, limits.memory_bytes)
    tmpfs = f"rw,nosuid,nodev,mode=1777,size={tmp_bytes},nr_inodes={_TMP_INODES}"
    taken = {"/tmp", INPUTS_PATH, OUTPUTS_PATH}  # noqa: S108  a path inside of the container
    file_bytes = max(limits.output_bytes, limits.disk_bytes)
    return {
        "network_mode": "none",
        "read_only": True,
        **_folders(spec, selinux=selinux),
        "tmpfs": {"/tmp": tmpfs} | {path: tmpfs for path in volumes if path.rstrip("/") not in taken},  # noqa: S108  as above
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "nano_cpus": int(limits.cpus * 1e9),
        "shm_size": min(_SHM_BYTES_MAX, limits.memory_bytes // 4),
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
            # Bounds one file between two looks at the folder; the folder as a whole is watched.
            Ulimit(name="fsize", soft=file_bytes, hard=file_bytes),
        ],
        "init": True,
        "ipc_mode": "private",
        "privileged": False,
        "runtime": runtime,
        "restart_policy": {"Name": "no"},
        # Output goes to us alone: a log file of the engine would grow on the host's disk.
        "log_config": LogConfig(type=LogConfig.types.NONE),
        "device_requests": [DeviceRequest(device_ids=[gpu.uuid for gpu in spec.gpus], capabilities=[["gpu"]])] if spec.gpus else [],
    }


def _folders(spec: RunSpec, *, selinux: bool) -> dict[str, Any]:
    if selinux:
        # Labels of a container's own are asked for in the older form only. Both folders are this run's alone.
        return {"binds": [f"{spec.inputs_dir}:{INPUTS_PATH}:ro,Z", f"{spec.outputs_dir}:{OUTPUTS_PATH}:rw,Z"]}
    return {
        "mounts": [
            Mount(target=INPUTS_PATH, source=str(spec.inputs_dir), type="bind", read_only=True),
            Mount(target=OUTPUTS_PATH, source=str(spec.outputs_dir), type="bind", read_only=False),
        ]
    }


def container_arguments(spec: RunSpec, *, user: str) -> dict[str, Any]:
    """Arguments for creating the container, beside its HostConfig. The image's ENTRYPOINT stays; `command` replaces its CMD."""
    environment = {
        **spec.environment,
        "NEXA_INPUTS": INPUTS_PATH,
        "NEXA_OUTPUTS": OUTPUTS_PATH,
        "HOME": "/tmp",  # noqa: S108  a path inside of the container
        "TMPDIR": "/tmp",  # noqa: S108  as above
    }
    # Where NVIDIA's runtime is the default one, an image that sets this variable to "all" would be given every GPU.
    environment["NVIDIA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in spec.gpus) or "void"
    return {
        "image": spec.image_id,
        "command": list(spec.command) or None,
        "name": spec.name,
        "labels": dict(spec.labels),
        "environment": environment,
        "user": user,
        "hostname": "container",
        "network_disabled": True,
        "stdin_open": False,
        "tty": False,
        "healthcheck": {"test": ["NONE"]},
    }
