"""Debian packages that a machine lacks. `python -m devstack.packages` installs those whose programs the tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

TESTS_NEED: Final = {
    "chromium": ("chromium", "fonts-dejavu-core"),  # the browser that tests look with
    "gcc": ("gcc", "libc6-dev"),  # a stub of NVIDIA's library, a clock that is off
    "mkfs.ext4": ("e2fsprogs",),  # disks that are full
    "mount": ("mount",),
    "unshare": ("util-linux",),  # an engine in a network of its own
    "unzip": ("unzip",),  # a reader of ZIPs that is not ours
    "systemd-analyze": ("systemd",),  # whether systemd takes the host's unit
}
TAKEN_OUT: Final = {"promtool": "prometheus", "pebble": "pebble"}
"""Programs without the rest of their package, which would start a service of its own. They go beside Python."""


class PackagesFailedError(RuntimeError):
    """apt-get could not do it; the message holds its last line."""


def is_debian_like(os_release: Path = Path("/etc/os-release")) -> bool:
    """Whether apt-get installs packages here."""
    try:
        lines = os_release.read_text().splitlines()
    except OSError:
        return False
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    names = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").split()
    return "debian" in names and shutil.which("apt-get") is not None


def packages_install(*names: str) -> None:
    """Installs packages and what they depend on; needs root. Raises PackagesFailedError."""
    _apt("update")
    _apt("install", "--yes", "--no-install-recommends", *names)


def program_take_out(command: str, package: str) -> Path:
    """Puts usr/bin/`command` of a package beside Python, and nothing else of it anywhere. Raises PackagesFailedError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt downloads as a user of its own
        _apt("download", package, cwd=folder)
        (file,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", file, folder / "all"], check=True)
        return Path(shutil.copy(folder / "all" / "usr" / "bin" / command, Path(sys.executable).with_name(command)))


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments],
        cwd=cwd,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PackagesFailedError(f"apt-get {arguments[0]} failed: {last}")


def main() -> int:
    """Ensures what the tests need, for the Makefile."""
    places = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = {command: names for command, names in TESTS_NEED.items() if shutil.which(command, path=places) is None}
    beside = {command: name for command, name in TAKEN_OUT.items() if not Path(sys.executable).with_name(command).exists()}
    if not missing and not beside:
        return 0
    packages = sorted({name for names in missing.values() for name in names})
    if os.geteuid() != 0 or not is_debian_like():
        by_hand = "".join(f" Put {command} of Debian's {name} beside {sys.executable}." for command, name in beside.items())
        wanted = f" sudo apt-get install {' '.join(packages)}." if packages else ""
        print(f"The tests need {', '.join([*missing, *beside])}:{wanted}{by_hand} Then run this again.", file=sys.stderr)
        return 1
    print(f"installing {' '.join([*packages, *beside])} with apt-get (once)")
    try:
        packages_install(*packages)
        for command, name in beside.items():
            program_take_out(command, name)
    except PackagesFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
