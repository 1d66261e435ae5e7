"""docs/PROTOCOL.md against the code: every stable code is in its tables, nothing else is, and the server makes the documented bytes."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobs.checking.codes import CHECK_CRASHED, CHECK_EXCEEDED, CHECK_IMPOSSIBLE, EVIDENCE_FAULTS, NOT_CHECKED, RESULTS_DIFFER
from jobs.descriptor import arrays, consistency, parsing
from jobs.orders import order_sign
from ledger.items import ConcludedReceipt, node_key_log, receipts_log, spot_commitment_log, spot_key_log
from ledger.models import Account, AccountKind, Entry, LogItem, LogLeaf, Posting
from ledger.movements import entry_leaf
from ledger.tiles import entry_bundle, range_root, tile_hashes
from nexaportal.problems import problem_of
from tests.workers.protocol import make_vectors
from tests.workers.protocol import vector_ledger as books
from tests.workers.protocol import vector_story as story
from tests.workers.protocol.vector_examples import EXAMPLE, document_with_examples
from workers.protocol.errors import VerificationError
from workers.protocol.merkle import leaf_hash
from workers.protocol.messages.exchange import CommandKind, Stage
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode
from workers.protocol.problems import ProblemError
from workers.protocol.strict_base64 import base64_encode

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "jobs", "ledger", "nexaportal", "nodes", "people", "workers")
DOCUMENT = make_vectors.DOCUMENT.read_text(encoding="utf-8")
VECTORS = make_vectors.vectors()


def documented(table: str) -> dict[str, str]:
    """The first two columns of the table in the block `codes: <table>`, without their backticks; the second is "" where it holds words."""
    match = re.search(rf"<!-- codes: {table} -->\n(.*?)<!-- end -->", DOCUMENT, re.DOTALL)
    assert match is not None, f"docs/PROTOCOL.md has no block 'codes: {table}'"
    rows = [row.strip().strip("|").split("|") for row in match[1].splitlines() if row.startswith("| `")]
    codes = [row[0].strip().strip("`") for row in rows]
    assert len(set(codes)) == len(codes), f"a code stands twice in the table {table}"
    return {code: row[1].strip() for code, row in zip(codes, rows, strict=True)}


def errors_of(base: type[Exception]) -> Iterator[type[Any]]:
    """Every subclass of `base` in the packages, after importing each module that defines errors."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if re.search(r"^class \w+\(\w+Error\):", path.read_text(encoding="utf-8"), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    waiting = [base]
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        if found is not base and found.__module__.split(".")[0] in PACKAGES:
            yield found


def source_codes(pattern: str, *files: str) -> set[str]:
    """What the one group of `pattern` matches in these files; at least one in each."""
    found: set[str] = set()
    for file in files:
        here = set(re.findall(pattern, (ROOT / file).read_text(encoding="utf-8")))
        assert here, f"{file} has no {pattern!r} any more"
        found |= here
    return found


def test_the_table_of_problems_has_every_problem_of_the_code_with_its_status() -> None:
    found = {(error.code, str(error.status)) for error in errors_of(ProblemError)}
    assert len(found) == len(dict(found)), "one code has two statuses"
    assert documented("problems") == dict(found)


def test_the_table_of_verification_errors_has_every_one_of_the_code_with_its_status() -> None:
    expected = {}
    for error in errors_of(VerificationError):
        answer = problem_of(error("found"))
        assert answer is not None
        expected[error.code] = str(answer.status)
    assert documented("verification") == expected


def test_the_table_of_other_answers_has_every_code_of_the_error_mapping() -> None:
    text = (ROOT / "nexaportal" / "problems.py").read_text(encoding="utf-8")
    table = re.search(r"_CODES_BY_STATUS: Final = \{\n(.*?)\n\}", text, re.DOTALL)
    assert table is not None
    statuses = {code: status for status, code in re.findall(r'(\d{3}): "([a-z_]+)"', table[1])}
    assert statuses
    others = set(re.findall(r'code="([a-z_]+)"', text)) | set(re.findall(r'"([a-z_]+)" if status < 500', text))
    found = documented("answers")
    assert set(found) == statuses.keys() | others
    assert {code: found[code] for code in statuses} == statuses


def test_the_table_of_failures_has_every_failure_code() -> None:
    assert set(documented("failures")) == {code.value for code in FailureCode}


def test_the_table_of_no_work_has_every_code_that_matching_gives() -> None:
    codes = source_codes(r'(?:NoWork\(\s*code=|TAKEN: Final = )"([a-z_]+)"', "jobs/matching/no_work.py")
    assert set(documented("no_work")) == codes


def test_the_table_of_job_failures_has_every_code_that_ends_a_job() -> None:
    codes = source_codes(
        r'(?:job_(?:fail|close)|failure_add|_uphold_none)\([^)]*code="([a-z_]+)"',
        "jobs/services/disputes.py",
        "jobs/services/failures.py",
        "jobs/services/leases.py",
        "jobs/services/settlement.py",
        "jobs/services/submission.py",
    )
    assert set(documented("jobs")) == codes


def test_the_table_of_evidence_codes_has_each_with_its_fault() -> None:
    assert documented("evidence") == {code: fault.value if fault else "nobody" for code, fault in EVIDENCE_FAULTS.items()}


def test_every_error_of_evidence_is_a_verification_error() -> None:
    own = {NOT_CHECKED, CHECK_IMPOSSIBLE, CHECK_EXCEEDED, CHECK_CRASHED, RESULTS_DIFFER}
    assert EVIDENCE_FAULTS.keys() - own <= {error.code for error in errors_of(VerificationError)}


def test_the_table_of_descriptor_faults_has_every_code_of_the_parser() -> None:
    codes = set(parsing._CODES.values()) | {"wrong_type"}
    for module in (parsing, consistency, arrays):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Fault" and isinstance(node.args[1], ast.Constant):
                codes.add(str(node.args[1].value))
    assert set(documented("descriptor")) == codes


@pytest.mark.parametrize(("table", "values"), [("commands", CommandKind), ("stages", Stage), ("tiers", Tier)])
def test_the_tables_of_choices_have_every_choice(table: str, values: Any) -> None:
    assert list(documented(table)) == [value.value for value in values]


def test_the_server_signs_the_order_of_the_vectors_as_they_say() -> None:
    # tests/services.py gives the server the coordinator key of the vectors.
    envelope, digest = order_sign(story.order().order)
    assert envelope.decode() == VECTORS["order.json"]["envelope_text"]
    assert digest == VECTORS["order.json"]["order_digest"]


@pytest.mark.django_db
def test_the_ledger_writes_leaves_and_tiles_of_the_vectors_as_they_say() -> None:
    vector = VECTORS["ledger.json"]
    for account in (books.RESEARCHER, books.CONTRIBUTOR):
        Account.objects.create(pk=account, kind=AccountKind.PERSON)
    for index, leaf in enumerate(vector["leaves"]):
        number, at = index + 1, datetime.fromisoformat(leaf["at"])
        data = vector["leaf_texts"][index].encode()
        if "postings" in leaf:
            postings = {UUID(posting["account"]): int(posting["amount_micro"]) for posting in leaf["postings"]}
            assert leaf["entry"] == str(number)
            named = {"kind": leaf["kind"], "key": leaf["key"], "at": at, "evidence": leaf["evidence"]}
            assert entry_leaf(number=number, postings=postings, **named) == data
            entry = Entry.objects.create(
                pk=number, kind=leaf["kind"], idempotency_key=leaf["key"], evidence=leaf["evidence"], created_at=at
            )
            Posting.objects.bulk_create(Posting(entry=entry, account_id=one, amount_micro=micro) for one, micro in postings.items())
        item = LogItem.objects.create(pk=number, kind=leaf["kind"], key=leaf["key"], data=data, created_at=at)
        LogLeaf.objects.create(index=index, item=item, hash=leaf_hash(data))
    size = len(vector["leaves"])
    assert base64_encode(entry_bundle(0, size)) == vector["entry_bundle_base64"]
    assert base64_encode(b"".join(tile_hashes(0, 0, size))) == vector["tile_base64"]
    assert range_root(0, size).hex() == vector["checkpoint"]["root"]


@pytest.mark.django_db
def test_the_ledger_logs_receipts_keys_and_spot_keys_of_the_vectors_as_they_say() -> None:
    account = Account.objects.create(pk=books.CONTRIBUTOR, kind=AccountKind.PERSON)
    node_key_log(node_id=story.NODE_ID, key=story.NODE.public, account=account)
    spot_commitment_log(spot_key_id=books.SPOT_KEY, secret=books.SPOT_SECRET)
    receipt = story.receipt_completed()
    digest = books.receipt_digest_of(receipt)
    concluded = ConcludedReceipt(story.JOB_ID, story.REPLICA_ID, digest, receipt, accepted=True, quorum=1, spot=None)
    receipts_log([concluded])
    spot_key_log(spot_key_id=books.SPOT_KEY, secret=books.SPOT_SECRET)
    expected = [leaf for leaf in VECTORS["ledger.json"]["leaves"] if "postings" not in leaf]
    found = LogItem.objects.order_by("pk")
    for item, leaf in zip(found, expected, strict=True):
        assert {**json.loads(bytes(item.data)), "at": leaf["at"]} == leaf
        assert (item.kind, item.key) == (leaf["kind"], leaf["key"])


def test_the_examples_of_the_document_are_taken_from_the_vectors() -> None:
    assert document_with_examples(DOCUMENT, VECTORS) == DOCUMENT
    shown = list(EXAMPLE.finditer(DOCUMENT))
    assert {match["file"] for match in shown} == set(VECTORS)
    assert DOCUMENT.count("<!-- example:") == len(shown)


def test_links_inside_the_document_lead_to_its_headings() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", DOCUMENT, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]*)\)", DOCUMENT))
    assert links
    assert links <= headings


def test_an_example_that_differs_from_its_vector_is_replaced() -> None:
    block = "before\n<!-- example: request.json#/exchange/method -->\n```text\nPUT\n```\n<!-- end -->\nafter"
    made = document_with_examples(block, VECTORS)
    assert made == block.replace("PUT", "POST")


def test_an_example_of_what_no_vector_has_is_an_error() -> None:
    with pytest.raises(KeyError):
        document_with_examples("<!-- example: request.json#/nothing -->\n<!-- end -->", VECTORS)
