"""The ledger's pages: public, nameless, with proofs that hold."""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from ledger.checkpoints import checkpoint_publish
from ledger.items import ConcludedReceipt, node_key_log, receipts_log, spot_commitment_log
from ledger.models import LogLeaf
from ledger.services import account_of, grant_post
from ledger.views import PAGE_ENTRIES
from tests.factories.ledger import account_make, entries_make
from tests.factories.people import user_make
from tests.workers.protocol import vector_story as story
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import inclusion_verify, leaf_hash
from workers.protocol.strict_base64 import base64_decode


def text_of(path: str) -> str:
    response = Client().get(path)
    assert response.status_code == 200
    return str(response.content.decode())


@pytest.mark.django_db
def test_an_empty_ledger_says_what_comes_first() -> None:
    assert "The first researcher who is approved gets a grant" in text_of("/ledger/")


@pytest.mark.django_db
def test_newest_entries_come_first_and_older_ones_follow() -> None:
    entries_make(PAGE_ENTRIES + 2)
    checkpoint_publish()
    first = text_of("/ledger/")
    places = [int(place) for place in re.findall(r'href="/ledger/(\d+)/"', first)]
    assert places == list(range(PAGE_ENTRIES + 1, 1, -1))
    assert 'href="?before=2"' in first
    second = text_of("/ledger/?before=2")
    assert re.findall(r'href="/ledger/(\d+)/"', second) == ["1", "0"]
    assert "Older leaves" not in second
    assert "There is nothing below 0." in text_of("/ledger/?before=0")


@pytest.mark.django_db
@pytest.mark.parametrize("before", ["-1", "nonsense", "9" * 30, "1e3", "²", ""])
def test_a_strange_place_starts_at_the_newest(before: str) -> None:
    entries_make(1)
    checkpoint_publish()
    assert "Newest leaves" in Client().get("/ledger/", {"before": before}).content.decode()


@pytest.mark.django_db
def test_the_proof_on_an_entrys_page_verifies() -> None:
    entries_make(5)
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    text = text_of("/ledger/3/")
    block = text.split("inclusion proof, ")[1].split("<pre")[1].split(">", 1)[1].split("</pre>")[0]
    proof = [base64_decode(line) for line in block.split()]
    leaf = bytes(LogLeaf.objects.get(index=3).item.data)
    inclusion_verify(leaf_hash(leaf), 3, checkpoint.size, proof, bytes(checkpoint.root))
    assert checkpoint.note.splitlines()[2] in text


@pytest.mark.django_db
@pytest.mark.parametrize("index", [5, 2**62, 10**30])
def test_entries_that_are_not_there_answer_404(index: int) -> None:
    entries_make(5)
    checkpoint_publish()
    assert Client().get(f"/ledger/{index}/").status_code == 404


@pytest.mark.django_db
def test_leaves_that_move_no_credits_have_their_rows_and_pages() -> None:
    account, number = account_make(), uuid.uuid4()
    node_key_log(node_id=number, key=PrivateKey.generate().public, account=account)
    spot_commitment_log(spot_key_id=number, secret=bytes(32))
    receipt = ConcludedReceipt(number, number, digest_of(b""), story.receipt_completed(), accepted=False, quorum=2, spot=None)
    receipts_log([receipt])
    checkpoint_publish()
    listed = text_of("/ledger/")
    for kind in ("node key", "spot commitment", "receipt"):
        assert f"<td>{kind}</td>" in listed
    pages = [text_of(f"/ledger/{index}/") for index in range(3)]
    for page, title in zip(pages, ("node key", "spot commitment", "receipt"), strict=True):
        assert re.search(rf"<h1>Leaf \d: {title}</h1>", page)
        assert "Postings" not in page
        assert "inclusion proof" in page
    assert "not accepted" in pages[2]


@pytest.mark.django_db
def test_no_name_is_shown_and_reasons_are_text() -> None:
    user = user_make("rosalind-the-first")
    grant_post(to=account_of(user=user), amount_micro=5, reason="<script>alert(1)</script>", idempotency_key="x")
    checkpoint_publish()
    for path in ("/ledger/", "/ledger/0/"):
        text = text_of(path)
        assert "rosalind" not in text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


@pytest.mark.django_db
def test_statements_do_not_grow_with_entries(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    entries_make(20)
    checkpoint_publish()
    with django_assert_max_num_queries(5):
        Client().get("/ledger/")
    with django_assert_max_num_queries(4 + 5 * 3):  # a proof among 20 leaves has 5 hashes, each read from its tiles
        Client().get("/ledger/7/")
