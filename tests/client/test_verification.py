"""The offline verifier: a real bundle is accepted; every byte that somebody changed, and garbage, is refused; others can check it too."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as OtherVerificationError
from securesystemslib.signer._key import SSlibKey

from client.verification import CoordinatorWrongError, bundle_verify
from tests.client import bundle_parts as parts
from tests.client.bundle_parts import ALL_MEMBERS, COORDINATOR, NODES, PINNED, SIGNED_MEMBERS, Members, Run, flipped, refusal
from workers.protocol.archives import ArchiveLimits, ArchiveRefusedError, archive_check
from workers.protocol.bundles import INDEX_NAME, SEAL_NAME, BundleInvalidError, index_parse
from workers.protocol.canonical import canonical_json
from workers.protocol.compute_log import LogRefusedError
from workers.protocol.dsse import pae
from workers.protocol.errors import (
    DigestMismatchError,
    EnvelopeMalformedError,
    KeyMalformedError,
    KeyWrongError,
    SignatureInvalidError,
    VerificationError,
)
from workers.protocol.strict_base64 import base64_decode

CHECKOUT = Path(__file__).resolve().parents[2]
HOST_PYTHON = CHECKOUT / ".venv-host" / "bin" / "python"


def test_real_bundle_is_accepted_and_reported(tmp_path: Path, members: Members, runs: list[Run]) -> None:
    report = bundle_verify(parts.zip_write(tmp_path / "b.zip", members), coordinator_key_id=PINNED)
    assert (report.job_id, report.label, report.quorum) == (str(parts.JOB_ID), "sum-1", 2)
    assert (report.files, report.size_bytes, report.checkpoint_size) == (2, len(runs[0].archive), 5)
    assert [replica.node_key_id for replica in report.replicas] == [key.public.key_id for key in NODES]
    assert [replica.canonical for replica in report.replicas] == [True, False]
    assert [replica.paid_micro for replica in report.replicas] == [parts.PAID_MICRO] * 2
    assert report.result_digest == report.replicas[0].result_digest


def test_result_larger_than_archives_are_by_default_is_accepted_with_the_size_that_its_receipt_states(
    tmp_path: Path, members: Members, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs may have larger outputs than a reader takes by itself."""
    monkeypatch.setattr(archive_check, "__kwdefaults__", {"limits": ArchiveLimits(content_bytes=1)})
    report = bundle_verify(parts.zip_write(tmp_path / "b.zip", members), coordinator_key_id=PINNED)
    assert report.size_bytes == len(runs[0].archive)


# --- one byte ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [INDEX_NAME, *ALL_MEMBERS])
def test_one_changed_byte_in_any_member_is_refused_without_the_coordinators_help(tmp_path: Path, members: Members, name: str) -> None:
    """The ZIP's own checksums are made right again, so it is not they that refuse. The index included: all that it says is sealed."""
    data = members[name]
    for position in range(0, len(data), max(1, len(data) // 40)):
        changed = {**members, name: flipped(data, position, 0x01 if position % 2 else 0x20)}
        assert isinstance(refusal(tmp_path, changed), VerificationError), position


@pytest.mark.parametrize("name", [*SIGNED_MEMBERS, "replica-1/archive.tar"])
def test_one_changed_byte_is_refused_by_what_the_nodes_signed_even_if_sealed_again(tmp_path: Path, members: Members, name: str) -> None:
    """Here the coordinator itself signs over the change: then the node's signature, the chain and the manifest refuse it."""
    data = members[name]
    for position in range(0, len(data), max(1, len(data) // 40)):
        changed = parts.sealed({**members, name: flipped(data, position, 0x01 if position % 2 else 0x80)})
        assert isinstance(refusal(tmp_path, changed), VerificationError), position


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_any_member_is_refused(tmp_path: Path, members: Members, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ALL_MEMBERS))
    position = data.draw(st.integers(0, len(members[name]) - 1))
    mask = data.draw(st.integers(1, 255))
    changed: Members = {**members, name: flipped(members[name], position, mask)}
    if name != SEAL_NAME and data.draw(st.booleans()):
        changed = parts.sealed(changed)
    refusal(tmp_path, changed)


@pytest.mark.parametrize("which", ["coordinator_public_key", "node_public_key"])
def test_one_changed_character_of_a_key_is_refused_even_if_sealed_again(tmp_path: Path, members: Members, which: str) -> None:
    text = COORDINATOR.public.to_base64() if which.startswith("coordinator") else NODES[0].public.to_base64()
    for position in range(len(text)):
        replacement = "A" if text[position] != "A" else "B"

        def change(index: dict[str, Any], position: int = position, replacement: str = replacement) -> None:
            target = index if which == "coordinator_public_key" else index["replicas"][0]
            target[which] = text[:position] + replacement + text[position + 1 :]

        error = refusal(tmp_path, parts.index_changed(members, change))
        assert isinstance(error, KeyMalformedError | CoordinatorWrongError | KeyWrongError | BundleInvalidError), position


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("replica-1/archive.tar", ArchiveRefusedError),
        ("replica-1/log.jsonl", LogRefusedError),
        ("replica-2/log.jsonl", LogRefusedError),
    ],
)
def test_content_changed_under_a_fresh_seal_gets_its_own_error(
    tmp_path: Path, members: Members, name: str, expected: type[VerificationError]
) -> None:
    middle = len(members[name]) // 3
    assert isinstance(refusal(tmp_path, parts.sealed({**members, name: flipped(members[name], middle, 1)})), expected)
    assert isinstance(refusal(tmp_path, {**members, name: flipped(members[name], middle, 1)}), DigestMismatchError)


@pytest.mark.parametrize("name", ["replica-1/order.json", "replica-1/receipt.json", SEAL_NAME])
def test_changed_payload_or_signature_is_an_invalid_signature(tmp_path: Path, members: Members, name: str) -> None:
    for field in ("payload", "signature"):
        envelope = json.loads(members[name])
        if field == "payload":
            envelope["payload"] = ("A" if envelope["payload"][0] != "A" else "B") + envelope["payload"][1:]
        else:
            text = envelope["signatures"][0]["sig"]
            envelope["signatures"][0]["sig"] = ("A" if text[0] != "A" else "B") + text[1:]
        changed = {**members, name: canonical_json(envelope)}
        assert isinstance(refusal(tmp_path, changed if name == SEAL_NAME else parts.sealed(changed)), SignatureInvalidError)


@pytest.mark.parametrize("name", ["replica-1/order.json", "replica-1/receipt.json"])
def test_envelope_in_another_spelling_is_refused(tmp_path: Path, members: Members, name: str) -> None:
    """White space in JSON is not signed: without this rule it could be changed unseen."""
    changed = parts.sealed({**members, name: json.dumps(json.loads(members[name])).encode()})
    assert "canonical" in str(refusal(tmp_path, changed))


# --- garbage -------------------------------------------------------------------------------------------------------------


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_index_of_any_shape_raises_nothing_else(tmp_path: Path, members: Members, data: st.DataObject) -> None:
    """One value of the index replaced by any JSON, and sealed: nothing but the documented errors."""

    def change(index: dict[str, Any]) -> None:
        targets = [index, index["job"], index["ledger"], index["replicas"][0], index["replicas"][0]["payment"]]
        target = data.draw(st.sampled_from(targets))
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(_json)

    with contextlib.suppress(VerificationError):
        bundle_verify(parts.zip_write(tmp_path / "b.zip", parts.index_changed(members, change)), coordinator_key_id=PINNED)


@pytest.mark.parametrize("member", [*SIGNED_MEMBERS, "replica-1/archive.tar", SEAL_NAME])
@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000])
def test_member_that_is_something_else_is_refused(tmp_path: Path, members: Members, member: str, content: bytes) -> None:
    changed = {**members, member: content}
    refusal(tmp_path, changed if member == SEAL_NAME else parts.sealed(changed))


@pytest.mark.parametrize("unknown", [{"surplus": 1}, {"bundle_version": 2}, {"replicas": []}])
def test_index_with_unknown_or_impossible_members_is_refused(members: Members, unknown: dict[str, Any]) -> None:
    with pytest.raises(BundleInvalidError):
        index_parse(canonical_json({**json.loads(members[INDEX_NAME]), **unknown}))


def test_envelope_of_another_form_is_malformed(tmp_path: Path, members: Members) -> None:
    assert isinstance(refusal(tmp_path, parts.sealed({**members, "replica-1/order.json": b"{}"})), EnvelopeMalformedError)


# --- others can check it too ----------------------------------------------------------------------------------------------


def test_host_environment_without_django_verifies(tmp_path: Path, members: Members) -> None:
    """In the environment of a host, where there is no Django at all, through the command that a researcher types."""
    path = parts.zip_write(tmp_path / "b.zip", members)
    without = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in ('django', 'rest_framework', 'psycopg')))"
    assert subprocess.run([HOST_PYTHON, "-c", without], check=False).returncode == 0
    command = [str(HOST_PYTHON), "-m", "client", "verify", str(path), "--coordinator", PINNED]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified sum-1" in done.stdout
    parts.zip_write(path, {**members, "replica-1/archive.tar": flipped(members["replica-1/archive.tar"], 700, 1)})
    refused = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "digest_mismatch" in refused.stderr) == (1, True)


def test_verification_imports_no_server_code(tmp_path: Path, members: Members) -> None:
    """Also where Django is installed: importing it, or an app, is made to fail."""
    path = parts.zip_write(tmp_path / "b.zip", members)
    program = (
        "import sys\n"
        "for name in ('django', 'rest_framework', 'channels', 'psycopg', 'redis', 'jobs', 'nodes', 'people', 'ledger', 'nexaportal'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from client.verification import bundle_verify\n"
        "print(bundle_verify(Path(sys.argv[1]), coordinator_key_id=sys.argv[2]).label)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path), PINNED], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sum-1\n"), done.stderr


@pytest.mark.parametrize("name", ["replica-1/receipt.json", "replica-2/receipt.json", "replica-1/order.json", SEAL_NAME])
def test_envelopes_verify_with_securesystemslib_alone(tmp_path: Path, members: Members, name: str) -> None:
    path = parts.zip_write(tmp_path / "b.zip", members)
    with zipfile.ZipFile(path) as bundle:
        document = json.loads(bundle.read(name))
        index = json.loads(bundle.read(INDEX_NAME))
    is_receipt = name.endswith("receipt.json")
    text = index["replicas"][int(name[8]) - 1]["node_public_key"] if is_receipt else index["coordinator_public_key"]
    key_id = document["signatures"][0]["keyid"]
    public = base64_decode(text).hex()
    key = SSlibKey.from_dict(key_id, {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
    envelope = Envelope.from_dict(json.loads(json.dumps(document)))
    assert set(envelope.verify([key], 1)) == {key_id}
    assert envelope.pae() == pae(envelope.payload, document["payloadType"])
    envelope.payload = envelope.payload[:-1] + b" "
    with pytest.raises(OtherVerificationError):
        envelope.verify([key], 1)
