"""What came of the demo: read back from the portal and the bundle, checked, and shown as a table."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from client.terminal import plain
from devstack.following import credits_text


@dataclass(frozen=True)
class Outcome:
    """A completed job with what its owner, the hosts' owners and the public may see of it. `balances`: owner to millionths of a credit."""

    job: Mapping[str, Any]
    replicas: Sequence[Mapping[str, Any]]
    balances: Mapping[str, int]
    ledger: Mapping[str, Any]
    owners: Mapping[str, str]
    """Node name to its owner's name."""

    @property
    def reported(self) -> list[Mapping[str, Any]]:
        return [replica for replica in self.replicas if replica["result"] and replica["result"]["receipt_digest"]]

    @property
    def accepted(self) -> list[Mapping[str, Any]]:
        return [replica for replica in self.replicas if replica["state"] == "accepted"]


def faults_of(outcome: Outcome) -> list[str]:
    """What in the outcome is not as it should be, in words: expected, found."""
    faults: list[str] = []
    job, accepted = outcome.job, outcome.accepted
    if job["state"] != "completed":
        return [f"expected a completed job, found it {job['state']}: {job['failure_code']} {job['failure_message']}".rstrip()]
    owners = {outcome.owners.get(replica["node"]) for replica in accepted}
    if len(accepted) < job["quorum"] or len(owners) != len(accepted) or None in owners:
        faults.append(f"expected {job['quorum']} accepted replicas of as many owners, found {len(accepted)} of {len(owners)}")
    digests = [replica["result"]["result_digest"] for replica in accepted]
    if not all(digests):
        faults.append("expected a result digest of each accepted replica, found one without")
    if job["canonical_replica"] not in {replica["id"] for replica in accepted}:
        faults.append(f"expected the canonical replica among the accepted ones, found {job['canonical_replica']}")
    for owner, balance in outcome.balances.items():
        paid = sum(int(replica["result"]["paid_micro"]) for replica in accepted if outcome.owners.get(replica["node"]) == owner)
        if balance != paid:
            faults.append(
                f"expected {owner} to have the {credits_text(paid)} that were paid for accepted work, found {credits_text(balance)}"
            )
    if not any(outcome.balances.values()):
        faults.append("expected the accepted work to be paid, found every owner's balance at 0")
    return faults


def outcome_table(outcome: Outcome, *, origin: str, times: str) -> Table:
    """The outcome for people."""
    job, ledger = outcome.job, outcome.ledger
    table = Table.grid(padding=(0, 2, 0, 0))
    table.title, table.title_justify, table.title_style = plain(f"{job['job_id']}: {job['title']}"), "left", "bold"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # the longest, a digest, fits into 80 columns
    table.add_row("job", f"{job['id']}, {job['state']}")
    table.add_row("time", times)
    for replica in outcome.reported:
        result = replica["result"]
        is_canonical = replica["id"] == job["canonical_replica"]
        owner = outcome.owners.get(replica["node"], "an unknown owner")
        said = (
            f"{replica['state']}{', canonical' if is_canonical else ''}, verdict {result['verdict']}, {credits_text(result['paid_micro'])}"
        )
        table.add_row("host", plain(f"{replica['node']} of {owner}: {said}"))
        table.add_row("result", str(result["result_digest"]))
    table.add_row("verdict", _verdict_text(job["verdict"] or {}))
    table.add_row("credits", ", ".join(f"{owner} {balance / 1e6:.6f}" for owner, balance in outcome.balances.items()))
    table.add_row(
        "ledger", f"{ledger['leaves']} entries, signed checkpoint over {ledger['checkpoint_size']} at {ledger['checkpoint_at'][:19]}Z"
    )
    table.add_row("portal", origin)
    return table


def payments_proved(bundle: Path) -> bool:
    """Whether every accepted replica's payment in the bundle is under its checkpoint."""
    with zipfile.ZipFile(bundle) as opened:
        index = json.loads(opened.read("bundle.json"))
    return all(replica["payment"] for replica in index["replicas"])


def replicas_text(replicas: Sequence[Mapping[str, Any]]) -> str:
    """Each replica in a line with what is known against it, for a demo that failed."""
    lines = []
    for replica in replicas:
        result = replica["result"] or {}
        failed = [f"{check['check']} {check['code']}" for check in result.get("evidence", []) if check["passed"] is False]
        why = f"{result.get('failure_code', '')} {result.get('failure_message', '')}".strip()
        parts = [str(result.get("verdict") or ""), why, *failed]
        lines.append(
            plain(f"replica {replica['id'][:8]} on {replica['node'] or 'no host'}: {replica['state']} {', '.join(filter(None, parts))}")
        )
    return "\n".join(lines)


def _verdict_text(verdict: Mapping[str, Any]) -> str:
    agreement = f"{verdict.get('agreeing')} of {verdict.get('reported')} replicas agree, quorum {verdict.get('quorum')}"
    match verdict.get("worst"):
        case {"difference": difference, "allowed": allowed}:
            return f"{agreement}; worst deviation {float(difference):.3g} of {float(allowed):.3g} allowed"
        case _:
            return f"{agreement}; no number differs"
