"""The log as a table."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import uuid
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.test import AsyncClient, Client
from django.utils import timezone

from ledger import exports
from ledger.checkpoints import checkpoint_publish
from ledger.items import node_key_log
from ledger.models import LogLeaf
from ledger.selectors import Leaf
from tests.factories.ledger import account_make, entries_make, items_insert
from workers.protocol.keys import PrivateKey

PATH = "/api/v1/ledger/export.csv"


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.mark.django_db
def test_each_posting_of_the_log_is_a_row(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE_LEAVES", 2)
    account = account_make(5)
    entries_make(4)
    node_key_log(node_id=uuid.uuid4(), key=PrivateKey.generate().public, account=account)
    checkpoint_publish()
    response = client.get(PATH)
    assert response["Content-Type"].startswith("text/csv")
    found = rows(response.getvalue())
    expected = [
        {
            "index": str(leaf.index),
            "at": document["at"],
            "kind": document["kind"],
            "key": document["key"],
            "account": posting["account"],
            "amount_micro": posting["amount_micro"],
        }
        for leaf in LogLeaf.objects.order_by("index").select_related("item")
        for document in [json.loads(bytes(leaf.item.data))]
        for posting in document.get("postings", ())
    ]
    assert len(expected) == 2 * 5
    assert found == expected


@pytest.mark.django_db
def test_an_empty_log_has_names_of_columns_only(client: Client) -> None:
    assert client.get(PATH).getvalue() == b"index,at,kind,key,account,amount_micro\r\n"


@pytest.mark.parametrize("key", ["=1+1", "@SUM(A1)", "+1", "-1", "\t=1", " \r\n=1", "|x", "%x"])
def test_a_key_that_a_spreadsheet_would_run_is_text(key: str) -> None:
    postings = [{"account": str(uuid.uuid4()), "amount_micro": "-1"}]
    document = {"at": timezone.now().isoformat(), "kind": "grant", "key": key, "postings": postings}
    [row] = rows(exports.csv_rows([Leaf(0, json.dumps(document).encode())]))
    assert row["key"] == f"'{key}"
    assert row["amount_micro"] == "-1"  # a number, and meant as one


@pytest.mark.parametrize("key", ["grant:=1", 'a,"b"\r\nc', "grant:start:x"])
def test_other_keys_stay_as_they_are(key: str) -> None:
    document = {"at": "", "kind": "grant", "key": key, "postings": [{"account": "a", "amount_micro": "1"}]}
    [row] = rows(exports.csv_rows([Leaf(0, json.dumps(document).encode())]))
    assert row["key"] == key


async def test_it_streams_asynchronously_under_asgi(own_database: str, async_client: AsyncClient) -> None:
    def fill() -> None:
        entries_make(3)
        checkpoint_publish()

    await database_sync_to_async(fill)()
    response: Any = await async_client.get(PATH)
    assert response.is_async
    assert len(rows(b"".join([chunk async for chunk in response.streaming_content]))) == 6


@pytest.mark.django_db
@pytest.mark.parametrize("export", [exports.json_lines, exports.csv_rows])
def test_memory_is_that_of_a_page_however_long_the_log_is(export: Any) -> None:
    items_insert(6000)
    checkpoint_publish()
    pages = exports.pages(export)
    next(pages)
    tracemalloc.start()
    try:
        count = sum(1 for _ in pages)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5
    assert peak < 2**20
