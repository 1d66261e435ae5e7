"""The coordinator's HTTP interface, as a host calls it: signed requests out, checked answers in.

Every way in which a call can end without an answer is one of these; nothing else leaves this module:

    PortalError
    ├── PortalUnreachableError     no answer, or one of a portal in trouble (5xx, 429): try again later
    │   ├── PortalInterruptedError     this process gave the call up itself
    │   └── PortalTooLargeError        more bytes than the portal, or a proxy before it, takes at once (413): try again with fewer
    ├── PortalProtocolError        an answer that the protocol does not know: wrong address, a proxy, another version
    └── PortalRefusedError         no, with the problem's stable `code`: trying the same again will not help
        ├── SenderRefusedError         no to who sends it (401, 403), with no word about what was sent
        └── ProtocolUnspokenError      no to this version of the protocol
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urljoin, urlsplit
from uuid import UUID

import requests
from pydantic import BaseModel, ValidationError

from workers.clock import PortalClock
from workers.interruption import InterruptibleAdapter
from workers.protocol.canonical import json_parse
from workers.protocol.errors import VerificationError
from workers.protocol.http_signatures import request_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION, Problem
from workers.protocol.messages.delivery import ReceiptAnswer, ReceiptResult, ReceiptsAnswer, ReceiptSubmission, SubmittedReceipt
from workers.protocol.messages.exchange import ExchangeAnswer, ExchangeRequest
from workers.protocol.messages.joining import (
    CoordinatorInfo,
    KeyRotationAnswer,
    KeyRotationRequest,
    RegistrationAnswer,
    RegistrationRequest,
)
from workers.protocol.strict_base64 import base64_encode
from workers.protocol.validation import ProtocolUnsupportedError
from workers.versions import protocol_gap

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
ANSWER_LIMIT_BYTES = 16 * 2**20
STREAM_CHUNK_BYTES = 256 * 1024
TUS_VERSION = "1.0.0"

_UNAUTHORIZED = 401
_OF_SENDER = frozenset({401, 403})
_RETRYABLE = frozenset({408, 425, 429})
_TOO_LARGE_CODES = frozenset({"body_too_large", "json_too_large"})
"""Of a request. What else is too large is so in however many pieces it comes."""
RETRY_AFTER_SECONDS_MAX = 300.0
"""A portal may ask for more; nobody is kept waiting for longer."""

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class PortalError(Exception):
    """A call to the portal brought no answer to use."""


class PortalUnreachableError(PortalError):
    """The portal did not answer, or could not: worth trying again, in `retry_after_seconds` at the earliest, if it asks for that."""

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PortalInterruptedError(PortalUnreachableError):
    """The call was given up by `PortalClient.interrupt`."""


class PortalTooLargeError(PortalUnreachableError):
    """The request had too many bytes: no word about what it brought, only about how much at once."""


class PortalProtocolError(PortalError):
    """What came back is not what the protocol says."""


class PortalRefusedError(PortalError):
    """The portal said no. `code` is stable (see docs/PROTOCOL.md), `detail` is for people."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title} ({problem.code}): {problem.detail}")
        self.code = problem.code
        self.status = problem.status
        self.detail = problem.detail


class SenderRefusedError(PortalRefusedError):
    """The portal will have nothing from this node now: an account that is closed, a signature that a proxy spoilt, a node that it lost."""


class ProtocolUnspokenError(PortalRefusedError):
    """The portal no longer speaks this host's version of the protocol, or not yet; `detail` says what to do."""

    def __init__(self, problem: Problem) -> None:
        spoken = (problem.model_extra or {}).get("supported")
        gap = protocol_gap([version for version in spoken if type(version) is int] if isinstance(spoken, list) else [])
        super().__init__(problem if gap is None else problem.model_copy(update={"detail": str(gap)}))


@dataclass(frozen=True)
class UploadState:
    """An upload as the portal has it: its address and the bytes that arrived."""

    url: str
    offset_bytes: int


@dataclass(frozen=True)
class BlobBody:
    """Bytes of a blob in chunks, the first of which is at `offset_bytes`: 0 when the portal gives the whole."""

    offset_bytes: int
    chunks: Iterator[bytes]


class PortalClient:
    """One portal, at one origin, called with one node key (None before joining: then only unsigned calls work).

    Use from one thread; `interrupt` and `clone` may be called from any. Redirects are not followed: a signature is for one address.
    """

    def __init__(
        self, origin: str, key: PrivateKey | None, *, clock: PortalClock | None = None, read_seconds: float = READ_SECONDS
    ) -> None:
        """`read_seconds`: how long the portal may keep silent before a call counts as unanswered; an exchange says for itself."""
        self.origin = origin
        self._read_seconds = read_seconds
        self._key = key
        self.clock = clock or PortalClock()
        self._adapter = InterruptibleAdapter()
        self._session = requests.Session()
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)

    def clone(self) -> PortalClient:
        """Another client like this one, for another thread."""
        return PortalClient(self.origin, self._key, clock=self.clock, read_seconds=self._read_seconds)

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        self._session.close()

    def interrupt(self) -> None:
        """End the call in progress with PortalInterruptedError. Safe in a signal handler; takes no lock."""
        self._adapter.interrupt()

    @property
    def interruptions(self) -> int:
        """How often `interrupt` was called. Whoever makes a call that an interruption of before shall end too takes it before."""
        return self._adapter.interruptions

    def coordinator(self) -> CoordinatorInfo:
        """What the portal says that it is; unsigned, so compare `key_id` with what the join token says."""
        return self._call("GET", "/api/v1/coordinator", CoordinatorInfo, signed=False)

    def register(self, message: RegistrationRequest) -> RegistrationAnswer:
        """Make this key a node. The same again gives the same answer."""
        return self._call("POST", "/api/v1/nodes", RegistrationAnswer, message=message)

    def key_rotate(self, message: KeyRotationRequest) -> KeyRotationAnswer:
        """Give the node another key; this client goes on with the old one. The same again gives the same answer."""
        return self._call("POST", "/api/v1/nodes/self/key", KeyRotationAnswer, message=message)

    def exchange(self, message: ExchangeRequest, *, interruptions: int | None = None) -> ExchangeAnswer:
        """The long poll: blocks up to `message.wait_seconds` and a little.

        `interruptions`: as they were before `message` was made; it is given up if there was one since.
        """
        answer = self._call(
            "POST",
            "/api/v1/exchange",
            ExchangeAnswer,
            message=message,
            read_seconds=message.wait_seconds + 15,
            interruptions=interruptions,
        )
        if answer.request_id != message.request_id:
            raise PortalProtocolError(f"Expected the answer to the request {message.request_id}; found one to {answer.request_id}.")
        return answer

    def receipt_submit(self, receipt: SubmittedReceipt) -> ReceiptAnswer:
        """Hand a receipt in. The same again gives the same answer. A problem of the receipt is raised as one of the call is."""
        (result,) = self.receipts_submit([receipt])
        if result.answer is None:
            raise self._refusal_of(result.problem)
        return result.answer

    def receipts_submit(self, receipts: Sequence[SubmittedReceipt]) -> tuple[ReceiptResult, ...]:
        """Hand up to RECEIPTS_MAX receipts in; what became of each, in their order."""
        message = ReceiptSubmission(protocol_version=PROTOCOL_VERSION, receipts=tuple(receipts))
        results = self._call("POST", "/api/v1/receipts", ReceiptsAnswer, message=message).results
        if len(results) != len(receipts):
            raise PortalProtocolError(f"Expected a result for each of {len(receipts)} receipts; found {len(results)}.")
        return results

    def leave(self) -> None:
        """Tell the portal that this node is no more."""
        self._close(self._send("POST", "/api/v1/nodes/self/leave"))

    def upload_create(self, *, lease_id: UUID, digest: str, size_bytes: int) -> UploadState:
        """Announce a blob (tus creation), or find the upload that an earlier try announced."""
        metadata = {"digest": digest, "lease_id": str(lease_id)}
        response = self._send(
            "POST",
            "/api/v1/uploads",
            headers={
                "Tus-Resumable": TUS_VERSION,
                "Upload-Length": str(size_bytes),
                "Upload-Metadata": ",".join(f"{name} {base64_encode(value.encode())}" for name, value in metadata.items()),
            },
        )
        self._close(response)
        try:
            url = urljoin(response.url, response.headers.get("Location", ""))
        except ValueError:
            url = response.headers["Location"]
        if "Location" not in response.headers or not self.is_portal(url):
            raise PortalProtocolError(f"Expected the address of an upload on {self.origin}; found {url[:200]!r}.")
        return UploadState(url, self._offset(response, default=0, size_bytes=size_bytes))

    def upload_offset(self, url: str, *, size_bytes: int) -> UploadState:
        """How far an upload has come (tus HEAD)."""
        response = self._send("HEAD", url, headers={"Tus-Resumable": TUS_VERSION})
        self._close(response)
        return UploadState(url, self._offset(response, default=None, size_bytes=size_bytes))

    def upload_append(self, url: str, *, offset_bytes: int, chunk: bytes, size_bytes: int) -> UploadState:
        """Send the bytes at `offset_bytes` (tus PATCH); the chunk's digest is signed."""
        response = self._send(
            "PATCH",
            url,
            headers={"Tus-Resumable": TUS_VERSION, "Upload-Offset": str(offset_bytes), "Content-Type": "application/offset+octet-stream"},
            body=chunk,
        )
        self._close(response)
        return UploadState(url, self._offset(response, default=None, size_bytes=size_bytes))

    @contextmanager
    def blob(self, url: str, *, offset_bytes: int = 0, digest: str = "") -> Iterator[BlobBody]:
        """The bytes at `url`, which must be on the portal; unverified. Errors while reading are PortalErrors too.

        With an offset, only what follows it is asked for, if the portal still has `digest` there; look at the answer's own offset.
        """
        if not self.is_portal(url):
            raise PortalProtocolError(f"Expected an address on {self.origin}; found {url[:200]!r}. Nothing is fetched from elsewhere.")
        # Compressed on the way, offsets would count other bytes.
        headers = {"Accept-Encoding": "identity"}
        if offset_bytes:
            headers |= {"Range": f"bytes={offset_bytes}-", "If-Range": f'"{digest}"'}
        response = self._send("GET", url, headers=headers)
        try:
            yield BlobBody(self._first_byte(response, offset_bytes), self._chunks(response))
        finally:
            response.close()

    def is_portal(self, url: str) -> bool:
        """Whether `url` is on this portal's origin."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        return f"{parts.scheme}://{parts.netloc}" == self.origin

    # --- one call -----------------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        answer: type[AnswerT],
        *,
        message: BaseModel | None = None,
        signed: bool = True,
        read_seconds: float | None = None,
        interruptions: int | None = None,
    ) -> AnswerT:
        body = None if message is None else message.model_dump_json().encode()
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        self._adapter.call_begin(interruptions)
        response = self._send_begun(method, path, headers=headers, body=body, signed=signed, read_seconds=read_seconds)
        data = self._body(response)
        try:
            return answer.model_validate(json_parse(data, limit_bytes=ANSWER_LIMIT_BYTES))
        except (VerificationError, ValidationError) as error:
            raise PortalProtocolError(f"{method} {path}: the answer is not {answer.__name__}: {error}") from error

    def _send(self, method: str, where: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> requests.Response:
        """As `_send_begun`, of a call that begins here."""
        self._adapter.call_begin(None)
        return self._send_begun(method, where, headers=headers, body=body)

    def _send_begun(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        signed: bool = True,
        read_seconds: float | None = None,
    ) -> requests.Response:
        """A successful response whose body is still to be read, or a PortalError. A clock that is off costs one more try."""
        response = self._sent_once(method, where, headers=headers, body=body, signed=signed, read_seconds=read_seconds)
        if response.status_code == _UNAUTHORIZED and signed and self.clock.learn_date(response.headers.get("Date")):
            response.close()
            response = self._sent_once(method, where, headers=headers, body=body, signed=signed, read_seconds=read_seconds)
        if response.status_code >= 300:
            raise self._refusal(response)
        return response

    def _sent_once(
        self, method: str, where: str, *, headers: Mapping[str, str] | None, body: bytes | None, signed: bool, read_seconds: float | None
    ) -> requests.Response:
        try:
            url = urljoin(self.origin, where)
            prepared = self._session.prepare_request(requests.Request(method, url, headers=dict(headers or {}), data=body))
        except ValueError as error:  # a RequestException about an address is one as well
            raise PortalProtocolError(f"Expected an address on {self.origin}; found {where[:200]!r}: {error}") from error
        if signed and self._key is not None:
            prepared.headers.update(
                request_sign(
                    method=method,
                    url=prepared.url or url,
                    headers={str(name): str(value) for name, value in prepared.headers.items()},
                    body=body,
                    key=self._key,
                    now=int(self.clock.time()),
                )
            )
        if self._adapter.is_interrupted:
            raise PortalInterruptedError("The call was given up before it was made.")
        try:
            # The environment's proxies and certificate bundle apply, as in any other use of requests.
            settings = self._session.merge_environment_settings(prepared.url, {}, True, None, None)
            return self._session.send(
                prepared, timeout=(CONNECT_SECONDS, read_seconds or self._read_seconds), allow_redirects=False, **settings
            )
        except (requests.RequestException, OSError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PortalUnreachableError:
        if self._adapter.is_interrupted:
            return PortalInterruptedError("The call was given up.")
        return PortalUnreachableError(f"{self.origin} can't be reached: {error}")

    def _refusal(self, response: requests.Response) -> PortalError:
        status = response.status_code
        if response.request.method == "HEAD" and status < 500 and status not in _RETRYABLE:
            # An answer to HEAD has no body that could hold a problem (RFC 9110, section 9.3.2).
            problem = Problem(title=response.reason or "Refused", status=status, code=f"status_{status}")
            return SenderRefusedError(problem) if status in _OF_SENDER else PortalRefusedError(problem)
        if status == requests.codes.requested_range_not_satisfiable:
            response.close()
            return PortalRefusedError(Problem(title="There are no such bytes", status=status, code=f"status_{status}"))
        told: Problem | None = None
        with suppress(PortalError, VerificationError, ValidationError):
            data = self._body(response)
            told = Problem.model_validate(json_parse(data, limit_bytes=ANSWER_LIMIT_BYTES)).model_copy(update={"status": status})
        if told is not None and status in _OF_SENDER:
            return SenderRefusedError(told)
        return self._refusal_of(told, status=status, retry_after_seconds=_retry_after_seconds(response.headers))

    def _refusal_of(self, problem: Problem | None, *, status: int = 0, retry_after_seconds: float = 0.0) -> PortalError:
        """What a problem, or an answer of this status without one, means to the caller."""
        status = problem.status if problem else status
        said = f"{problem.title} ({problem.code}): {problem.detail}" if problem else "no reason that this version can read"
        if status >= 500 or status in _RETRYABLE:
            return PortalUnreachableError(f"{self.origin} answered {status}: {said}", retry_after_seconds=retry_after_seconds)
        if status == requests.codes.request_entity_too_large and (problem is None or problem.code in _TOO_LARGE_CODES):
            return PortalTooLargeError(f"{self.origin} answered {status}: {said}")
        if problem is None:
            return PortalProtocolError(f"{self.origin} answered {status} with {said}. Is this the address of a portal?")
        return ProtocolUnspokenError(problem) if problem.code == ProtocolUnsupportedError.code else PortalRefusedError(problem)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_content(STREAM_CHUNK_BYTES)
        except (requests.RequestException, OSError) as error:
            raise self._unreachable(error) from error

    def _body(self, response: requests.Response) -> bytes:
        parts: list[bytes] = []
        size_bytes = 0
        try:
            for chunk in self._chunks(response):
                size_bytes += len(chunk)
                if size_bytes > ANSWER_LIMIT_BYTES:
                    raise PortalProtocolError(f"An answer has at most {ANSWER_LIMIT_BYTES} bytes; this one has more.")
                parts.append(chunk)
        finally:
            response.close()
        return b"".join(parts)

    def _close(self, response: requests.Response) -> None:
        self._body(response)

    def _first_byte(self, response: requests.Response, asked: int) -> int:
        """Where the body begins, by RFC 9110, section 14.4: at the start, or exactly where it was asked to."""
        if response.status_code != requests.codes.partial_content:
            return 0
        text = response.headers.get("Content-Range", "")
        if not asked or not text.startswith(f"bytes {asked}-"):
            raise PortalProtocolError(f"Expected the bytes of a blob from {asked} on; found the range {text[:100]!r}.")
        return asked

    def _offset(self, response: requests.Response, *, default: int | None, size_bytes: int) -> int:
        text = response.headers.get("Upload-Offset")
        if text is None and default is not None:
            return default
        if text is None or not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > size_bytes:
            raise PortalProtocolError(f"Expected an Upload-Offset of at most {size_bytes}; found {text!r}.")
        return int(text)


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """What `Retry-After` says (RFC 9110, section 10.2.3), within bounds; 0: nothing. A date is read by the answer's own clock."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_SECONDS_MAX)
    try:
        seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (TypeError, ValueError):  # no dates, or one of a zone and one of none
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
