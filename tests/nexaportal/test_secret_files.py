"""The secrets of a new portal: made once, kept for good, readable by one user."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from django.conf import settings

from ledger.coordinator_key import key_file_read
from nexaportal.secret_files import CERTIFICATE, CERTIFICATE_KEY, RANDOM_FILES, secret_files_make
from workers.protocol.keys import PrivateKey
from workers.protocol.strict_base64 import base64_encode


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_each_file_is_its_readers_alone_and_no_two_secrets_are_alike(tmp_path: Path) -> None:
    made = secret_files_make(folder=tmp_path / "secrets", hostname="nexapod.test")
    found = files_of(tmp_path / "secrets")
    assert set(made) == set(found)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").rglob("*") if path.is_file()} == {0o400}
    assert len({found[name] for name in RANDOM_FILES}) == len(RANDOM_FILES)
    assert all(len(found[name]) >= 64 for name in RANDOM_FILES)


def test_a_second_run_changes_nothing_and_makes_what_is_missing(tmp_path: Path) -> None:
    secret_files_make(folder=tmp_path, hostname="nexapod.test")
    before = files_of(tmp_path)
    assert secret_files_make(folder=tmp_path, hostname="other.test") == []
    assert files_of(tmp_path) == before
    (tmp_path / "secret-key-keyless").unlink()
    assert secret_files_make(folder=tmp_path, hostname="nexapod.test") == ["secret-key-keyless"]


def test_the_coordinators_key_is_one_that_the_portal_reads_with_its_public_half_beside_it(tmp_path: Path) -> None:
    secret_files_make(folder=tmp_path, hostname="nexapod.test")
    key = key_file_read(tmp_path / "coordinator.key")
    assert (tmp_path / "coordinator.pub").read_text() == key.public.to_base64()


def test_halves_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    secret_files_make(folder=tmp_path, hostname="nexapod.test")
    (tmp_path / "coordinator.key").unlink()
    (tmp_path / "coordinator.key").write_text(base64_encode(PrivateKey.generate().raw))
    with pytest.raises(ValueError, match=r"remove coordinator\.pub"):
        secret_files_make(folder=tmp_path, hostname="nexapod.test")


def test_the_certificate_is_for_the_portals_name_and_a_client_that_trusts_it_takes_it(tmp_path: Path) -> None:
    secret_files_make(folder=tmp_path, hostname="nexapod.test")
    certificate = x509.load_pem_x509_certificate((tmp_path / CERTIFICATE).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["nexapod.test", "localhost"]

    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(tmp_path / CERTIFICATE))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(tmp_path / CERTIFICATE, tmp_path / CERTIFICATE_KEY)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server, server_hostname="nexapod.test")]
    done = [False, False]
    for _ in range(10):
        for index, end in enumerate(ends):
            try:
                end.do_handshake()
                done[index] = True
            except ssl.SSLWantReadError:
                continue
    assert done == [True, True]


def test_an_institutions_certificate_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / CERTIFICATE).write_text("theirs")
    made = secret_files_make(folder=tmp_path, hostname="nexapod.test")
    assert not {CERTIFICATE, CERTIFICATE_KEY} & set(made)
    assert (tmp_path / CERTIFICATE).read_text() == "theirs"


def test_the_command_needs_no_settings_and_says_by_which_id_hosts_will_know_the_coordinator(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nexaportal.secret_files", str(tmp_path), "--hostname", "nexapod.test"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"coordinator key: {key_file_read(tmp_path / 'coordinator.key').public.key_id}" in done.stdout


def test_the_command_says_what_is_wrong_where_it_may_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "nexaportal.secret_files", str(tmp_path / "file"), "--hostname", "nexapod.test"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("The secrets could not be made: ")
