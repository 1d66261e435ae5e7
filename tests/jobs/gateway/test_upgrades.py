"""Hosts of another age: who speaks no protocol of ours is told what is spoken, who has older software than recommended is advised."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.hosting.standing import standing_sentence
from nodes.models import Node
from nodes.selectors import upgrade_advised
from nodes.services import node_software_record
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost
from workers.protocol.version import SOFTWARE_VERSION

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _recommended(settings: Any) -> None:
    settings.NEXA_HOST_VERSION = "2.10"


def commands(answer: Any) -> list[tuple[str, str]]:
    return [(command["kind"], command["reason"]) for command in answer.json()["commands"]]


def test_older_software_is_advised_with_each_answer_and_gets_work_all_the_same() -> None:
    queued_job()
    host = SimulatedHost()
    answer = host.exchange(software_version="2.9.1")
    told = [("upgrade", "This portal recommends host software 2.10 or later; this is 2.9.1. docs/host.md, Upgrading.")]
    assert commands(answer) == told
    assert len(answer.json()["orders"]) == 1
    assert commands(host.exchange(software_version="2.9.1")) == told


@pytest.mark.parametrize("version", ["2.10", "2.10.0", "3", "another-host/1.0", "1.0-rc1"])
def test_software_that_is_new_enough_or_numbered_otherwise_is_not(version: str) -> None:
    host = SimulatedHost()
    assert commands(host.exchange(software_version=version)) == []
    assert Node.objects.get().profile["software_version"] == version


def test_where_none_is_recommended_nobody_is_advised(settings: Any) -> None:
    settings.NEXA_HOST_VERSION = ""
    assert commands(SimulatedHost().exchange(software_version="0.0.1")) == []


def test_a_host_that_does_not_say_goes_by_what_it_joined_with() -> None:
    host = SimulatedHost()
    assert [kind for kind, _ in commands(host.exchange())] == ["upgrade"]
    assert Node.objects.get().profile["software_version"] == SOFTWARE_VERSION == "0.1.0"


def test_an_upgrade_is_noticed_and_costs_one_statement_once(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    host = SimulatedHost()
    profile = {**host.node.profile}
    assert upgrade_advised(host.node) == "2.10"
    with django_assert_num_queries(1):
        node_software_record(node=host.node, version="2.11")
    with django_assert_num_queries(0):
        node_software_record(node=host.node, version="2.11")
        node_software_record(node=host.node, version="")
    found = Node.objects.get()
    assert found.profile == {**profile, "software_version": "2.11"}
    assert upgrade_advised(found) == ""


def test_a_profile_that_was_registered_meanwhile_stays_but_for_the_software() -> None:
    host = SimulatedHost()
    profile = {**host.node.profile, "hostname_hint": "renamed"}
    Node.objects.filter(pk=host.node.pk).update(profile=profile)
    node_software_record(node=host.node, version="2.11")
    assert Node.objects.get().profile == {**profile, "software_version": "2.11"}


def test_a_host_whose_protocol_is_not_spoken_is_told_what_is_and_its_owner_why_it_gets_nothing() -> None:
    queued_job()
    host = SimulatedHost()
    answer = host.exchange(protocol_version=9, member_of_the_future=1)
    document = answer.json()
    assert (answer.status_code, document["code"], document["supported"]) == (400, "protocol_unsupported", [1])
    assert document["detail"] == "Expected protocol version 1; found 9. Use a host software that speaks 1."
    node = Node.objects.get()
    assert node.last_seen_at is None, "it can do nothing here, and does not count as a host that is there"
    assert node.last_no_work == {"code": "protocol_unsupported", "message": document["detail"]}
    assert standing_sentence(node, now=timezone.now(), runs=0).endswith(document["detail"])
    host.exchange()
    node = Node.objects.get()
    assert "protocol" not in standing_sentence(node, now=timezone.now(), runs=0)
