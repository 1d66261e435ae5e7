"""Inputs that the coordinator fetches at submission. A job's `input_uri` is a stranger's wish: the coordinator must not be made to knock at
doors of its own network.

1. `https://` only, without credentials in the address. `s3://` and `ipfs://` are refused by name until they are built.
2. Only hosts that the operator listed (NEXA_INPUT_HOSTS, `host` or `host:port`); redirects too may only lead to those.
3. Only public addresses, each checked before it is connected to (people/outward.py).
4. No proxies from the environment; size and time are bounded, and a stated digest must be that of the bytes that came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from django.conf import settings
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from jobs.blobs import BlobTooLargeError, blob_write
from jobs.errors import (
    InputAddressPrivateError,
    InputHostNotAllowedError,
    InputTooLargeError,
    InputUnreachableError,
    InputUriMalformedError,
    InputUriUnsupportedError,
)
from jobs.models import Blob
from people.outward import address_is_public, addresses_of

REDIRECTS_MAX: Final = 3
SECONDS_PER_READ: Final = 10.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class FetchPolicy:
    """From where, how much and how long. Checks of addresses are parameters, so that tests can have a server of their own."""

    hosts: Sequence[str]
    bytes_max: int
    seconds_max: float = 60.0
    ca_certificates: str | None = None
    """A PEM file; None: the system's."""
    address_allowed: Callable[[str], bool] = field(default=address_is_public)
    resolve: Callable[[str, int], list[str]] = field(default=addresses_of)

    @classmethod
    def from_settings(cls) -> FetchPolicy:
        return cls(hosts=tuple(settings.NEXA_INPUT_HOSTS), bytes_max=settings.NEXA_INPUT_BYTES_MAX)


def inputs_fetch(*, uri: str, paths: Iterable[str], policy: FetchPolicy) -> dict[str, Blob]:
    """The files `paths` from below `uri` as blobs, by path, each once. `bytes_max` is for all together.

    Raises the errors of jobs.errors about `input_uri`, and InputTooLargeError.
    """
    folder = folder_uri_check(uri)
    give_up_at = time.monotonic() + policy.seconds_max
    left_bytes = policy.bytes_max
    fetched: dict[str, Blob] = {}
    for path in dict.fromkeys(paths):
        blob = _file_fetch(folder + quote(path), policy, left_bytes, give_up_at)
        left_bytes -= blob.size_bytes
        fetched[path] = blob
    return fetched


def folder_uri_check(uri: str) -> str:
    """`uri` if inputs can be fetched from below it. Raises InputUriUnsupportedError, InputUriMalformedError."""
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 -- reading it is what checks it
    except ValueError as error:
        raise InputUriMalformedError(f"input_uri: expected https://host/folder/; found {uri[:200]!r} ({error}).") from error
    if parts.scheme != "https":
        raise InputUriUnsupportedError(
            f"input_uri: expected https://…/, or no input_uri and uploads in `inputs`; found {(parts.scheme or uri)[:40]!r}. "
            "s3:// and ipfs:// are not supported yet: upload the files and name their digests.",
            supported=["https", "upload"],
            scheme=parts.scheme,
        )
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment or not uri.endswith("/") or not uri.isascii():
        raise InputUriMalformedError(
            f"input_uri: expected https://host/folder/ with a slash at its end and no user, query or fragment; found {uri[:200]!r}."
        )
    return uri


def uri_check(uri: str, path: str, policy: FetchPolicy) -> None:
    """Raises, without asking anybody, what fetching `path` from below `uri` would raise about the address itself."""
    _target_check(folder_uri_check(uri) + quote(path), policy)


def _file_fetch(url: str, policy: FetchPolicy, bytes_max: int, give_up_at: float) -> Blob:
    for _ in range(REDIRECTS_MAX + 1):
        with _opened(url, policy, give_up_at) as response:
            if response.status in _REDIRECTS and (target := response.headers.get("Location")):
                url = _redirect_target(url, target)
                continue
            if response.status != 200:
                raise InputUnreachableError(f"{url[:200]} was answered with status {response.status}; expected 200.", url=url)
            try:
                return blob_write(_BoundedBody(response, give_up_at, url), limit_bytes=bytes_max)
            except BlobTooLargeError as error:
                raise InputTooLargeError(
                    f"Fetched inputs may have {policy.bytes_max} bytes together; {url[:200]} goes beyond. Upload it instead.", url=url
                ) from error
    raise InputUnreachableError(f"More than {REDIRECTS_MAX} redirects, the last to {url[:200]}.", url=url)


def _redirect_target(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise InputHostNotAllowedError(f"{url[:200]} redirects to {target[:200]!r}, which is no address.") from error


@contextmanager
def _opened(url: str, policy: FetchPolicy, give_up_at: float) -> Iterator[BaseHTTPResponse]:
    """The answer to GET `url`, its body unread, from an address that was checked."""
    host, port, target = _target_check(url, policy)
    try:
        addresses = policy.resolve(host, port)
    except OSError as error:
        raise InputUnreachableError(f"The host {host!r} has no address: {error}.") from error
    refused = [address for address in addresses if not policy.address_allowed(address)]
    if refused or not addresses:
        raise InputAddressPrivateError(f"{host} resolves to {', '.join(refused[:5]) or 'nothing'}; only public addresses are fetched from.")
    with urllib3.HTTPSConnectionPool(
        addresses[0],
        port,
        server_hostname=host,
        assert_hostname=host,
        cert_reqs="CERT_REQUIRED",
        ca_certs=policy.ca_certificates,
        retries=False,
        timeout=urllib3.Timeout(connect=SECONDS_PER_READ, read=SECONDS_PER_READ),
    ) as pool:
        if time.monotonic() > give_up_at:
            raise InputUnreachableError(f"Inputs took longer than {policy.seconds_max:g} s; upload them instead.", url=url)
        authority = host if port == 443 else f"{host}:{port}"
        # identity: a compressed answer could hold far more bytes than it shows
        headers = {"Host": authority, "Accept-Encoding": "identity", "User-Agent": "nexapod-coordinator"}
        try:
            response = pool.urlopen("GET", target, headers=headers, redirect=False, preload_content=False, decode_content=False)
        except HTTPError as error:
            raise InputUnreachableError(f"{url[:200]} could not be fetched: {type(error).__name__}.", url=url) from error
        try:
            yield response
        finally:
            response.close()


def _target_check(url: str, policy: FetchPolicy) -> tuple[str, int, str]:
    """(host, port, path) of an address that may be fetched. Raises InputHostNotAllowedError."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 443
    except ValueError as error:
        raise InputHostNotAllowedError(f"A redirect led to {url[:200]!r}, which is no address.") from error
    allowed = parts.scheme == "https" and parts.username is None and ((host if port == 443 else f"{host}:{port}") in policy.hosts)
    if not allowed:
        known = ", ".join(policy.hosts) or "none: upload the files instead"
        raise InputHostNotAllowedError(f"Inputs are fetched by https from hosts that the operator listed ({known}); found {url[:200]!r}.")
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class _BoundedBody:
    """Reads an answer's body and gives up at a time, however slowly the bytes drip."""

    def __init__(self, response: BaseHTTPResponse, give_up_at: float, url: str) -> None:
        self._response = response
        self._give_up_at = give_up_at
        self._url = url

    def read(self, size: int, /) -> bytes:
        if time.monotonic() > self._give_up_at:
            raise InputUnreachableError(f"{self._url[:200]} took too long; upload the file instead.", url=self._url)
        try:
            return self._response.read1(min(size, 65536)) or b""
        except HTTPError as error:
            raise InputUnreachableError(f"{self._url[:200]} broke off: {type(error).__name__}.", url=self._url) from error
