"""The public ledger over HTTP: what an auditor without any credential can fetch and check."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.core.cache import cache
from django.test import AsyncClient, Client

from ledger.checkpoints import checkpoint_publish, log_origin
from ledger.coordinator_key import coordinator_public_key
from ledger.models import LogLeaf
from tests.factories.ledger import entries_make
from workers.protocol import signed_note
from workers.protocol.merkle import consistency_verify, inclusion_verify, leaf_hash, tree_root
from workers.protocol.strict_base64 import base64_decode

BASE = "/api/v1/ledger"


@pytest.fixture
def log(db: None) -> list[bytes]:
    """Leaf hashes of a log with checkpoints of 3 and of 7 leaves."""
    cache.clear()
    entries_make(3)
    checkpoint_publish()
    entries_make(4)
    checkpoint_publish()
    return [leaf_hash(bytes(data)) for data in LogLeaf.objects.order_by("index").values_list("item__data", flat=True)]


def get(client: Client, path: str, **headers: str) -> Any:
    return client.get(f"{BASE}/{path}", headers=headers)


def problem_of(response: Any) -> tuple[int, str]:
    assert response["Content-Type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_checkpoint_is_a_signed_note_over_all_leaves(client: Client, log: list[bytes]) -> None:
    response = get(client, "checkpoint")
    assert response["Content-Type"].startswith("text/plain")
    text = signed_note.note_open(response.content, name=log_origin(), key=coordinator_public_key())
    assert signed_note.Checkpoint.from_text(text) == signed_note.Checkpoint("testserver/ledger", 7, tree_root(log))


@pytest.mark.django_db
def test_checkpoint_of_an_empty_log_is_beyond_it(client: Client) -> None:
    assert problem_of(get(client, "checkpoint")) == (404, "ledger_beyond_log")


@pytest.mark.parametrize("accept", ["text/plain", "application/octet-stream", "image/png", "*/*"])
@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000.p/3", "entries", "export"])
def test_every_address_answers_whatever_accept_says(client: Client, log: list[bytes], accept: str, path: str) -> None:
    assert get(client, path, Accept=accept).status_code == 200


def test_a_wrong_credential_does_not_keep_anybody_out(client: Client, log: list[bytes]) -> None:
    assert get(client, "checkpoint", Authorization="Bearer nonsense").status_code == 200


def test_entries_come_in_pages_that_join_up(client: Client, log: list[bytes]) -> None:
    found, after = [], "-1"
    for _ in range(4):
        page = get(client, f"entries?after={after}&limit=3").json()
        found += [entry["index"] for entry in page["entries"]]
        if page["next_after"] is None:
            break
        after = str(page["next_after"])
    assert found == list(range(7))
    entry = get(client, "entries").json()["entries"][0]
    assert set(entry) == {"index", "entry", "kind", "key", "at", "evidence", "postings"}
    assert all(isinstance(posting["amount_micro"], str) for posting in entry["postings"])


def test_export_lines_hash_to_the_leaves(client: Client, log: list[bytes]) -> None:
    lines = get(client, "export").getvalue().splitlines()
    assert [leaf_hash(line) for line in lines] == log
    assert all(json.loads(line)["kind"] == "grant" for line in lines)


async def test_export_streams_asynchronously_under_asgi(own_database: str, async_client: AsyncClient) -> None:
    def fill() -> None:
        entries_make(3)
        checkpoint_publish()

    await database_sync_to_async(fill)()
    response: Any = await async_client.get(f"{BASE}/export")
    assert response.is_async
    data = b"".join([chunk async for chunk in response.streaming_content])
    assert [json.loads(line)["kind"] for line in data.splitlines()] == ["grant"] * 3


def test_inclusion_proofs_verify_under_every_checkpoint(client: Client, log: list[bytes]) -> None:
    for size in (3, 7):
        for index in range(size):
            proof = [base64_decode(one) for one in get(client, f"proof/inclusion?index={index}&size={size}").json()["proof"]]
            inclusion_verify(log[index], index, size, proof, tree_root(log[:size]))


def test_consistency_proofs_verify_between_checkpoints(client: Client, log: list[bytes]) -> None:
    for old, new in pairwise((0, 3, 7, 7)):
        proof = [base64_decode(one) for one in get(client, f"proof/consistency?old={old}&new={new}").json()["proof"]]
        consistency_verify(old, new, proof, tree_root(log[:old]), tree_root(log[:new]))


def test_tiles_are_hashes_and_entry_bundles_the_entries(client: Client, log: list[bytes]) -> None:
    response = get(client, "tile/0/000.p/7")
    assert response.content == b"".join(log)
    assert "immutable" not in response["Cache-Control"]
    bundle = get(client, "tile/entries/000.p/2").content
    length = int.from_bytes(bundle[:2], "big")
    assert leaf_hash(bundle[2 : 2 + length]) == log[0]
    assert leaf_hash(bundle[4 + length :]) == log[1]


@pytest.mark.parametrize(
    "query",
    [
        "entries?after=-2",
        "entries?after=x",
        "entries?after=",
        "entries?after=--1",
        "entries?limit=0",
        "entries?limit=1001",
        "entries?limit=-1",
        "entries?limit=1e3",
        "entries?limit=%D9%A3",
        "entries?after=99999999999999999999",
        "proof/inclusion",
        "proof/inclusion?index=1",
        "proof/inclusion?size=1",
        "proof/inclusion?index=3&size=3",
        "proof/inclusion?index=0&size=0",
        "proof/inclusion?index=-1&size=3",
        "proof/consistency?old=2&new=1",
        "proof/consistency?old=2",
        "proof/consistency?old=&new=",
    ],
)
def test_query_that_is_no_number_in_range_is_named(client: Client, log: list[bytes], query: str) -> None:
    assert problem_of(get(client, query)) == (400, "ledger_query_invalid")


@pytest.mark.parametrize(
    "path",
    [
        "proof/inclusion?index=7&size=8",
        "proof/inclusion?index=0&size=4611686018427387904",
        "proof/consistency?old=0&new=8",
        "tile/0/000.p/8",
        "tile/0/000",
        "tile/1/000.p/1",
        "tile/7/000.p/1",
        "tile/0/001.p/1",
        "tile/0/x999/x999/x999/x999/x999/999",
        "tile/7/x999/x999/x999/x999/x999/999",
        "tile/entries/000.p/8",
        "tile/entries/x999/x999/x999/x999/x999/999",
        "tile/0/x000/000",
        "tile/0/0.00",
    ],
)
def test_what_the_log_does_not_reach_is_beyond_it(client: Client, log: list[bytes], path: str) -> None:
    assert problem_of(get(client, path)) == (404, "ledger_beyond_log")


@pytest.mark.parametrize("path", ["checkpoint", "entries", "export", "proof/inclusion", "proof/consistency", "tile/0/000.p/1"])
def test_nobody_writes_through_the_public_addresses(client: Client, log: list[bytes], path: str) -> None:
    for method in ("post", "put", "patch", "delete"):
        assert getattr(client, method)(f"{BASE}/{path}").status_code == 405
