"""Debian packages that a machine lacks. `python -m devstack.packages` installs what the tests need: a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

COMPILER_PACKAGES: Final = ("gcc", "libc6-dev")


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
    """Ensures a C compiler, for the Makefile: tests build a stub of NVIDIA's library and a clock that is off."""
    if shutil.which("gcc"):
        return 0
    if os.geteuid() != 0 or not is_debian_like():
        print("The tests need a C compiler. Install gcc (Debian: sudo apt-get install gcc libc6-dev) and run this again.", file=sys.stderr)
        return 1
    print("installing gcc with apt-get (once)")
    try:
        packages_install(*COMPILER_PACKAGES)
    except PackagesFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
