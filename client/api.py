"""The portal's REST API as a researcher's script calls it: bearer token, JSON, resumable uploads.

Errors are those of workers/portal.py: PortalUnreachableError (try again), PortalRefusedError (no, with a stable `code`) and
PortalProtocolError. The token goes to the portal's own origin and nowhere else: redirects are not followed, .netrc is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from pydantic import ValidationError
from requests.auth import AuthBase

from workers.portal import PortalError, PortalProtocolError, PortalRefusedError, PortalUnreachableError
from workers.protocol.canonical import json_parse
from workers.protocol.digests import content_digest_header, digest_stream
from workers.protocol.errors import VerificationError
from workers.protocol.messages.base import Problem
from workers.protocol.messages.delivery import UPLOAD_CHUNK_BYTES_MAX
from workers.protocol.strict_base64 import base64_encode

ANSWER_LIMIT_BYTES: Final = 64 * 2**20
TIMEOUT_SECONDS: Final = (5.0, 60.0)
_COPY_BYTES: Final = 256 * 1024
_RETRYABLE: Final = frozenset({408, 425, 429})
_OFFSET_CONFLICT: Final = 409
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); 0 in all when that is not known."""


def origin_parse(text: str) -> str:
    """The origin that `text` names, its host in small letters, without a slash at its end.

    Raises PortalProtocolError unless it is http(s)://host[:port].
    """
    try:
        parts = urlsplit(text)
        is_origin = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        is_origin = False
    if not is_origin or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise PortalProtocolError(f"Expected a portal's address as https://host or https://host:port; found {text[:200]!r}.")
    host, percent, zone = parts.netloc.partition("%")  # names of network interfaces have capital letters that count
    return f"{parts.scheme}://{host.lower()}{percent}{zone}"


class _Bearer(AuthBase):
    """The token as Authorization. As `auth` of a session it also keeps requests from sending what .netrc has for the host."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class PortalApi:
    """One portal, called with one API token (None: public addresses only). Use from one thread.

    Raises PortalProtocolError for an address or a token that can't be one.
    """

    def __init__(self, origin: str, token: str | None = None) -> None:
        self.origin = origin_parse(origin)
        if token is not None and _TOKEN.fullmatch(token) is None:
            raise PortalProtocolError("Expected an API token as the portal showed it: one word, without spaces or line ends.")
        self._session = requests.Session()
        self._session.auth = _Bearer(token)

    def status(self) -> dict[str, Any]:
        """The public figures: queues, nodes, jobs, ledger."""
        return self._json("GET", "/status")

    def coordinator_key_id(self) -> str:
        """The coordinator's key id, as the portal says it now. Pin it once, from a place you trust."""
        return str(self._json("GET", "/api/v1/coordinator", expected={"key_id": str})["key_id"])

    def me(self) -> dict[str, Any]:
        """Whose token this is, and what it may do."""
        return self._json("GET", "/api/v1/me")

    def join_token_mint(self) -> str:
        """A one-time token with which a host becomes a node of this token's owner."""
        return str(self._json("POST", "/api/v1/join-tokens", document={}, expected={"token": str})["token"])

    def nodes(self) -> list[dict[str, Any]]:
        """The caller's nodes, the first page of them."""
        return list(self._json("GET", "/api/v1/nodes", expected={"nodes": list})["nodes"])

    def account(self) -> dict[str, Any]:
        """The caller's ledger account: id and balance."""
        return self._json("GET", "/api/v1/account")

    def job_submit(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        """Submits a descriptor whose inputs are uploaded. The same label and content again gives the same job."""
        return self._json("POST", "/api/v1/jobs", document=dict(descriptor), expected=_JOB)

    def jobs_submit(self, template: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Submits up to 1,000 jobs that differ from a template, all or none; a job for each item, in their order. Idempotent."""
        document = {"template": dict(template), "items": [dict(item) for item in items]}
        jobs = list(self._json("POST", "/api/v1/jobs/array", document=document, expected={"jobs": list})["jobs"])
        if len(jobs) != len(items) or not all(
            isinstance(job, dict) and all(isinstance(job.get(name), str) for name in _JOB) for job in jobs
        ):
            raise PortalProtocolError(f"Expected a job for each of {len(items)} items; found {len(jobs)}. Does the portal speak version 1?")
        return jobs

    def job(self, job_id: str) -> dict[str, Any]:
        """One own job."""
        return self._json("GET", f"/api/v1/jobs/{_segment(job_id)}", expected=_JOB)

    def job_replicas(self, job_id: str) -> list[dict[str, Any]]:
        """A job's replicas, oldest first; what they delivered is shown once the job is concluded."""
        return list(self._json("GET", f"/api/v1/jobs/{_segment(job_id)}/replicas", expected={"replicas": list})["replicas"])

    def jobs(self, **filters: str) -> dict[str, Any]:
        """A page of own jobs, newest first."""
        return self._json("GET", "/api/v1/jobs", query=filters, expected={"jobs": list})

    def job_events(self, job_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        """A job's timeline after event `after`, oldest first: a page of it, empty at the end."""
        query = {"after": str(after)}
        return list(self._json("GET", f"/api/v1/jobs/{_segment(job_id)}/events", query=query, expected={"events": list})["events"])

    def job_cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job that is not concluded."""
        return self._json("POST", f"/api/v1/jobs/{_segment(job_id)}/cancel", document={}, expected=_JOB)

    def bundle_download(self, job_id: str, out: BinaryIO, *, progress: Progress | None = None) -> int:
        """Writes the result bundle of a completed job to `out`, unverified; returns its size in bytes."""
        with self._sent("GET", f"/api/v1/jobs/{_segment(job_id)}/bundle", headers={"Accept-Encoding": "identity"}) as response:
            announced = response.headers.get("Content-Length", "")
            size_bytes = int(announced) if re.fullmatch(r"[0-9]{1,16}", announced) else 0
            done = 0
            for chunk in self._chunks(response):
                out.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, size_bytes)
        return done

    def upload_create(self, *, digest: str, size_bytes: int) -> str:
        """Announces an input (tus creation), or finds the upload that an earlier try announced; returns its address."""
        metadata = f"digest {base64_encode(digest.encode())}"
        headers = {**_TUS, "Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
        with self._sent("POST", "/api/v1/uploads", headers=headers) as response:
            # Not to `response.url`: requests has a spelling of its own for hosts.
            return urljoin(f"{self.origin}/api/v1/uploads", response.headers.get("Location", ""))

    def upload_offset(self, url: str) -> int:
        """How many bytes of an upload have arrived (tus HEAD)."""
        with self._sent("HEAD", url, headers=_TUS) as response:
            return _offset_of(response)

    def upload_append(self, url: str, *, offset: int, chunk: bytes) -> int:
        """Sends the bytes at `offset` (tus PATCH); returns how many have arrived now."""
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Digest": content_digest_header(chunk),
        }
        try:
            with self._sent("PATCH", url, headers=headers, body=chunk) as response:
                return _offset_of(response)
        except PortalRefusedError as error:
            if error.status != _OFFSET_CONFLICT:
                raise
            # An answer got lost: the portal is further than we know. Only moving on is worth another try.
            found = self.upload_offset(url)
            if found <= offset:
                raise
            return found

    def input_upload(self, path: Path, *, progress: Progress | None = None) -> tuple[str, int]:
        """Uploads a file by digest, from where an earlier try stopped. Returns (digest, size in bytes). Raises OSError for the file."""
        with path.open("rb") as file:
            digest, size_bytes = digest_stream(file)
            url = self.upload_create(digest=digest, size_bytes=size_bytes)
            offset = self.upload_offset(url)
            while True:
                if progress:
                    progress(offset, size_bytes)
                if offset >= size_bytes:
                    return digest, size_bytes
                file.seek(offset)
                chunk = file.read(min(UPLOAD_CHUNK_BYTES_MAX, size_bytes - offset))
                if not chunk:
                    raise OSError(f"{path} is shorter than the {size_bytes} bytes that it had a moment ago.")
                arrived = self.upload_append(url, offset=offset, chunk=chunk)
                if not offset < arrived <= size_bytes:
                    raise PortalProtocolError(f"Expected an Upload-Offset from {offset + 1} to {size_bytes}; found {arrived}.")
                offset = arrived

    def _json(
        self,
        method: str,
        path: str,
        *,
        document: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        expected: Mapping[str, type] | None = None,
    ) -> dict[str, Any]:
        """The answer, an object with at least the `expected` members."""
        with self._sent(method, path, json=document, query=query) as response:
            data = self._body(response)
        try:
            answer = json_parse(data, limit_bytes=ANSWER_LIMIT_BYTES)
        except VerificationError as error:
            raise PortalProtocolError(f"{method} {path}: the answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise PortalProtocolError(f"{method} {path}: expected a JSON object; found {type(answer).__name__}.")
        for name, kind in (expected or {}).items():
            if not isinstance(answer.get(name), kind):
                raise PortalProtocolError(f"{method} {path}: expected the member {name!r} in the answer. Does the portal speak version 1?")
        return answer

    @contextmanager
    def _sent(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Iterator[requests.Response]:
        """A successful response whose body is still to be read, closed at the end. Raises PortalError."""
        url = urljoin(self.origin + "/", where)
        if not url.startswith(self.origin + "/"):
            raise PortalProtocolError(f"Expected an address on {self.origin}; found {url[:200]!r}. The token goes nowhere else.")
        try:
            response = self._session.request(
                method,
                url,
                headers=dict(headers or {}),
                data=body,
                json=json,
                params=query,
                timeout=TIMEOUT_SECONDS,
                stream=True,
                allow_redirects=False,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:  # not all of urllib3's come as requests' own
            raise self._unreachable(error) from error
        try:
            if response.status_code >= 300:
                raise self._refusal(response)
            yield response
        finally:
            response.close()

    def _refusal(self, response: requests.Response) -> PortalError:
        status = response.status_code
        try:
            problem = Problem.model_validate(json_parse(self._body(response), limit_bytes=ANSWER_LIMIT_BYTES))
        except (PortalError, VerificationError, ValidationError):
            problem = None
        said = f"{problem.title} ({problem.code}): {problem.detail}" if problem else "without a reason that this version can read"
        if status >= 500 or status in _RETRYABLE:
            return PortalUnreachableError(f"{self.origin} answered {status}: {said}")
        if problem is None:
            return PortalProtocolError(f"{self.origin} answered {status} {said}. Is this the address of a portal?")
        return PortalRefusedError(problem.model_copy(update={"status": status}))

    def _unreachable(self, error: Exception) -> PortalUnreachableError:
        return PortalUnreachableError(f"{self.origin} can't be reached: {error}")

    def _body(self, response: requests.Response) -> bytes:
        parts: list[bytes] = []
        size_bytes = 0
        for chunk in self._chunks(response):
            size_bytes += len(chunk)
            if size_bytes > ANSWER_LIMIT_BYTES:
                raise PortalProtocolError(f"An answer has at most {ANSWER_LIMIT_BYTES} bytes; this one has more.")
            parts.append(chunk)
        return b"".join(parts)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_content(_COPY_BYTES)
        except (requests.RequestException, OSError) as error:
            raise self._unreachable(error) from error


_JOB: Final[Mapping[str, type]] = {"id": str, "job_id": str, "state": str}
"""What every answer about a job has."""


def _segment(job_id: str) -> str:
    """`job_id` as one segment of a path. Raises PortalProtocolError for what could be more than that."""
    if re.fullmatch(r"[A-Za-z0-9-]{1,64}", job_id) is None:
        raise PortalProtocolError(f"Expected a job's id as `nexa jobs` shows it; found {job_id[:80]!r}.")
    return job_id


def _offset_of(response: requests.Response) -> int:
    text = response.headers.get("Upload-Offset", "")
    if re.fullmatch(r"[0-9]{1,16}", text) is None:
        raise PortalProtocolError(f"Expected an Upload-Offset; found {text[:40]!r}.")
    return int(text)
