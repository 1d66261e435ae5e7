"""Claims behind a long queue that is not for the one who asks: a node's exchanges over HTTP, against the same with no queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.figures import Figure, median
from tests.acceptance.running_stack import RunningStack
from workers.home import NodeHome
from workers.portal import PortalClient
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import ExchangeRequest, FreeResources, Wishes
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.messages.machine import Tier

AHEAD: Final = 100_000
CLAIMS: Final = 10
BEHIND_OVER_ALONE_MAX: Final = 2.0

EVERYTHING: Final = Wishes()
_SESSION: Final = uuid4()


@dataclass(frozen=True)
class Mix:
    """What the queue before the claims is made of: columns of its replicas, changed from the mix before, and what the host wishes for."""

    name: str
    changed: dict[str, Any]
    wishes: Wishes = EVERYTHING


def claim_figures(running: RunningStack, host: str, job_id: str) -> list[Figure]:
    """`job_id`: a completed job that `host` ran, whose rows the queue is made of. Nobody else may ask for work meanwhile."""
    owner = running.hosts[host].owner
    client, node_id = _node_register(running, owner, NodeHome(running.hosts[host].home))
    with psycopg.connect(running.services.postgres_dsn, autocommit=True) as database:
        _jobs_queue(database, job_id, count=CLAIMS, label="alone", owned=False)
        alone = [_order_seconds(client, EVERYTHING) for _ in range(CLAIMS)]
        figures = [Figure("an exchange that brings an order, p50", median(alone) * 1e3, "ms")]
        _jobs_queue(database, job_id, count=AHEAD, label="ahead", owned=True)
        for number, mix in enumerate(_mixes(database, job_id, node_id)):
            _queue_become(database, mix.changed, label="ahead")
            _jobs_queue(database, job_id, count=CLAIMS, label=f"behind-{number}", owned=False)
            database.execute("VACUUM ANALYZE jobs_job, jobs_replica, jobs_jobkind")
            behind = [_order_seconds(client, mix.wishes) for _ in range(CLAIMS)]
            name = f"behind {AHEAD:,} that {mix.name}, over alone"
            note = f"p50 {median(behind) * 1e3:.1f} ms"
            figures.append(Figure(name, median(behind) / median(alone), "x", BEHIND_OVER_ALONE_MAX, note))
    client.close()
    return figures


def _mixes(database: psycopg.Connection[Any], job_id: str, node_id: UUID) -> list[Mix]:
    [(image,)] = database.execute("SELECT image->>'name' FROM jobs_job WHERE id = %s", [job_id]).fetchall()
    elsewhere, closed = (_kind_make(database, name, hours) for name, hours in (("elsewhere", -1), ("closed", 1)))
    return [
        Mix("are of jobs in which this owner has a vote", {}),
        Mix("failed on this node", {"barred": [], "failed_nodes": [str(node_id)]}),
        Mix("are too large for it", {"failed_nodes": [], "cpus": 1000}),
        Mix("are of an image that is not wished for", {"cpus": 0.1, "kind_id": elsewhere}, Wishes(images=(image,))),
        Mix("are of an image whose runs keep failing", {"kind_id": closed}),
    ]


def _kind_make(database: psycopg.Connection[Any], image: str, hours: int) -> int:
    """A kind of jobs that is closed for so many hours."""
    [(kind_id,)] = database.execute(
        "INSERT INTO jobs_jobkind (image_name, job_type, credit_rate_micro, closed_until)"
        " VALUES (%s, 'bench', 1, now() + make_interval(hours => %s)) RETURNING id",
        [image, hours],
    ).fetchall()
    return int(kind_id)


def _queue_become(database: psycopg.Connection[Any], changed: Mapping[str, Any], *, label: str) -> None:
    """Changes columns of the queued replicas of these jobs, and with them the key of their class."""
    if not changed:
        return
    assignments = ", ".join(f'"{name}" = n."{name}"' for name in changed)
    database.execute(
        f"UPDATE jobs_replica r SET {assignments}, queue_key = jobs_replica_queue_key(n, n.barred, n.failed_nodes)"  # noqa: S608  our own names
        " FROM jobs_replica o CROSS JOIN LATERAL jsonb_populate_record(o, %(changed)s) n"
        " WHERE r.id = o.id AND o.state = 'queued' AND o.job_id IN (SELECT id FROM jobs_job WHERE label LIKE %(label)s)",
        {"changed": Jsonb(dict(changed)), "label": f"{label}-%"},
    )


def _node_register(running: RunningStack, owner: str, like: NodeHome) -> tuple[PortalClient, UUID]:
    """A second node of this owner, on the same machine, and its id."""
    token = join_token_decode(running.contributors[owner].join_token_mint())
    key = PrivateKey.generate()
    client = PortalClient(running.stack.origin, key)
    answer = client.register(
        RegistrationRequest(
            protocol_version=PROTOCOL_VERSION,
            join_token=token.secret,
            name=f"{owner}-second",
            public_key=key.public.to_base64(),
            profile=like.profile(),
        )
    )
    return client, answer.node_id


def _order_seconds(client: PortalClient, wishes: Wishes) -> float:
    message = ExchangeRequest(
        protocol_version=PROTOCOL_VERSION,
        request_id=uuid4(),
        session_id=_SESSION,
        wait_seconds=0,
        queues=(Tier.CPU,),
        free=FreeResources(slots=1, cpus=8, memory_bytes=2**35, disk_bytes=2**40),
        wishes=wishes,
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
    rows = database.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND is_generated = 'NEVER'", [table]
    ).fetchall()
    return ", ".join(sorted({f'"{name}"' for (name,) in rows} - {f'"{name}"' for name in but}))
