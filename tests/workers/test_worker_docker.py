"""`celery -A nexaportal worker` as a contributor runs it: the real app, a real container engine, a portal over HTTP."""

from __future__ import annotations

import signal
from pathlib import Path

import docker
import pytest

from devstack.images import base_image_ensure
from tests.workers.portal_fake import FakePortal
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.protocol.archives import archive_check
from workers.protocol.compute_log import log_check
from workers.protocol.digests import digest_of
from workers.protocol.keys import PublicKey
from workers.protocol.messages.order import ExpectedOutput, ImageReference, Limits, OrderInput

pytestmark = [pytest.mark.docker, pytest.mark.acceptance]


@pytest.fixture(scope="module")
def image() -> ImageReference:
    client = docker.from_env()
    try:
        reference = base_image_ensure(client, report=lambda _: None)
        return ImageReference(name=reference, image_id=str(client.images.get(reference).id))
    finally:
        client.close()


def test_order_runs_in_a_container_and_nothing_of_it_stays(
    portal: FakePortal, home: NodeHome, key: PublicKey, tmp_path: Path, image: ImageReference
) -> None:
    data = b"GYDPETGTWG"
    portal.blobs[digest_of(data)] = data
    script = (
        "echo '{\"nexa_progress\": 1}'; rev < $NEXA_INPUTS/chain > $NEXA_OUTPUTS/niahc || cat /inputs/chain > /outputs/niahc; id -u >&2"
    )
    order = portal.order_make(
        key,
        image=image,
        command=("sh", "-c", script),
        inputs=(OrderInput(path="chain", digest=digest_of(data), size_bytes=len(data), url=portal.blob_url(digest_of(data))),),
        outputs=(ExpectedOutput(path="niahc"),),
        limits=Limits(wall_seconds=60, memory_bytes=128 * 2**20, cpus=1, pids=32, disk_bytes=2**26, output_bytes=2**20),
    )
    worker = Worker(home, tmp_path / "worker.log", app="nexaportal")
    try:
        portal.order_add(order)
        receipt = portal.receipt_of(order, seconds=60)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    finally:
        worker.end()
    assert receipt.failure is None
    assert receipt.image_id == image.image_id
    assert receipt.usage.wall_seconds > 0
    assert receipt.archive is not None
    archive = tmp_path / "archive.tar"
    archive.write_bytes(portal.blobs[receipt.archive.digest])
    with archive.open("rb") as stream:
        assert archive_check(stream).result_digest == receipt.result_digest
    lines = portal.blobs[receipt.log.digest].splitlines(keepends=True)
    log_check(lines, order_digest=receipt.order_digest, head=receipt.log.head, lines_expected=receipt.log.lines)
    assert b"65534" in b"".join(lines)
    client = docker.from_env()
    try:
        assert client.containers.list(all=True, filters={"label": f"nexapod.home={home.identity().node_id}"}) == []
    finally:
        client.close()
    assert list(home.work_folder.iterdir()) == []


def test_runtime_that_node_toml_wants_and_the_engine_lacks_is_said_at_the_start(home: NodeHome, tmp_path: Path) -> None:
    home.settings_path.write_text('[sandbox]\nruntime = "no-such-runtime"\n')
    worker = Worker(home, tmp_path / "worker.log", app="nexaportal")
    try:
        assert worker.wait() == 78
    finally:
        worker.end()
    assert "wants containers run by 'no-such-runtime'" in worker.log.read_text()
