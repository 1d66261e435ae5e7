"""The golden vectors of what a run leaves behind, checked by tarfile, and by what is written here from the specifications:
the hash chain of a log, RFC 9162 and C2SP notes with hashlib and json only, pay with whole numbers only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import math
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from client.verification import bundle_verify
from tests.workers.protocol.vector_files import VECTORS, decoded, ed25519_check, sha256
from workers.protocol.archives import archive_check
from workers.protocol.compute_log import log_check
from workers.protocol.errors import VerificationError

# --- archive and log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "awkward"])
def test_tarfile_reads_the_archives_as_the_manifest_lists_them(name: str) -> None:
    vector = VECTORS["archive"][name]
    data = decoded(vector["archive_base64"])
    assert (sha256(data), len(data)) == (vector["archive"]["digest"], vector["archive"]["size_bytes"])
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            assert (member.isreg(), member.mode, member.uid, member.gid, member.mtime) == (True, 0o644, 0, 0, 0)
            assert (member.uname, member.gname, member.linkname) == ("", "", "")
            stream = archive.extractfile(member)
            assert stream is not None
            contents[member.name] = stream.read()
    *outputs, last = contents
    assert last == "manifest.json"
    assert outputs == sorted(outputs, key=str.encode)
    assert {name.removeprefix("outputs/"): content for name, content in contents.items() if name != last} == {
        path: decoded(content) for path, content in vector["files_base64"].items()
    }
    assert contents[last].decode() == vector["manifest_text"]
    assert sha256(contents[last]) == vector["result_digest"]
    assert vector["manifest"] == {
        "manifest_version": 1,
        "files": [
            {"path": one.removeprefix("outputs/"), "digest": sha256(contents[one]), "size_bytes": len(contents[one])} for one in outputs
        ],
    }
    assert archive_check(io.BytesIO(data)).result_digest == vector["result_digest"]


def test_the_log_is_a_chain_from_the_order_to_the_head() -> None:
    vector = VECTORS["log"]
    data = vector["text"].encode()
    previous = vector["order_digest"]
    lines = [json.loads(line) for line in data.splitlines()]
    for number, (line, raw) in enumerate(zip(lines, data.split(b"\n"), strict=False)):
        assert (line["seq"], line["previous"]) == (number, previous)
        previous = sha256(raw)
    assert [line["kind"] for line in lines] == ["start", "event", "event", "stdout", "sample", "stderr", "stderr", "end"]
    assert vector["reference"] == {"digest": sha256(data), "size_bytes": len(data), "head": previous, "lines": len(lines)}
    summary = log_check(io.BytesIO(data), order_digest=vector["order_digest"], head=previous, lines_expected=len(lines))
    assert summary.digest == sha256(data)


# --- ledger -----------------------------------------------------------------------------------------------------------


def _root(hashes: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it is written there: by halves, recursively."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    middle = 2 ** math.ceil(math.log2(len(hashes)) - 1)
    return hashlib.sha256(b"\x01" + _root(hashes[:middle]) + _root(hashes[middle:])).digest()


def _proof_root(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    """RFC 9162, section 2.1.3.2, step by step; None where it says to fail."""
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return None
        if fn % 2 == 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn // 2, sn // 2
    return r if sn == 0 else None


def _is_consistent(old: int, new: int, proof: list[bytes], old_root: bytes, new_root: bytes) -> bool:
    """RFC 9162, section 2.1.4.2, for 0 < old < new."""
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    fn, sn = old - 1, new - 1
    while fn % 2 == 1:
        fn, sn = fn // 2, sn // 2
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            fr, sr = hashlib.sha256(b"\x01" + c + fr).digest(), hashlib.sha256(b"\x01" + c + sr).digest()
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            sr = hashlib.sha256(b"\x01" + sr + c).digest()
        fn, sn = fn // 2, sn // 2
    return fr == old_root and sr == new_root and sn == 0


def test_the_merkle_vectors_verify_by_the_algorithms_of_rfc_9162() -> None:
    vector = VECTORS["merkle"]
    hashes = [hashlib.sha256(b"\x00" + leaf.encode()).digest() for leaf in vector["leaves"]]
    roots = [bytes.fromhex(root) for root in vector["roots"]]
    assert [one.hex() for one in hashes] == vector["leaf_hashes"]
    assert roots == [_root(hashes[:size]) for size in range(len(hashes) + 1)]
    for case in vector["inclusion"]:
        proof = [bytes.fromhex(one) for one in case["proof"]]
        assert _proof_root(hashes[case["index"]], case["index"], case["size"], proof) == roots[case["size"]]
        assert _proof_root(hashes[case["index"] - 1], case["index"], case["size"], proof) != roots[case["size"]] or case["size"] == 1
    for case in vector["consistency"]:
        old, new, proof = case["old"], case["new"], [bytes.fromhex(one) for one in case["proof"]]
        if old in {0, new}:
            assert proof == []
        else:
            assert _is_consistent(old, new, proof, roots[old], roots[new])
            assert not _is_consistent(old, new, proof, roots[old - 1], roots[new])


def test_the_checkpoint_is_a_note_that_go_s_rules_accept() -> None:
    vector, key = VECTORS["ledger"]["checkpoint"], VECTORS["keys"]["coordinator"]
    text, _, signature_line = vector["note"].rpartition("\n\n")
    origin, size, root = text.split("\n")
    hashes = [bytes.fromhex(one) for one in VECTORS["ledger"]["leaf_hashes"]]
    assert (origin, int(size)) == ("portal.example/ledger", len(hashes))
    assert decoded(root) == _root(hashes) == bytes.fromhex(vector["root"])
    dash, name, encoded = signature_line.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", origin)
    key_hash = hashlib.sha256(origin.encode() + b"\n\x01" + decoded(key["public"])).digest()[:4]
    blob = decoded(encoded)
    assert blob[:4] == key_hash == bytes.fromhex(vector["key_hash"])
    ed25519_check(blob[4:], (text + "\n").encode(), decoded(key["public"]))
    key_text = base64.b64encode(b"\x01" + decoded(key["public"])).decode()
    assert vector["verifier_key"] == f"{origin}+{key_hash.hex()}+{key_text}"


def test_the_note_of_an_overlap_has_a_line_by_either_key() -> None:
    text, _, lines = VECTORS["ledger"]["checkpoint"]["overlap_note"].rpartition("\n\n")
    assert text == VECTORS["ledger"]["checkpoint"]["note"].rpartition("\n\n")[0]
    origin = text.split("\n")[0]
    for line, key in zip(lines.splitlines(), ("next_coordinator", "coordinator"), strict=True):
        public = decoded(VECTORS["keys"][key]["public"])
        blob = decoded(line.split(" ")[2])
        assert blob[:4] == hashlib.sha256(origin.encode() + b"\n\x01" + public).digest()[:4]
        ed25519_check(blob[4:], (text + "\n").encode(), public)


def test_the_statement_of_an_epoch_continues_a_beginning_of_what_was_published() -> None:
    vector, key = VECTORS["epoch"], VECTORS["keys"]["coordinator"]
    ed25519_check(decoded(vector["envelope"]["signatures"][0]["sig"]), decoded(vector["signed_bytes_base64"]), decoded(key["public"]))
    hashes = [bytes.fromhex(one) for one in VECTORS["ledger"]["leaf_hashes"]]
    continues = vector["payload"]["continues"]
    assert decoded(continues["root"]) == _root(hashes[: continues["size"]])
    published = vector["payload"]["published"].split("\n")
    assert decoded(published[2]) == _root(hashes[: int(published[1])])
    assert int(published[1]) > continues["size"]
    assert (continues["origin"], vector["payload"]["origin"]) == ("portal.example/ledger", "portal.example/ledger/2")


def test_the_spot_key_chooses_as_hmac_says_and_was_committed_to() -> None:
    leaves = {leaf["kind"]: leaf for leaf in VECTORS["ledger"]["leaves"]}
    secret = bytes.fromhex(leaves["spot_key"]["secret"])
    assert leaves["spot_commitment"]["commitment"] == "sha256:" + hashlib.sha256(secret).hexdigest()
    job = bytes.fromhex(leaves["receipt"]["job"].replace("-", ""))
    drawn = Fraction(int(hmac.new(secret, job, "sha256").hexdigest()[:16], 16), 2**64)
    assert {case["chosen"] for case in VECTORS["ledger"]["spot_choices"]} == {True, False}
    for case in VECTORS["ledger"]["spot_choices"]:
        assert case["chosen"] == (drawn < Fraction(case["share"]))


def test_the_receipt_in_the_log_is_the_one_that_was_signed() -> None:
    [leaf] = [leaf for leaf in VECTORS["ledger"]["leaves"] if leaf["kind"] == "receipt"]
    assert leaf["envelope"] == VECTORS["receipt"]["completed"]["envelope"]
    assert leaf["receipt"] == "sha256:" + hashlib.sha256(decoded(leaf["envelope"]["payload"])).hexdigest()


def test_tiles_have_the_paths_of_tlog_tiles() -> None:
    # The specification's own example: tile 1234067 is x001/x234/067.
    paths = {case["index"]: case["path"] for case in VECTORS["ledger"]["tile_paths"]}
    assert paths[1_234_067] == "tile/0/x001/x234/067"
    for index, path in paths.items():
        level, *groups = path.removeprefix("tile/").split("/")
        assert (level, int("".join(group.removeprefix("x") for group in groups))) == ("0", index)
        assert all(len(group.removeprefix("x")) == 3 for group in groups)


def test_leaves_tiles_and_the_payment_s_proof_belong_together() -> None:
    vector = VECTORS["ledger"]
    leaves = [text.encode() for text in vector["leaf_texts"]]
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    assert [one.hex() for one in hashes] == vector["leaf_hashes"]
    assert decoded(vector["tile_base64"]) == b"".join(hashes)
    bundle, found = decoded(vector["entry_bundle_base64"]), []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    assert found == leaves
    proof = vector["payment_proof"]
    assert decoded(proof["leaf"]) == leaves[proof["index"]]
    root = _proof_root(hashes[proof["index"]], proof["index"], len(leaves), [decoded(one) for one in proof["proof"]])
    assert root is not None
    assert root.hex() == vector["checkpoint"]["root"]


def test_every_entry_balances_and_the_payment_names_the_receipt_and_the_node() -> None:
    leaves = VECTORS["ledger"]["leaves"]
    assert all(sum(int(posting["amount_micro"]) for posting in leaf.get("postings", ())) == 0 for leaf in leaves)
    payment = next(leaf for leaf in leaves if leaf["kind"] == "payment")
    assert payment["evidence"]["receipt"] == VECTORS["receipt"]["completed"]["receipt_digest"]
    assert payment["evidence"]["node_key"] == VECTORS["keys"]["node"]["key_id"]


@pytest.mark.parametrize("case", VECTORS["ledger"]["formula"])
def test_pay_follows_from_whole_numbers_alone(case: dict[str, Any]) -> None:
    flops, flops_under = float(case["estimated_flops"]).as_integer_ratio()
    ratio, ratio_under = min(max(float(case["calibration_ratio"]), 0.25), 4.0).as_integer_ratio()
    rate = int(case["rate_micro"])
    under = flops_under * 3_600_000_000_000_000
    assert int(case["payment_micro"]) == max(1, flops * rate * ratio // (under * ratio_under))
    assert int(case["reservation_micro"]) == case["replicas_max"] * max(1, -(-flops * rate * 4 // under))


# --- bundle -----------------------------------------------------------------------------------------------------------


def _bundle(folder: Path, archive: str) -> Path:
    """The bundle that the vectors make up, with this one of the two archives, as a file."""
    members: dict[str, str | bytes] = {
        "bundle.json": VECTORS["bundle"]["index_text"],
        "replica-1/order.json": VECTORS["order"]["envelope_text"],
        "replica-1/receipt.json": VECTORS["receipt"]["completed"]["envelope_text"],
        "replica-1/log.jsonl": VECTORS["log"]["text"],
        "replica-1/archive.tar": decoded(VECTORS["archive"][archive]["archive_base64"]),
        "seal.json": VECTORS["bundle"]["seal"]["envelope_text"],
    }
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def test_the_vectors_make_up_a_bundle_that_verifies(tmp_path: Path) -> None:
    report = bundle_verify(_bundle(tmp_path, "plain"), coordinator_key_id=VECTORS["keys"]["coordinator"]["key_id"])
    assert report.result_digest == VECTORS["archive"]["plain"]["result_digest"]
    paid = max(
        int(posting["amount_micro"]) for posting in VECTORS["ledger"]["leaves"][VECTORS["ledger"]["payment_proof"]["index"]]["postings"]
    )
    assert [replica.paid_micro for replica in report.replicas] == [paid]
    assert report.checkpoint_size == len(VECTORS["ledger"]["leaves"])


def test_the_same_bundle_with_another_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"archive\.tar"):
        bundle_verify(_bundle(tmp_path, "awkward"), coordinator_key_id=VECTORS["keys"]["coordinator"]["key_id"])


def test_the_seal_names_every_member_by_the_digest_of_its_bytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(_bundle(tmp_path, "plain")) as bundle:
        found = {name: sha256(bundle.read(name)) for name in bundle.namelist() if name != "seal.json"}
    seal = VECTORS["bundle"]["seal"]["payload"]
    assert {subject["name"]: "sha256:" + subject["digest"]["sha256"] for subject in seal["subject"]} == found
    assert seal["predicateType"] == "https://nexapod.org/bundle/v1"
    assert seal["predicate"] == {"bundle_version": 1, "job": VECTORS["bundle"]["index"]["job"]["id"]}
