"""Attempts to get out: network, mounts, devices, kernel, other processes, privileges. One container tries them all, and each is refused.

What a container may see and do is listed too: a test that only looked for refusals would not notice that it had looked in the wrong place.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.adversary import probes
from tests.adversary.arena import MIB, Arena

pytestmark = pytest.mark.docker

SECRET = "adversary-secret-of-the-host"
DENIED = ("EPERM", "EACCES", "EROFS")
ABSENT = ("ENOENT",)
UNREACHABLE = ("ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT", "EHOSTUNREACH")
EMPTY: tuple[Any, ...] = ("0 bytes", "ENOENT", "EACCES", [])
ABILITIES = [f"status,{name}" for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")]

REFUSED: dict[str, tuple[Any, ...]] = {
    # The network: there is none but a loopback of its own.
    "connect,1.1.1.1,53": UNREACHABLE,
    "connect,169.254.169.254,80": UNREACHABLE,  # where clouds tell machines their credentials
    "connect,fd00:ec2::254,80": UNREACHABLE,
    "connect,172.17.0.1,80": UNREACHABLE,  # the host, as containers with a network see it
    "datagram,8.8.8.8,53": UNREACHABLE,
    "resolve,example.org": ("unresolved",),
    "raw_socket,AF_INET": DENIED,
    "raw_socket,AF_INET6": DENIED,
    "raw_socket,AF_PACKET": DENIED,
    "interface_up": DENIED,
    "unix_socket,/var/run/docker.sock": ABSENT,
    # Files that are not its own.
    "make,/x": DENIED,
    "make,/usr/x": DENIED,
    "write,/etc/passwd": DENIED,
    "write,/bin/sh": DENIED,
    "make,/inputs/x": DENIED,
    "write,/inputs/probes.py": DENIED,
    "mode,/inputs/probes.py": DENIED,
    "hard_link,/inputs/probes.py": ("EXDEV", *DENIED),
    "read,/etc/shadow": DENIED,
    "handle,/x": DENIED,
    # Devices.
    "device,c,1,1,/tmp": DENIED,
    "device,b,8,0,/outputs": DENIED,
    "device,c,10,200,/dev/shm": DENIED,
    **dict.fromkeys((f"read,/dev/{name}" for name in ("kmsg", "mem", "port", "kvm", "fuse", "net/tun", "sda", "vda", "nvidia0")), ABSENT),
    # What the kernel tells and takes through files.
    **dict.fromkeys((f"read,/proc/{name}" for name in ("kcore", "keys", "timer_list", "sched_debug", "kmsg", "kpageflags")), EMPTY),
    **dict.fromkeys((f"listing,{name}" for name in ("/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/kernel/debug")), EMPTY),
    **dict.fromkeys(
        (
            f"write,{name}"
            for name in (
                "/proc/sysrq-trigger",
                "/proc/sys/kernel/core_pattern",
                "/proc/sys/kernel/hostname",
                "/proc/sys/vm/overcommit_memory",
                "/proc/irq/default_smp_affinity",
                "/sys/kernel/uevent_helper",
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/release_agent",
                "/sys/fs/cgroup/cgroup.procs",
                "/sys/fs/cgroup/memory.max",
            )
        ),
        DENIED + ABSENT,
    ),
    # Mounts and namespaces.
    **dict.fromkeys((f"mount,{kind},/tmp" for kind in ("tmpfs", "proc", "sysfs", "cgroup", "overlay", "bpf")), DENIED),
    "remount,/": DENIED,
    "remount,/inputs": DENIED,
    "umount,/inputs": DENIED,
    "umount,/proc/kcore": DENIED,
    "chroot,/tmp": DENIED,
    **dict.fromkeys((f"unshare,{flags}" for flags in ("10000000", "00020000", "40000000", "20000000")), DENIED),  # user, mount, net, pid
    "setns,/proc/1/ns/net": DENIED,
    # Calls that the filter takes out. Any user might make those of keys and of page faults: it is the filter that refuses them.
    **dict.fromkeys(
        (
            f"call,{name}"
            for name in (
                "add_key",
                "bpf",
                "finit_module",
                "fsopen",
                "kexec_load",
                "keyctl",
                "move_mount",
                "name_to_handle_at",
                "open_by_handle_at",
                "perf_event_open",
                "pivot_root",
                "process_vm_readv",
                "reboot",
                "swapon",
                "syslog",
                "userfaultfd",
            )
        ),
        (*DENIED, "ENOSYS"),
    ),
    "new_keyring": DENIED,
    # Becoming somebody else.
    "become,0": DENIED,
    "become,1": DENIED,
    "groups": DENIED,
    "nice_up": DENIED,
    "hostname": DENIED,
    "clock": DENIED,
    "run,su,-c,id": ("status 1", "EACCES", "ENOENT"),
    # Processes that are not its own are not there.
    "signal_process,100000": ("ESRCH",),
    "attach,100000": ("ESRCH", *DENIED),
    # Nothing of the host's environment.
    f"told,{SECRET}": ([],),
}

FOUND: dict[str, Any] = {
    "interfaces": ["lo"],
    "routes": 0,
    "connect,127.0.0.1,1": "ECONNREFUSED",
    "make,/outputs/x": "made",
    "make,/tmp/x": "made",
    "make,/dev/shm/x": "made",
    "read,/inputs/probes.py": "4096 bytes",
    **dict.fromkeys(ABILITIES, "0000000000000000"),
    "own_name": "container",
    "status,NoNewPrivs": "1",
    "status,Seccomp": "2",
    "status,Uid": "\t".join(["65534"] * 4),
    "status,Gid": "\t".join(["65534"] * 4),
    "limit,CORE": [0, 0],
    "limit,NOFILE": [16384, 16384],
    "limit,FSIZE": [64 * MIB, 64 * MIB],
    "environment,self": [
        "GIVEN",
        "HOME",
        "HOSTNAME",
        "NEXA_INPUTS",
        "NEXA_OUTPUTS",
        "NVIDIA_VISIBLE_DEVICES",
        "PATH",
        "TMPDIR",
    ],
}
DEVICES = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"}
DEVICES |= {"stderr", "stdin", "stdout"}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, image_id: str) -> dict[str, Any]:
    """What became of each attempt. The host listens meanwhile, on its loopback, and holds a secret in its environment."""
    arena = Arena(tmp_path_factory.mktemp("escape"), image_id)
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind("")  # the kernel chooses a name that nobody has
        abstract.listen()
        patch.setenv("NEXA_ADVERSARY", SECRET)
        own = f"connect,127.0.0.1,{listener.getsockname()[1]}"
        own_abstract = f"abstract_socket,{abstract.getsockname()[1:].decode()}"
        attempts = [*REFUSED, *FOUND, own, own_abstract, "processes", "listing,/dev", "mounts"]
        outcome = arena.run("python3", "/inputs/probes.py", *attempts, program=Path(probes.__file__))
        for one in (listener, abstract):
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.accept()
    assert outcome.failure is None, outcome.sink.output
    arena.healthy_check(outcome)
    arena.close()
    found: dict[str, Any] = outcome.said
    return found | {"own loopback": found[own], "own abstract socket": found[own_abstract]}


@pytest.mark.parametrize("attempt", REFUSED)
def test_attempt_is_refused(tried: dict[str, Any], attempt: str) -> None:
    assert tried[attempt] in REFUSED[attempt]


@pytest.mark.parametrize("attempt", FOUND)
def test_container_finds_what_it_is_given(tried: dict[str, Any], attempt: str) -> None:
    assert tried[attempt] == FOUND[attempt]


@pytest.mark.parametrize("which", ["own loopback", "own abstract socket"])
def test_network_is_not_the_hosts(tried: dict[str, Any], which: str) -> None:
    assert tried[which] == "ECONNREFUSED"


def test_no_process_is_seen_but_its_own(tried: dict[str, Any]) -> None:
    assert set(tried["processes"]) <= {"docker-init", "tini", "catatonit", "python3"}
    assert len(tried["processes"]) == 2


def test_no_device_is_there_but_harmless_ones(tried: dict[str, Any]) -> None:
    assert {"null", "zero", "urandom"} <= set(tried["listing,/dev"]) <= DEVICES


def test_only_outputs_and_memory_can_be_written(tried: dict[str, Any]) -> None:
    mounts: dict[str, list[str]] = tried["mounts"]
    assert {point for point, (_, *options) in mounts.items() if "rw" in options} == {"/outputs", "/tmp"}  # noqa: S108  in the container
    assert {"nosuid", "nodev"} <= set(mounts["/tmp"])  # noqa: S108  as above
    assert "ro" in mounts["/"]
    assert "ro" in mounts["/inputs"]
