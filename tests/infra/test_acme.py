"""The certificate by ACME: from a real authority (pebble, Let's Encrypt's test server), by the proxy's port 80, to what the proxy shows."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import docker
import pytest
from cryptography import x509
from docker.models.containers import Container

from devstack.images import tiny_image_ensure
from devstack.service_images import service_image_build
from tests.factories.tls import certificate_write
from tests.infra.edge import HOSTNAME, USER_ID, Edge, eventually

PEBBLE: Final = Path(sys.executable).with_name("pebble")
ACCOUNT: Final = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")  # nosec B105

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(600), pytest.mark.xdist_group("proxy")]


@pytest.fixture(scope="module")
def acme_image(client: docker.DockerClient) -> str:
    return service_image_build(client, service="acme", tag="nexapod/acme:test")


def authority_start(edge: Edge, client: docker.DockerClient, folder: Path) -> Path:
    """An authority that wants accounts bound to a customer, and asks at port 80; the file of who vouches for its own address."""
    folder.mkdir()
    shutil.copy(PEBBLE, folder / "pebble")
    pem = certificate_write(folder, "authority")
    settings = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/authority/server.pem",
        "privateKey": "/authority/server.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "externalAccountBindingRequired": True,
        "externalAccountMACKeys": dict([ACCOUNT]),
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    for path in folder.iterdir():
        path.chmod(0o755)
    edge.container(
        "authority",
        tiny_image_ensure(client),
        ["/authority/pebble", "-config", "/authority/pebble.json"],
        aliases=["authority"],
        environment={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"},
        volumes=[f"{folder}:/authority:ro"],
    )
    return pem


def acme_start(edge: Edge, image: str, folder: Path, trusted: Path, *, binding: str) -> Container:
    """As compose.yaml starts it. `binding`: what the operator wrote into secrets/acme-eab."""
    folder.mkdir()
    (folder / "acme-eab").write_text(binding)
    if os.geteuid() == 0:
        os.chown(folder / "acme-eab", USER_ID, USER_ID)
    return edge.container(
        "acme",
        image,
        aliases=["acme"],
        environment={"NEXA_HOSTNAME": HOSTNAME, "NEXA_ACME_DIRECTORY": "https://authority:14000/dir", "NEXA_ACME_EMAIL": ""},
        volumes=[
            "/var/lib/acme-account",
            f"{edge.volume.name}:/var/lib/acme",
            f"{folder / 'acme-eab'}:/run/secrets/acme-eab:ro",
            f"{trusted}:/run/secrets/acme-ca:ro",
        ],
    )


def test_the_certificate_of_an_authority_is_shown_and_renewed_without_a_restart(
    client: docker.DockerClient, proxy_image: str, acme_image: str, tmp_path: Path
) -> None:
    with Edge(client, proxy_image, tmp_path / "secrets") as edge:
        own, started_at = edge.certificate(), edge.proxy.attrs["State"]["StartedAt"]
        trusted = authority_start(edge, client, tmp_path / "authority")
        acme = acme_start(edge, acme_image, tmp_path / "acme", trusted, binding=":".join(ACCOUNT))
        first = eventually(lambda: _other_than(edge, own), "the proxy shows another certificate")
        assert "Pebble" in x509.load_der_x509_certificate(first).issuer.rfc4514_string()
        assert not edge.proxy.exec_run("ls /var/lib/acme/.well-known/acme-challenge").output, "a challenge that is over is gone"

        assert acme.exec_run(["sh", "-c", "rm /var/lib/acme-account/*/cert.pem"]).exit_code == 0  # as if its month had come
        acme.restart(timeout=1)
        second = eventually(lambda: _other_than(edge, first), "the proxy shows the renewed certificate")
        assert second != own
        assert acme.logs().count(b"creating new account") <= 1
        edge.proxy.reload()
        assert edge.proxy.attrs["State"]["StartedAt"] == started_at


def test_a_refusal_of_the_authority_is_in_the_log_and_the_operators_certificate_stays(
    client: docker.DockerClient, proxy_image: str, acme_image: str, tmp_path: Path
) -> None:
    with Edge(client, proxy_image, tmp_path / "secrets") as edge:
        own = edge.certificate()
        trusted = authority_start(edge, client, tmp_path / "authority")
        acme = acme_start(edge, acme_image, tmp_path / "acme", trusted, binding="")
        said = eventually(lambda: b"acme: no certificate" in acme.logs() and acme.logs().decode(), "the service says that it failed")
        assert "requires external credentials" in said
        assert acme.exec_run("test -e /tmp/failed").exit_code == 0, "its health check looks at this"
        assert edge.certificate() == own


def _other_than(edge: Edge, one: bytes) -> bytes | None:
    shown = edge.certificate()
    return shown if shown != one else None
