"""A Docker engine of a test's own, with its own folders and containerd, so that it can be stopped while others go on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from devstack.engine import EngineHandle, engine_probe
from tests.acceptance.traces import wait_for

START_SECONDS = 60.0


class OwnEngine:
    """Needs root. `start` and `stop` as often as wanted; containers of a stopped engine are what the engine makes of them."""

    def __init__(self, folder: Path, *, live_restore: bool = False) -> None:
        self._folder = folder
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'engine.sock'}"

    def start(self) -> EngineHandle:
        folder = self._folder
        # In a network of its own: an engine that is to have no bridge removes the machine's docker0, which is another engine's.
        argv = ["unshare", "--net", "dockerd", f"--host={self.url}", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        argv += [f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}"]
        argv += ["--containerd-namespace=nexapod-tests", "--containerd-plugins-namespace=nexapod-tests-plugins"]
        argv += ["--live-restore"] if self._live_restore else []
        for stale in (folder / "pid", folder / "exec" / "containerd" / "containerd.pid"):
            # Of a killed engine. Where nobody reaps orphans, as in a container without an init, the number still seems alive.
            stale.unlink(missing_ok=True)
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        found: list[EngineHandle] = []

        def answers() -> bool:
            if (engine := engine_probe(self.url)) is not None:
                found.append(engine)
            return bool(found)

        wait_for(answers, limit_seconds=START_SECONDS, what=lambda: (folder / "log").read_text(errors="replace")[-2000:])
        return found[0]

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(signum)
        self._process.wait(START_SECONDS)

    def end(self) -> None:
        """Stop it for good, with its containers."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.closing(docker.APIClient(base_url=self.url, version="auto")) as client:
                for one in client.containers(all=True):
                    client.remove_container(one["Id"], force=True)
            self.stop()


@contextmanager
def own_engine(*images: str, base_url: str, live_restore: bool = False) -> Iterator[tuple[OwnEngine, EngineHandle]]:
    """An engine that has `images` of the engine at `base_url`. Its folder is gone afterwards; its name is short, as sockets' must be."""
    folder = Path(tempfile.mkdtemp(prefix="nexa-"))
    engine = OwnEngine(folder, live_restore=live_restore)
    try:
        handle = engine.start()
        _images_copy(base_url, engine.url, images)
        yield engine, handle
    finally:
        engine.end()
        for mount in reversed([line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]):
            if mount.startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _images_copy(source: str, target: str, images: tuple[str, ...]) -> None:
    with (
        contextlib.closing(docker.APIClient(base_url=source, version="auto", timeout=120)) as giver,
        contextlib.closing(docker.APIClient(base_url=target, version="auto", timeout=120)) as taker,
    ):
        for image in images:
            for said in taker.load_image(giver.get_image(image)):  # type: ignore[no-untyped-call]  # the SDK's stubs lack it
                assert "error" not in said, said
