"""The contributor's commands against a portal over HTTP."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.workers.homes import profile_make
from tests.workers.portal_fake import JOIN_SECRET, FakePortal
from tests.workers.portal_fake_http import RefusedError
from tests.workers.runtime.engines import engine_telling
from tests.workers.runtime.test_docker_profile import DOCKER, DOCKER_V1
from workers import cli
from workers.home import HomeExistsError, NodeHome
from workers.intent import IntentKind
from workers.intent_file import intent_read
from workers.joining import JoinRefusedError, coordinator_check, coordinator_key_check, node_join
from workers.keystore.interface import KeyPlace
from workers.keystore.plain_file import PlainFileStorage
from workers.portal import PortalProtocolError, PortalRefusedError, PortalUnreachableError
from workers.protocol.join_tokens import JoinTokenContent, join_token_encode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.joining import CoordinatorInfo
from workers.protocol.messages.machine import Tier

VERSION = DOCKER | {"ApiVersion": "1.41"}


def token_of(fake: FakePortal, **overrides: str) -> JoinTokenContent:
    values = {"portal": fake.origin, "coordinator": fake.key.public.key_id, "secret": JOIN_SECRET}
    return JoinTokenContent(**(values | overrides))


def invoke(home: NodeHome, *arguments: str, stdin: str | None = None) -> Result:
    command = {found.name: found for found in cli.COMMANDS}[arguments[0]]
    return CliRunner().invoke(command, arguments[1:], input=stdin, env={"NEXA_HOME": str(home.folder)})


def test_joining_writes_a_whole_home(portal: FakePortal, tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "new")
    token = token_of(portal)
    answer = node_join(home, token=token, coordinator=coordinator_check(token), name="garage", profile=profile_make())
    identity = home.identity()
    assert identity.portal == portal.origin
    assert identity.queues == (Tier.CPU,)
    assert identity.coordinator_key == portal.key.public.to_base64()
    assert home.key().public.key_id == answer.key_id == identity.key_id
    assert (home.folder / "key").stat().st_mode & 0o777 == 0o600
    assert home.profile() == profile_make()


def test_joining_again_is_refused_and_changes_nothing(home: NodeHome, portal: FakePortal) -> None:
    before = home.key().public
    token = token_of(portal)
    with pytest.raises(HomeExistsError, match="nexa leave"):
        node_join(home, token=token, coordinator=portal.key.public, name="x", profile=profile_make())
    assert home.key().public == before
    result = invoke(home, "join", join_token_encode(token))
    assert result.exit_code == 1
    assert "already holds a node" in result.output


def test_lost_answer_of_a_join_registers_the_same_key_again(portal: FakePortal, tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "new")
    token = token_of(portal)
    portal.outage = True
    with pytest.raises(PortalUnreachableError):
        node_join(home, token=token, coordinator=portal.key.public, name="x", profile=profile_make())
    key = PlainFileStorage(home.folder).read(KeyPlace.CURRENT)
    portal.outage = False
    node_join(home, token=token, coordinator=portal.key.public, name="x", profile=profile_make())
    assert home.identity().key_id == home.key().public.key_id == key.public.key_id


def test_portal_with_another_key_than_the_token_says_is_refused(portal: FakePortal, tmp_path: Path) -> None:
    token = token_of(portal, coordinator=PrivateKey.generate().public.key_id)
    with pytest.raises(JoinRefusedError, match="Do not go on"):
        coordinator_check(token)
    result = invoke(NodeHome(tmp_path / "new"), "join", join_token_encode(token))
    assert result.exit_code == 1
    assert not (tmp_path / "new").exists()


def test_portal_that_claims_the_fingerprint_for_another_key_is_refused(portal: FakePortal) -> None:
    wanted = portal.key.public.key_id
    other = PrivateKey.generate().public
    info = CoordinatorInfo(protocol_versions=(1,), origin=portal.origin, public_key=other.to_base64(), key_id=wanted)
    with pytest.raises(JoinRefusedError):
        coordinator_key_check(info, fingerprint=wanted)
    with pytest.raises(JoinRefusedError, match="can't be read"):
        coordinator_key_check(info.model_copy(update={"public_key": "AAAA"}), fingerprint=wanted)


def test_token_from_before_a_succession_joins_under_the_new_key(portal: FakePortal, tmp_path: Path) -> None:
    token, stranger = token_of(portal), token_of(portal, coordinator=PrivateKey.generate().public.key_id)
    portal.key_succeed()
    home = NodeHome(tmp_path / "new")
    node_join(home, token=token, coordinator=coordinator_check(token), name="garage", profile=profile_make())
    assert home.identity().coordinator_key == portal.key.public.to_base64()
    with pytest.raises(JoinRefusedError, match="Do not go on"):
        coordinator_check(stranger)
    portal.predecessors = (portal.predecessors[0].model_copy(update={"succession": {}}),)
    with pytest.raises(JoinRefusedError, match="can't be read"):
        coordinator_check(token)


def test_portal_of_another_protocol_is_refused(portal: FakePortal) -> None:
    key = portal.key.public
    info = CoordinatorInfo(protocol_versions=(7,), origin=portal.origin, public_key=key.to_base64(), key_id=key.key_id)
    with pytest.raises(JoinRefusedError, match="speaks protocol 7"):
        coordinator_key_check(info, fingerprint=key.key_id)


def test_registration_under_another_coordinator_key_joins_nothing(portal: FakePortal, tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "new")
    with pytest.raises(JoinRefusedError, match="another coordinator key"):
        node_join(home, token=token_of(portal), coordinator=PrivateKey.generate().public, name="x", profile=profile_make())
    assert not home.joined


def test_used_token_is_refused_by_the_portal(portal: FakePortal, tmp_path: Path) -> None:
    token = token_of(portal, secret="u" * 43)
    with pytest.raises(PortalRefusedError, match="join_token_unknown"):
        node_join(NodeHome(tmp_path / "new"), token=token, coordinator=portal.key.public, name="x", profile=profile_make())


def test_token_for_a_portal_without_tls_is_refused(tmp_path: Path, portal: FakePortal) -> None:
    result = invoke(NodeHome(tmp_path / "new"), "join", join_token_encode(token_of(portal, portal="http://portal.example.org")))
    assert result.exit_code == 1
    assert "must start with https://" in result.output


def test_machine_that_cannot_be_measured_is_told_with_the_reason(
    portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('no BLAS for this processor')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with engine_telling(DOCKER_V1, VERSION) as url:
        monkeypatch.setenv("DOCKER_HOST", url)
        for arguments in (("profile",), ("join", join_token_encode(token_of(portal)))):
            result = invoke(NodeHome(tmp_path / "new"), *arguments)
            told_check(result, "no BLAS for this processor")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("code", ["engine_limits_ignored", "host_below_floor"])
def test_machine_that_the_portal_will_not_have_is_told_with_the_reason(
    portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    portal.refusals["/api/v1/nodes"] = RefusedError(422, code, "More is needed.")
    with engine_telling(DOCKER_V1, VERSION) as url:
        monkeypatch.setenv("DOCKER_HOST", url)
        result = invoke(NodeHome(tmp_path / "new"), "join", join_token_encode(token_of(portal)))
    told_check(result, f"({code}): More is needed.")
    assert not NodeHome(tmp_path / "new").joined


def told_check(result: Result, why: str) -> None:
    assert result.exit_code == 1
    [line] = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert why in line
    assert isinstance(result.exception, SystemExit)  # click's, after printing: nothing escaped


@pytest.mark.parametrize("arguments", [("join", "nonsense"), ("status",), ("leave", "--yes"), ("worker",)])
def test_commands_tell_what_is_missing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = invoke(NodeHome(tmp_path / "nothing"), *arguments)
    assert result.exit_code == (78 if arguments == ("worker",) else 1)
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["status", "pause", "doctor", "worker"])
def test_home_of_another_user_is_told(home: NodeHome, command: str) -> None:
    for module in ("rich.status", "rich._emoji_codes"):  # imported when first needed, and this environment may be out of that user's reach
        importlib.import_module(module)
    home.folder.chmod(0)
    user_id = os.geteuid()
    try:
        if user_id == 0:
            os.seteuid(65534)  # root may read anything
        result = invoke(home, command)
    finally:
        os.seteuid(user_id)
        home.folder.chmod(0o700)
    told_check(result, "Run this as the user whose node it is")


def test_join_without_a_token(tmp_path: Path) -> None:
    assert invoke(NodeHome(tmp_path / "new"), "join").exit_code == 2


def test_worker_refuses_a_queue_before_it_starts(home: NodeHome) -> None:
    result = invoke(home, "worker", "--queues", "gpu-tier3")
    assert result.exit_code == 78
    assert "may not serve 'gpu-tier3'" in result.output


def test_leave_tells_the_portal_and_removes_the_key(home: NodeHome, portal: FakePortal) -> None:
    key_id = home.identity().key_id
    assert invoke(home, "leave", stdin="n\n").exit_code == 1
    assert (home.folder / "key").exists()
    assert invoke(home, "leave", stdin="y\n").exit_code == 0
    assert portal.left == [key_id]
    assert list(home.folder.glob("node.json")) == list(home.folder.glob("key")) == []


def test_next_node_of_a_home_was_told_nothing(home: NodeHome) -> None:
    assert invoke(home, "drain").exit_code == 0
    assert invoke(home, "leave", "--yes").exit_code == 0
    assert intent_read(home.folder).kind is IntentKind.WORK


def test_leave_goes_on_when_the_portal_cannot_be_told(home: NodeHome, portal: FakePortal) -> None:
    portal.refusals["/api/v1/nodes/self/leave"] = RefusedError(404, "not_found")
    result = invoke(home, "leave", "--yes")
    assert result.exit_code == 0
    assert "Revoke the node" in result.output
    assert not home.joined


def test_registration_answer_about_another_key_is_refused(portal: FakePortal, tmp_path: Path) -> None:
    portal.registers_instead = PrivateKey.generate().public
    with pytest.raises(PortalProtocolError, match="Expected the registration of"):
        node_join(NodeHome(tmp_path / "new"), token=token_of(portal), coordinator=portal.key.public, name="x", profile=profile_make())
