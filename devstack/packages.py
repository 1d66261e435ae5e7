"""Debian packages that a machine lacks. `python -m devstack.packages` installs those whose programs the tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

TESTS_NEED: Final = {
    "chromium": ("chromium", "fonts-dejavu-core"),  # the browser that tests look with
    "gcc": ("gcc", "libc6-dev"),  # a stub of NVIDIA's library, a clock that is off
    "mkfs.ext4": ("e2fsprogs",),  # disks that are full
    "mount": ("mount",),
    "promtool": ("prometheus",),  # whether Prometheus takes the alert rules
    "unshare": ("util-linux",),  # an engine in a network of its own
    "systemd-analyze": ("systemd",),  # whether systemd takes the host's unit
}


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


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments],
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
    if not missing:
        return 0
    packages = sorted({name for names in missing.values() for name in names})
    if os.geteuid() != 0 or not is_debian_like():
        print(f"The tests need {', '.join(missing)}: sudo apt-get install {' '.join(packages)}, then run this again.", file=sys.stderr)
        return 1
    print(f"installing {' '.join(packages)} with apt-get (once)")
    try:
        packages_install(*packages)
    except PackagesFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
