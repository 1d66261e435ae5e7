"""Which certificate the proxy shows: the newest whole pair, from the moment it is there, without a restart."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import docker
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nexaportal.secret_files import CERTIFICATE, CERTIFICATE_KEY, secret_files_make
from tests.infra.edge import HOSTNAME, USER_ID, Edge, eventually

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(600), pytest.mark.xdist_group("proxy")]

LOOKS_SECONDS: Final = 10
"""Of infra/proxy/start.sh."""


def pair_put(folder: Path, fresh: Path, *names: str) -> bytes:
    """Puts files of a pair that is made in `fresh` in the places of those in `folder`, as who renews does; its certificate, DER."""
    secret_files_make(folder=fresh, hostname=HOSTNAME, owner=USER_ID if os.geteuid() == 0 else None)
    made = x509.load_pem_x509_certificate((fresh / CERTIFICATE).read_bytes())
    for name in names:
        (fresh / name).rename(folder / name)
    return made.public_bytes(Encoding.DER)


def test_a_renewed_pair_is_shown_without_a_restart_and_half_a_pair_is_not(
    client: docker.DockerClient, proxy_image: str, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    with Edge(client, proxy_image, secrets) as edge:
        first, started_at = edge.certificate(), edge.proxy.attrs["State"]["StartedAt"]
        pair_put(secrets, tmp_path / "half", CERTIFICATE)
        eventually(lambda: b"are not taken" in edge.proxy.logs(), "the proxy says that the certificate does not fit the key")
        assert edge.certificate() == first
        renewed = pair_put(secrets, tmp_path / "renewed", CERTIFICATE, CERTIFICATE_KEY)
        replaced_at = time.monotonic()
        eventually(lambda: edge.certificate() == renewed, "the new certificate is shown")
        assert time.monotonic() - replaced_at < LOOKS_SECONDS + 30  # a busy machine is slow to look
        edge.proxy.reload()
        assert edge.proxy.attrs["State"]["StartedAt"] == started_at
