"""`python -m nexaportal.secret_files FOLDER --hostname NAME`: makes the secrets of a new portal, a file each. It needs no settings.

What is there is never written again: a second run makes what is missing (after an upgrade that wants one more) and nothing else. Each
file is 0400 and its reader's alone; compose.yaml says which service is shown which. Of these only `coordinator.key` can't be replaced.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.strict_base64 import base64_decode, base64_encode

CERTIFICATE_DAYS: Final = 397
"""Longer ones are refused by some browsers even when trusted by hand."""
RANDOM_FILES: Final = (
    "database-owner-password",
    "database-application-password",
    "database-verify-password",
    "secret-key",
    "secret-key-keyless",
)
"""`secret-key-keyless` is what Django insists on in processes that sign nothing (verify, beat): they don't get the portal's."""


CERTIFICATE: Final = "tls/chain.pem"
CERTIFICATE_KEY: Final = "tls/key.pem"
"""In a folder that is mounted whole: a renewed file that takes the place of another is seen then."""


def secret_files_make(*, folder: Path, hostname: str, owner: int | None = None) -> list[str]:
    """Makes the files that `folder` lacks and returns their names. `owner`: uid and gid of who reads them; None: whoever runs this.

    Raises OSError, and ValueError for a coordinator's key that is none or has lost its half.
    """
    for place in (folder, folder / "tls"):
        place.mkdir(mode=0o711, parents=True, exist_ok=True)
    made: list[str] = []

    def ensure(name: str, text: Callable[[], str]) -> str:
        path = folder / name
        if not path.exists():
            _write(path, text(), owner)
            made.append(name)
        return path.read_text(encoding="ascii").strip()

    for name in RANDOM_FILES:
        ensure(name, lambda: secrets.token_urlsafe(48))
    key = PrivateKey.from_raw(base64_decode(ensure("coordinator.key", lambda: base64_encode(PrivateKey.generate().raw))))
    if ensure("coordinator.pub", key.public.to_base64) != key.public.to_base64():
        raise ValueError("expected coordinator.pub to be the public half of coordinator.key, found another key; remove coordinator.pub")
    redis_password = ensure("redis.conf", lambda: f"requirepass {secrets.token_urlsafe(48)}").removeprefix("requirepass ")
    for name in (
        "email-password",
        "acme-eab",
        "openid-providers",
        "coordinator-previous.key",
    ):  # empty, until the operator writes theirs into it
        ensure(name, str)
    ensure("redis-url", lambda: f"redis://:{redis_password}@redis:6379/0")
    if not any((folder / name).exists() for name in (CERTIFICATE, CERTIFICATE_KEY)):
        certificate, private = _certificate_make(hostname)
        ensure(CERTIFICATE_KEY, lambda: private)
        ensure(CERTIFICATE, lambda: certificate)
    return made


def _write(path: Path, text: str, owner: int | None) -> None:
    """Whole or not at all: a draft takes its place when it is on the disk."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="ascii") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner, owner)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _certificate_make(hostname: str) -> tuple[str, str]:
    """A certificate that signs itself, and its key, both PEM: for the time until the operator puts theirs in its place.

    It is good for `hostname` and for this machine's own names.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    loopback = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname), x509.DNSName("localhost"), *loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(public, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"), private.decode("ascii")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m nexaportal.secret_files", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hostname", required=True, help="under which browsers and hosts reach the portal")
    parser.add_argument("--owner", type=int, help="uid and gid of who reads the files (only root may say)")
    arguments = parser.parse_args()
    try:
        made = secret_files_make(folder=arguments.folder, hostname=arguments.hostname, owner=arguments.owner)
        public = (arguments.folder / "coordinator.pub").read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        print(f"The secrets could not be made: {error}", file=sys.stderr)
        return 1
    print(f"made: {', '.join(made) or 'nothing, all is there'}")
    print(f"coordinator key: {PublicKey.from_base64(public).key_id}")
    print("Keep a copy of this folder where the portal's backups are not: without coordinator.key hosts would have to join anew.")
    if CERTIFICATE in made:
        print(
            f"{CERTIFICATE} signs itself, and browsers will say so: have one by ACME, or put your institution's and its key in its place."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
