"""The portal's REST API as a researcher's script calls it: bearer token, JSON, resumable uploads.

Errors are those of workers/portal.py: PortalUnreachableError (try again), PortalRefusedError (no, with a stable `code`) and
PortalProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin

import requests
from pydantic import ValidationError

from workers.portal import PortalError, PortalProtocolError, PortalRefusedError, PortalUnreachableError
from workers.protocol.canonical import json_parse
from workers.protocol.digests import content_digest_header, digest_stream
from workers.protocol.errors import VerificationError
from workers.protocol.messages import UPLOAD_CHUNK_BYTES_MAX, Problem
from workers.protocol.strict_base64 import base64_encode

ANSWER_LIMIT_BYTES = 64 * 2**20
TIMEOUT_SECONDS = (5.0, 60.0)
_COPY_BYTES = 256 * 1024

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


class PortalApi:
    """One portal, called with one API token (None: public addresses only). Use from one thread."""

    def __init__(self, origin: str, token: str | None = None) -> None:
        self.origin = origin.rstrip("/")
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def status(self) -> dict[str, Any]:
        """The public figures: queues, nodes, jobs, ledger."""
        return self._json("GET", "/status")

    def coordinator_key_id(self) -> str:
        """The coordinator's key id, as the portal says it now. Pin it once, from a place you trust."""
        return str(self._json("GET", "/api/v1/coordinator")["key_id"])

    def join_token_mint(self) -> str:
        """A one-time token with which a host becomes a node of this token's owner."""
        return str(self._json("POST", "/api/v1/join-tokens", document={})["token"])

    def nodes(self) -> list[dict[str, Any]]:
        """The caller's nodes."""
        found = self._json("GET", "/api/v1/nodes")
        return cast("list[dict[str, Any]]", found if isinstance(found, list) else found["nodes"])

    def account(self) -> dict[str, Any]:
        """The caller's ledger account: id and balance."""
        return self._json("GET", "/api/v1/account")

    def job_submit(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        """Submits a descriptor whose inputs are uploaded. The same label and content again gives the same job."""
        return self._json("POST", "/api/v1/jobs", document=dict(descriptor))

    def job(self, job_id: str) -> dict[str, Any]:
        """One own job."""
        return self._json("GET", f"/api/v1/jobs/{job_id}")

    def job_replicas(self, job_id: str) -> list[dict[str, Any]]:
        """A job's replicas, oldest first; what they delivered is shown once the job is concluded."""
        return cast("list[dict[str, Any]]", self._json("GET", f"/api/v1/jobs/{job_id}/replicas")["replicas"])

    def jobs(self, **filters: str) -> dict[str, Any]:
        """A page of own jobs, newest first."""
        return self._json("GET", "/api/v1/jobs", query=filters)

    def job_events(self, job_id: str, *, after: int = 0) -> dict[str, Any]:
        """A job's timeline after event `after`."""
        return self._json("GET", f"/api/v1/jobs/{job_id}/events", query={"after": str(after)})

    def job_cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job that is not concluded."""
        return self._json("POST", f"/api/v1/jobs/{job_id}/cancel", document={})

    def bundle_download(self, job_id: str, out: BinaryIO, *, progress: Progress | None = None) -> int:
        """Writes the result bundle of a completed job to `out`; returns its size in bytes."""
        response = self._send("GET", f"/api/v1/jobs/{job_id}/bundle", stream=True)
        size_bytes = int(response.headers.get("Content-Length", 0))
        done = 0
        for chunk in self._chunks(response):
            out.write(chunk)
            done += len(chunk)
            if progress:
                progress(done, size_bytes)
        return done

    def input_upload(self, path: Path, *, progress: Progress | None = None) -> tuple[str, int]:
        """Uploads a file by digest (tus), resuming where an earlier try stopped. Returns (digest, size in bytes)."""
        with path.open("rb") as file:
            digest, size_bytes = digest_stream(file)
            metadata = f"digest {base64_encode(digest.encode())}"
            headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
            created = self._send("POST", "/api/v1/uploads", headers=headers)
            location = urljoin(created.url, created.headers.get("Location", ""))
            offset = _offset(self._send("HEAD", location, headers={"Tus-Resumable": "1.0.0"}))
            while offset < size_bytes:
                file.seek(offset)
                chunk = file.read(UPLOAD_CHUNK_BYTES_MAX)
                sent = self._send(
                    "PATCH",
                    location,
                    headers={
                        "Tus-Resumable": "1.0.0",
                        "Upload-Offset": str(offset),
                        "Content-Type": "application/offset+octet-stream",
                        "Content-Digest": content_digest_header(chunk),
                    },
                    body=chunk,
                )
                offset = _offset(sent)
                if progress:
                    progress(offset, size_bytes)
        return digest, size_bytes

    def _json(
        self, method: str, path: str, *, document: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        response = self._send(method, path, json=document, query=query)
        try:
            return cast("dict[str, Any]", json_parse(response.content, limit_bytes=ANSWER_LIMIT_BYTES))
        except VerificationError as error:
            raise PortalProtocolError(f"{method} {path}: the answer is not JSON: {error}") from error

    def _send(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
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
                stream=stream,
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise PortalUnreachableError(f"{self.origin} can't be reached: {error}") from error
        if response.status_code >= 300:
            raise self._refusal(response)
        return response

    def _refusal(self, response: requests.Response) -> PortalError:
        try:
            problem = Problem.model_validate(json_parse(response.content, limit_bytes=ANSWER_LIMIT_BYTES))
        except (VerificationError, ValidationError):
            return PortalProtocolError(f"{self.origin} answered {response.status_code} without a reason. Is this the address of a portal?")
        if response.status_code >= 500:
            return PortalUnreachableError(f"{self.origin} answered {response.status_code}: {problem.title} ({problem.code})")
        return PortalRefusedError(problem)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_content(_COPY_BYTES)
        except (requests.RequestException, OSError) as error:
            raise PortalUnreachableError(f"{self.origin} can't be reached: {error}") from error


def _offset(response: requests.Response) -> int:
    text = response.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit()):
        raise PortalProtocolError(f"Expected an Upload-Offset; found {text[:40]!r}.")
    return int(text)
