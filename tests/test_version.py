"""The software has one version, in two places: packaging reads one, hosts and portals tell each other the other."""

from __future__ import annotations

import tomllib
from pathlib import Path

from workers.protocol.version import SOFTWARE_VERSION


def test_the_version_that_peers_are_told_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == SOFTWARE_VERSION
