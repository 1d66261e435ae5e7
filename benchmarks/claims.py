"""Claims behind a long queue that is not for the one who asks: a node's exchanges over HTTP, against the same with no queue."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

import psycopg

from benchmarks.figures import Figure, median
from tests.acceptance.running_stack import RunningStack
from workers.home import NodeHome
from workers.portal import PortalClient
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages import PROTOCOL_VERSION, ExchangeRequest, FreeResources, RegistrationRequest, Tier

AHEAD: Final = 100_000
CLAIMS: Final = 10
_SESSION: Final = uuid4()


def claim_figures(running: RunningStack, host: str, job_id: str) -> list[Figure]:
    """`job_id`: a completed job that `host` ran, whose rows the queue is made of. Nobody else may ask for work meanwhile."""
    owner = running.hosts[host].owner
    client = _node_register(running, owner, NodeHome(running.hosts[host].home))
    with psycopg.connect(running.services.postgres_dsn, autocommit=True) as database:
        _jobs_queue(database, job_id, count=CLAIMS, label="alone", owned=False)
        alone = [_order_seconds(client) for _ in range(CLAIMS)]
        _jobs_queue(database, job_id, count=AHEAD, label="ahead", owned=True)
        _jobs_queue(database, job_id, count=CLAIMS, label="behind", owned=False)
        database.execute("ANALYZE jobs_job, jobs_replica")
        behind = [_order_seconds(client) for _ in range(CLAIMS)]
    client.close()
    return [
        Figure("an exchange that brings an order, p50", median(alone) * 1e3, "ms"),
        Figure(f"the same behind {AHEAD:,} queued for others, p50", median(behind) * 1e3, "ms"),
        Figure("behind over alone", median(behind) / median(alone), "x"),
    ]


def _node_register(running: RunningStack, owner: str, like: NodeHome) -> PortalClient:
    """A second node of this owner, on the same machine."""
    token = join_token_decode(running.contributors[owner].join_token_mint())
    key = PrivateKey.generate()
    client = PortalClient(running.stack.origin, key)
    client.register(
        RegistrationRequest(
            protocol_version=PROTOCOL_VERSION,
            join_token=token.secret,
            name=f"{owner}-second",
            public_key=key.public.to_base64(),
            profile=like.profile(),
        )
    )
    return client


def _order_seconds(client: PortalClient) -> float:
    message = ExchangeRequest(
        protocol_version=PROTOCOL_VERSION,
        request_id=uuid4(),
        session_id=_SESSION,
        wait_seconds=0,
        queues=(Tier.CPU,),
        free=FreeResources(slots=1, cpus=8, memory_bytes=2**35, disk_bytes=2**40),
    )
    began = time.monotonic()
    answer = client.exchange(message)
    seconds = time.monotonic() - began
    if len(answer.orders) != 1:
        raise RuntimeError(f"expected one order; found {len(answer.orders)}, {answer.no_work}")
    return seconds


def _jobs_queue(database: psycopg.Connection[Any], job_id: str, *, count: int, label: str, owned: bool) -> None:
    """Queues copies of the job; `owned`: an accepted replica of the same owner stands beside each, so that they are not for that owner."""
    job_rest = _columns(database, "jobs_job", but=("id", "label", "state", "concluded_at", "canonical_replica_id"))
    replica_rest = _columns(
        database, "jobs_replica", but=("id", "job_id", "state", "created_at", "lease_id", "lease_request_id", "paid_micro")
    )
    parameters = {"job": job_id, "count": count, "label": label}
    with database.transaction():
        database.execute(
            f"CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, {int(count)}) n"  # noqa: S608  a number
        )
        database.execute(
            f"INSERT INTO jobs_job (id, label, state, {job_rest}) SELECT made.id, %(label)s || '-' || n, 'queued', {job_rest}"  # noqa: S608  names of columns
            " FROM made, jobs_job WHERE jobs_job.id = %(job)s",
            parameters,
        )
        states = (("accepted", "gen_random_uuid()"),) if owned else ()
        for state, lease in (*states, ("queued", "NULL")):
            database.execute(
                f"INSERT INTO jobs_replica (id, job_id, state, created_at, lease_id, paid_micro, {replica_rest})"  # noqa: S608  names of columns
                f" SELECT gen_random_uuid(), made.id, '{state}', now() + n * interval '1 microsecond', {lease}, 0, {replica_rest}"
                " FROM made, jobs_replica WHERE jobs_replica.job_id = %(job)s",
                parameters,
            )
        database.execute(
            "UPDATE jobs_replica SET node_id = NULL, node_owner_id = NULL, verdict = '', order_envelope = NULL, progress = NULL"
            " WHERE state = 'queued' AND node_id IS NOT NULL"
        )


def _columns(database: psycopg.Connection[Any], table: str, *, but: Iterable[str]) -> str:
    rows = database.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]).fetchall()
    return ", ".join(sorted({f'"{name}"' for (name,) in rows} - {f'"{name}"' for name in but}))
