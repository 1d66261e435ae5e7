"""A portal with a life behind it: people, nodes and jobs in every state, made by the product's own services on real archives.

What `make screenshots`, the page tests and a developer's look (`python -m tests.browser look`) have before them. Call it within
`LivePortal.database()`. Each area adds what its pages need, in a function of its own named here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from django.utils import timezone

from jobs.models import Job
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from ledger.services import account_of
from nodes.models import Node
from people.models import User
from people.services import researcher_approve
from people.transfers.services import credits_send
from tests.browser.scene_bank import wall_scene_make
from tests.browser.scene_jobs import jobs_add
from tests.browser.scene_live import live_make
from tests.browser.scene_moderation import moderation_make
from tests.browser.scene_nodes import nodes_furnish
from tests.browser.scene_results import FOLDING_FILES
from tests.browser.scene_submission import submission_scene_make
from tests.factories.checking import job_check
from tests.factories.jobs import credits_grant, image_approve, job_make
from tests.factories.nodes import node_make, profile_make
from tests.factories.people import second_factor_add, user_make
from tests.factories.receipts import replica_lease, replica_report
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.machine import Gpu

PASSWORD: Final = "custody-of-every-figure-9"
"""Of every person of the scene."""
SCIENCES: Final = ("protein-folding", "weather-ensemble", "surrogate-materials", "quantum-circuits")
_ROWS = "".join(f"{step},{-1400 - 9 * step**0.5:.3f},{300 + 4 * math.sin(step):.2f}\n" for step in range(120))
TABLE: Final = f"step,energy_kj_mol,temperature_k\n{_ROWS}".encode()
FILES: Final = {
    "energies.csv": TABLE,
    "summary.json": b'{"energy_kj_mol": -1471.2, "steps": 120, "converged": true}',
    "notes.txt": b"minimised, then run\n",
}
OTHER_FILES: Final = {**FILES, "energies.csv": TABLE.replace(b"-14", b"-99")}


@dataclass(frozen=True)
class Scene:
    """Who and what is there. Everybody signs in with PASSWORD."""

    researcher: User
    contributors: tuple[User, ...]
    moderator: User
    nodes: tuple[Node, ...]
    jobs: dict[str, Job]
    """By state: queued, leased, completed, disputed; folded, a completed one with files of every kind; and those of scene_jobs.py."""
    ids: dict[str, object]
    """Of what else a path of pages.py names."""

    @property
    def people(self) -> tuple[User, ...]:
        return (self.moderator, self.researcher, *self.contributors)

    def person(self, name: str) -> User:
        return next(user for user in self.people if user.username == name)

    def path(self, written: str) -> str:
        """A path of pages.py with the ids that it stands for."""
        ids = {state: job.pk for state, job in self.jobs.items()} | self.ids
        return written.format(node=self.nodes[0].pk, link=self.jobs["unlisted"].link_secret, **ids)


def scene_make() -> Scene:
    """Makes the whole scene, once a database."""
    moderator = second_factor_add(_person("grace", is_staff=True))
    researcher = _person("ada")
    researcher_approve(user=researcher, approved_by=moderator)
    credits_grant(researcher, 2_000_000_000)
    image_approve()
    submission_scene_make()
    contributors = tuple(_person(name) for name in ("lise", "emmy", "chien-shiung", "rosalind"))
    fleet = [_node(owner, place) for owner in contributors for place in range(2)]
    jobs = _jobs(researcher, fleet)
    jobs |= jobs_add(researcher, [pair for pair in fleet if pair[0].tier == "cpu"], FILES)
    taker = account_of(user=contributors[0]).pk
    credits_send(sender=researcher, account_id=taker, amount_micro=12_500_000, transfer_id=uuid4())
    checkpoint_publish()
    wall_scene_make(contributors, SCIENCES)
    live_make(researcher)
    nodes = tuple(node for node, _ in fleet)
    ids = {"account": taker} | nodes_furnish(nodes) | moderation_make(moderator, researcher, contributors[1:], (nodes[-1], nodes[-2]))
    return Scene(researcher, contributors, moderator, nodes, jobs, ids=ids)


def _person(name: str, **fields: bool) -> User:
    user = user_make(name, **fields)
    user.set_password(PASSWORD)
    user.save()
    return user


def _node(owner: User, place: int) -> tuple[Node, PrivateKey]:
    """A cpu node and a gpu node an owner; keys fixed, so that screenshots show the same glyphs."""
    key = PrivateKey.from_raw(hashlib.sha256(f"{owner.username}{place}".encode()).digest())
    seen = timezone.now() - timedelta(seconds=20 if owner.username != "rosalind" else 4000)
    if place:
        gpu = Gpu(index=0, uuid="GPU-1", name="NVIDIA GeForce RTX 4090", memory_bytes=24 * 10**9)
        profile, tier = profile_make(gpus=(gpu,), cores=16), "gpu-tier2"
    else:
        profile, tier = profile_make(cpu_model="AMD Ryzen 7 7700", benchmark_gflops=118.0), "cpu"
    return node_make(owner, key, name=f"{owner.username}-{'forge' if place else 'desk'}", profile=profile, tier=tier, last_seen_at=seen)


def _jobs(owner: User, fleet: list[tuple[Node, PrivateKey]]) -> dict[str, Job]:
    cpu = [pair for pair in fleet if pair[0].tier == "cpu"]
    jobs: dict[str, Job] = {}
    for number in range(9):
        jobs["completed"] = job = _job(owner, f"chignolin-{number:02}", SCIENCES[number % 4], **_copies(2))
        _report(job, cpu[number % 4], cpu[(number + 1) % 4])
    jobs["folded"] = job = _job(owner, "chignolin-annealed", SCIENCES[0], **_copies(2))
    _report(job, cpu[0], cpu[1], files=FOLDING_FILES)
    jobs["disputed"] = job = _job(owner, "trp-cage-quench", SCIENCES[0], **_copies(2))
    Job.objects.filter(pk=job.pk).update(replicas_max=2)
    _report(job, cpu[0], cpu[1], other=True)
    jobs["leased"] = job = _job(owner, "storm-track-07", SCIENCES[1])
    replica_lease(job, cpu[0][0])
    for number in range(3):
        jobs["queued"] = _job(owner, f"perovskite-scan-{number}", SCIENCES[2])
    return jobs


def _job(owner: User, label: str, science: str, **fields: object) -> Job:
    return job_make(owner, job_id=label, type=science, title=f"{science.replace('-', ' ').capitalize()}: {label}", **fields)


def _copies(copies: int) -> dict[str, object]:
    return {"verification": {"method": "numeric", "copies": copies, "quorum": copies}, "tolerance": 1e-5}


def _report(job: Job, *pairs: tuple[Node, PrivateKey], files: Mapping[str, bytes] = FILES, other: bool = False) -> None:
    """These nodes report the same files (`other`: the last one's differ); the job is checked and settled."""
    for place, (node, key) in enumerate(pairs):
        replica_report(job, OTHER_FILES if other and place else files, node=node, key=key)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
