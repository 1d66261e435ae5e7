"""Nodes for tests, and requests that they sign."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

from django.test import Client

from ledger.items import node_key_log
from ledger.services import account_of
from nodes.models import Node, NodeKey
from nodes.tiers import queues_of
from people.models import User
from workers.protocol.http_signatures import request_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.machine import EngineProfile, Gpu, NodeProfile, Tier

ORIGIN = "http://testserver"
_numbers = itertools.count(1)


def profile_make(*, gpu_gb: float | None = None, **fields: Any) -> NodeProfile:
    """A machine of 8 cores and 64 GB, with one GPU of `gpu_gb` decimal gigabytes if that is given."""
    gpus = () if gpu_gb is None else (Gpu(index=0, uuid="GPU-1", name="Test GPU", memory_bytes=int(gpu_gb * 10**9)),)
    engine = EngineProfile(name="docker", version="28.0", cgroup_version="2", rootless=False)
    values: dict[str, Any] = {
        "os": "Debian 12",
        "architecture": "x86_64",
        "cpu_model": "Test CPU",
        "cores": 8,
        "memory_bytes": 64 * 10**9,
        "disk_free_bytes": 100 * 10**9,
        "gpus": gpus,
        "engine": engine,
        "benchmark_gflops": 20.0,
        "software_version": "0.1.0",
    }
    return NodeProfile(**{**values, **fields})


def node_make(owner: User, key: PrivateKey | None = None, **fields: Any) -> tuple[Node, PrivateKey]:
    """A registered node of `owner` and its key, which is in the log; `tier` and other columns may be given."""
    key = key or PrivateKey.generate()
    profile: NodeProfile = fields.pop("profile", None) or profile_make()
    tier = Tier(fields.pop("tier", Tier.CPU))
    values: dict[str, Any] = {
        "name": f"node-{next(_numbers)}",
        "public_key": key.public.raw,
        "key_id": key.public.key_id,
        "tier": tier,
        "queues": [queue.value for queue in queues_of(tier)],
        "profile": profile.model_dump(mode="json"),
        "benchmark_gflops": profile.benchmark_gflops,
    }
    node = Node.objects.create(owner=owner, **{**values, **fields})
    NodeKey.objects.create(key_id=node.key_id, node=node, public_key=node.public_key)
    node_key_log(node_id=node.pk, key=key.public, account=account_of(user=owner))
    return node, key


def registration_make(*, secret: str, key: PrivateKey, **fields: Any) -> dict[str, Any]:
    """The JSON of a registration with a join token's secret."""
    values: dict[str, Any] = {
        "protocol_version": PROTOCOL_VERSION,
        "join_token": secret,
        "name": f"host-{next(_numbers)}",
        "public_key": key.public.to_base64(),
        "profile": profile_make().model_dump(mode="json"),
    }
    return {**values, **fields}


def signed_headers(key: PrivateKey, method: str, path: str, body: bytes = b"", *, age_seconds: int = 0, **headers: str) -> dict[str, str]:
    """`headers=` for Django's test client: a signature over this request, made `age_seconds` ago."""
    if body:
        headers = {"Content-Type": "application/json", **headers}
    now = int(time.time()) - age_seconds
    return {
        **headers,
        **request_sign(method=method, url=ORIGIN + path, headers=headers, body=body, key=key, now=now),
    }


def signed_post(client: Client, path: str, message: Any, key: PrivateKey, *, age_seconds: int = 0) -> Any:
    """The answer to `message` as JSON, posted to `path` and signed with `key`."""
    body = json.dumps(message).encode()
    headers = signed_headers(key, "POST", path, body, age_seconds=age_seconds)
    return client.post(path, data=body, content_type="application/json", headers=headers)
