"""Every named moment is at a function that is there: a moment that nobody passes would be a fault test that cannot fail."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.moments import MOMENTS, Moment, moment_resolve, moment_write
from tests.faults.server_moments import SERVER_MOMENTS


@pytest.mark.parametrize(("name", "moment"), [*MOMENTS.items(), *SERVER_MOMENTS.items()])
def test_moment_is_at_a_function(name: str, moment: Moment) -> None:
    owner, function = moment_resolve(name, moment)
    assert callable(getattr(owner, function))


@pytest.mark.parametrize("where", ["jobs.nowhere:function", "jobs.tasks:no_such_function", "jobs.models:NoSuchClass.save"])
def test_moment_at_a_function_that_is_gone_is_named(where: str) -> None:
    with pytest.raises(LookupError, match=rf"the moment 'x' is at {where}, which is not there"):
        moment_resolve("x", Moment(where))


def test_process_dies_at_its_moment_and_at_no_other(tmp_path: Path) -> None:
    file = moment_write(tmp_path / "moment", "second call", signal.SIGKILL)
    script = (
        "import pathlib, string, sys\n"
        "from tests.faults.moments import Moment, moments_arm\n"
        "moments = {'second call': Moment('string:capwords', count=2), 'other': Moment('string:capwords')}\n"
        "moments_arm(moments, pathlib.Path(sys.argv[1]))\n"
        "print(string.capwords('one'), flush=True)\n"
        "print(string.capwords('two'), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("One\n", -signal.SIGKILL)
    assert not file.exists()
