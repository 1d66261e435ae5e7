"""A log over HTTP: bounded reads, a time for each object, a few tries, connections kept.

Redirects are not followed, credentials are not sent.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import requests
import urllib3
from requests.auth import AuthBase

from client.api import origin_parse
from client.audit.errors import AbsentError, SourceError, SourceTooSlowError
from client.audit.time_limit import TimeLimitedAdapter, time_limited
from client.settings import authority_of

TIMEOUT_SECONDS: Final = (5.0, 30.0)
OBJECT_SECONDS_MAX: Final = 120.0
"""For one object, from the connection to its last byte, however steadily it drips. What took longer is not tried again."""
TRIES: Final = 4
PAUSE_SECONDS: Final = 0.5
"""Before the second try; twice as long before each further one."""
_CHUNK_BYTES: Final = 64 * 1024
_RETRYABLE: Final = frozenset({408, 425, 429})
_ABSENT: Final = frozenset({404, 410})


class _NoCredentials(AuthBase):
    """As `auth` of a session, keeps requests from sending what .netrc has for the host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _PassingError(Exception):
    """Worth another try."""


class PortalSource:
    """A portal's public addresses. One connection for each thread that reads."""

    def __init__(self, origin: str, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        """Raises PortalProtocolError unless `origin` is http(s)://host[:port]."""
        self.name = self.origin = origin_parse(origin)
        self.authority: str | None = authority_of(self.origin)
        self._pause_seconds = pause_seconds
        self._threads = threading.local()

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        """The body of `/api/v1/<path>`. Raises AbsentError, SourceTooSlowError, SourceError."""
        url = f"{self.origin}/api/v1/{path}"
        pause_seconds = self._pause_seconds
        for tried in range(1, TRIES + 1):
            try:
                return self._read_once(url, limit_bytes)
            except _PassingError as error:
                if tried == TRIES:
                    raise SourceError(f"{url} can't be read: {error}") from error
            time.sleep(pause_seconds)
            pause_seconds *= 2
        raise AssertionError("the last try returns or raises")

    def _read_once(self, url: str, limit_bytes: int) -> bytes:
        with time_limited(OBJECT_SECONDS_MAX) as limit:
            try:
                data = self._body_read(url, limit_bytes)
            except (_PassingError, SourceError):
                if not limit.is_over:
                    raise
            else:
                if not limit.is_over:  # else the end that was read may be that of our patience
                    return data
        raise SourceTooSlowError(f"{url} did not arrive in {OBJECT_SECONDS_MAX:g} seconds.")

    def _body_read(self, url: str, limit_bytes: int) -> bytes:
        # Not decoded, so that a few bytes can't become many: who asks for identity gets it, or something that is refused later.
        headers = {"Accept-Encoding": "identity"}
        try:
            with self._session().get(url, headers=headers, timeout=TIMEOUT_SECONDS, stream=True, allow_redirects=False) as response:
                self._status_check(url, response.status_code)
                data = b""
                # What has come, not as much as was asked for: else one read of a dripping answer lasts for hours.
                while chunk := response.raw.read1(min(_CHUNK_BYTES, limit_bytes + 1 - len(data)), decode_content=False):
                    data += chunk
                    if len(data) > limit_bytes:
                        raise SourceError(f"{url} is larger than the {limit_bytes} bytes that it may have.")
                announced = response.headers.get("Content-Length", "")
                if announced.isdecimal() and int(announced[:18]) != len(data):
                    raise _PassingError(f"the connection ended after {len(data)} of {announced[:18]} bytes")
                return data
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _PassingError(str(error)) from error

    def _status_check(self, url: str, status: int) -> None:
        if status == 200:
            return
        if status in _ABSENT:
            raise AbsentError(f"{url} answered {status}: there is no such object.")
        if status >= 500 or status in _RETRYABLE:
            raise _PassingError(f"it answered {status}")
        raise SourceError(f"{url} answered {status}. Is this the address of a portal?")

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = requests.Session()
            session.auth = _NoCredentials()
            for scheme in ("http://", "https://"):
                session.mount(scheme, TimeLimitedAdapter())
        return session
