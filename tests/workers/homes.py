"""Node homes for tests."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tests.workers.portal_fake import FakePortal
from workers.home import NodeHome, NodeIdentity
from workers.home_place import place_of
from workers.keystore.interface import KeyPlace
from workers.keystore.plain_file import PlainFileStorage
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.machine import EngineProfile, Gpu, NodeProfile, Tier

GIB = 2**30


def profile_make(*, cores: int = 4, gpus: tuple[Gpu, ...] = (), memory_bytes: int = 8 * GIB) -> NodeProfile:
    """An ordinary machine."""
    return NodeProfile(
        os="Linux 6",
        architecture="x86_64",
        cpu_model="Test",
        cores=cores,
        memory_bytes=memory_bytes,
        disk_free_bytes=100 * GIB,
        gpus=gpus,
        engine=EngineProfile(name="fake", version="1", cgroup_version="2", rootless=False),
        benchmark_gflops=12.5,
        software_version="0.1.0",
    )


def home_make(folder: Path, portal: FakePortal, *, settings: str = "", queues: tuple[Tier, ...] = (Tier.CPU,)) -> NodeHome:
    """A home that has joined `portal`."""
    key = PrivateKey.generate()
    portal.nodes[key.public.key_id] = key.public
    home = NodeHome(folder)
    PlainFileStorage(folder).write(KeyPlace.CURRENT, key)
    home.write(
        identity=NodeIdentity(
            portal=portal.origin,
            node_id=UUID(key.public.key_id.removeprefix("sha256:")[:32]),
            key_id=key.public.key_id,
            coordinator_key=portal.key.public.to_base64(),
            tier=queues[0],
            queues=queues,
            name="test node",
            place=place_of(folder),
        ),
        profile=profile_make(),
    )
    if settings:
        home.settings_path.write_text(settings)
    return home
