"""Which systems have apt-get, and what is said when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack.packages import PackagesFailedError, is_debian_like, packages_install


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ID=debian\n", True), ('ID=ubuntu\nID_LIKE="debian"\n', True), ("ID=fedora\n", False), ("nonsense\n", False), ("", False)],
)
def test_debian_like_systems_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: bool) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    release = tmp_path / "os-release"
    release.write_text(text)
    assert is_debian_like(release) is expected
    assert is_debian_like(tmp_path / "absent") is False


def test_failing_apt_is_reported_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagesFailedError, match="E: no network"):
        packages_install("gcc")
