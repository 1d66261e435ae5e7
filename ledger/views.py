"""Pages of the public ledger: for everybody, and nobody's name is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from ledger import selectors
from ledger.checkpoints import checkpoint_latest
from ledger.coordinator_key import coordinator_public_key
from ledger.selectors import Leaf
from ledger.succession import predecessors_of
from workers.protocol.digests import digest_of
from workers.protocol.keys import PublicKey
from workers.protocol.merkle import leaf_hash
from workers.protocol.strict_base64 import base64_encode

PAGE_ENTRIES: Final = 50
INDEX_MAX: Final = 2**62
CHECKS: Final = (
    ("leaf", "leaf", "Its bytes have the leaf hash."),
    ("fold", "proof", "The leaf hash, folded with the proof, gives a root."),
    ("root", "root", "It is the root of the checkpoint."),
    ("signature", "signature", "The coordinator's key signed the checkpoint."),
)
"""What static/ledger/proof.js checks, in this order: name, title, and what stands there until it has."""


@require_GET
def ledger_page(request: HttpRequest) -> HttpResponse:
    """Newest entries first, those below `before` if it is given; the checkpoint that covers them, and totals."""
    before = _index(request.GET.get("before", ""))
    page = selectors.leaves_newest(before=before, limit=PAGE_ENTRIES + 1)
    checkpoint = checkpoint_latest()
    context = {
        "entries": [_entry(leaf) for leaf in page[:PAGE_ENTRIES]],
        "next": page[PAGE_ENTRIES - 1].index if len(page) > PAGE_ENTRIES else None,
        "before": before,
        "checkpoint": checkpoint,
        "root": bytes(checkpoint.root).hex() if checkpoint else "",
        "totals": selectors.totals(),
        "coordinator_key_id": coordinator_public_key().key_id,
    }
    return render(request, "ledger/list.html", context)


@require_GET
def checkpoints_page(request: HttpRequest) -> HttpResponse:
    """Checkpoints, newest first, those below the id `before` if it is given; each with how many leaves it added."""
    before = _index(request.GET.get("before", ""))
    page = selectors.checkpoints_page(before=before, limit=PAGE_ENTRIES + 1)
    rows = [
        {
            "checkpoint": checkpoint,
            "root": bytes(checkpoint.root).hex(),
            "added": checkpoint.size - (page[place + 1].size if place + 1 < len(page) else 0),
        }
        for place, checkpoint in enumerate(page[:PAGE_ENTRIES])
    ]
    following = page[PAGE_ENTRIES - 1].pk if len(page) > PAGE_ENTRIES else None
    return render(request, "ledger/checkpoints.html", {"rows": rows, "next": following, "before": before, "keys": _coordinator_keys()})


@require_GET
def entry_page(request: HttpRequest, index: int) -> HttpResponse:
    """One entry, with the proof that it is in the log and what to check it with."""
    found = selectors.leaves_page(after=index - 1, limit=1) if index < INDEX_MAX else []
    if not found:
        raise Http404("There is no such entry in the log.")
    [leaf] = found
    checkpoint = selectors.checkpoint_at_least(size=index + 1)
    proof = selectors.inclusion_proof_of(index=index, size=checkpoint.size) if checkpoint else []
    context = {
        "entry": _entry(leaf),
        "data": leaf.data.decode("utf-8", "replace"),
        "leaf_hash": base64_encode(leaf_hash(leaf.data)),
        "checkpoint": checkpoint,
        "proof": [base64_encode(node) for node in proof],
        "keys": _coordinator_keys(),
        "checks": CHECKS,
    }
    return render(request, "ledger/entry.html", context)


def _entry(leaf: Leaf) -> dict[str, Any]:
    """What a row shows: the amount that moved is the sum of what was credited, None where the leaf is no movement."""
    document = selectors.leaf_document(leaf)
    evidence = document.get("evidence", document)
    amounts = [int(posting["amount_micro"]) for posting in document.get("postings", ())]
    return {
        **document,
        "evidence": {name: evidence.get(name) for name in ("job", "replica", "receipt", "node_key", "node", "spot_key")},
        "made_at": datetime.fromisoformat(document["at"]),
        "digest": digest_of(leaf.data),
        "moved_micro": sum(amount for amount in amounts if amount > 0) if amounts else None,
        "reason": evidence.get("reason", ""),
        "label": document["kind"].replace("_", " "),
    }


def _coordinator_keys() -> list[PublicKey]:
    """The coordinator's key, and those it had before, newest first: an old checkpoint is signed by an old one."""
    key = coordinator_public_key()
    return [key, *(PublicKey.from_base64(one.public_key) for one in reversed(predecessors_of(key)))]


def _index(text: str) -> int | None:
    """A place in the log, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
