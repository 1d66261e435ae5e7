"""The public ledger: anyone may read it, and nobody's name is in it.

`checkpoint` and `tile/…` follow C2SP tlog-tiles, so that its readers work here; the rest is for people and small scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ledger import exports, selectors, tiles
from ledger.checkpoints import checkpoint_latest, log_origin
from ledger.epochs import epoch_documents
from ledger.errors import BeyondLogError, LedgerQueryInvalidError
from ledger.publication import published_file
from workers.protocol.messages.base import Problem
from workers.protocol.strict_base64 import base64_encode
from workers.protocol.tlog_tiles import TILE_WIDTH, place_parse

NUMBER_MAX = 2**62
PAGE_MAX = 1000
_IMMUTABLE = "public, max-age=31536000, immutable"
_HOUR = "public, max-age=3600"
_SHORT = "public, max-age=2"
PROBLEM = OpenApiResponse(Problem, description="Problem details (RFC 9457) with a stable `code`.")


class AnyAcceptNegotiation(BaseContentNegotiation):
    """Each address has one representation, whatever `Accept` says: readers of tiles and notes ask for text or octets."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class PublicView(APIView):
    """For everybody: no credential is looked at."""

    authentication_classes = []
    permission_classes = [AllowAny]
    content_negotiation_class = AnyAcceptNegotiation


class LeafSerializer(serializers.Serializer[Any]):
    """One leaf of the log, with what its kind has (docs/PROTOCOL.md, section 15); amounts are whole millionths of a credit, as strings."""

    index = serializers.IntegerField()
    kind = serializers.CharField()
    key = serializers.CharField()
    at = serializers.DateTimeField()
    entry = serializers.CharField(required=False)
    evidence = serializers.DictField(required=False)
    postings = serializers.ListField(child=serializers.DictField(), required=False)


class LeavesSerializer(serializers.Serializer[Any]):
    """A page of the log; `next_after` is null on the last."""

    entries = LeafSerializer(many=True)
    next_after = serializers.IntegerField(allow_null=True)


class EpochSerializer(serializers.Serializer[Any]):
    """An epoch after the first: the name of its log, and the coordinator's statement about it (DSSE)."""

    number = serializers.IntegerField()
    origin = serializers.CharField()
    envelope = serializers.DictField()


class EpochsSerializer(serializers.Serializer[Any]):
    """`origin` is the name of the log now. `epochs` is empty where the database never came back from a backup."""

    origin = serializers.CharField()
    epochs = EpochSerializer(many=True)


class ProofSerializer(serializers.Serializer[Any]):
    """An RFC 9162 proof: base64 of 32-byte hashes, in the order in which a verifier takes them."""

    proof = serializers.ListField(child=serializers.CharField())


def _number_parameter(name: str, *, required: bool, description: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.INT64, required=required, description=description)


def _proof_schema(operation_id: str, **numbers: str) -> Callable[[Any], Any]:
    """Of an address that answers a proof; `numbers`: its parameters and what they are."""
    parameters = [_number_parameter(name, required=True, description=words) for name, words in numbers.items()]
    return extend_schema(operation_id=operation_id, parameters=parameters, responses={200: ProofSerializer, 400: PROBLEM, 404: PROBLEM})


def _proof(hashes: list[bytes]) -> Response:
    return Response({"proof": [base64_encode(one) for one in hashes]})


class CheckpointView(PublicView):
    """`GET /api/v1/ledger/checkpoint`."""

    @extend_schema(operation_id="ledger_checkpoint", responses={(200, "text/plain"): str, 404: PROBLEM})
    def get(self, request: Request) -> HttpResponseBase:
        """The newest checkpoint, a C2SP signed note."""
        if (published := published_file("checkpoint")) is not None:
            return _note(published)
        checkpoint = checkpoint_latest()
        if checkpoint is None:
            raise BeyondLogError("The log has no entry yet; the first checkpoint comes with the first entry.")
        return _note(checkpoint.note)


class EntriesView(PublicView):
    """`GET /api/v1/ledger/entries`."""

    @extend_schema(
        operation_id="ledger_entries",
        parameters=[
            _number_parameter("after", required=False, description="index after which to start; absent: at the beginning"),
            _number_parameter("limit", required=False, description=f"1 to {PAGE_MAX}; absent: 100"),
        ],
        responses={200: LeavesSerializer, 400: PROBLEM},
    )
    def get(self, request: Request) -> Response:
        """Entries in the order of the log."""
        after = _number(request, "after", default=-1, lowest=-1)
        limit = _number(request, "limit", default=100, lowest=1, highest=PAGE_MAX)
        page = selectors.leaves_page(after=after, limit=limit)
        following = page[-1].index if len(page) == limit else None
        return Response({"entries": [selectors.leaf_document(leaf) for leaf in page], "next_after": following})


class ExportView(PublicView):
    """`GET /api/v1/ledger/export`."""

    @extend_schema(operation_id="ledger_export", responses={(200, "application/jsonl"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponseBase:
        """The whole log as JSON lines: each line is exactly what its leaf hash covers."""
        return _stream(request, exports.json_lines, content_type="application/jsonl")


class CsvExportView(PublicView):
    """`GET /api/v1/ledger/export.csv`."""

    @extend_schema(operation_id="ledger_export_csv", responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponseBase:
        """The entries of the log for spreadsheets, a row a posting. For checking hashes take the JSON lines."""
        response = _stream(request, exports.csv_rows, content_type="text/csv; charset=utf-8; header=present")
        response["Content-Disposition"] = 'attachment; filename="ledger.csv"'
        return response


class EpochsView(PublicView):
    """`GET /api/v1/ledger/epochs`."""

    @extend_schema(operation_id="ledger_epochs", responses={200: EpochsSerializer})
    def get(self, request: Request) -> Response:
        """When the log went on under another name, and why."""
        return Response({"origin": log_origin(), "epochs": epoch_documents()})


class InclusionView(PublicView):
    """`GET /api/v1/ledger/proof/inclusion`."""

    @_proof_schema("ledger_proof_inclusion", index="the leaf", size="the tree: a checkpoint's size")
    def get(self, request: Request) -> Response:
        """That a leaf is in a tree."""
        index, size = _number(request, "index"), _number(request, "size", lowest=1)
        if index >= size:
            raise LedgerQueryInvalidError(f"Expected an index below size; found {index} and {size}.")
        _within_log(size)
        return _proof(selectors.inclusion_proof_of(index=index, size=size))


class ConsistencyView(PublicView):
    """`GET /api/v1/ledger/proof/consistency`."""

    @_proof_schema("ledger_proof_consistency", old="an older checkpoint's size", new="a newer checkpoint's size")
    def get(self, request: Request) -> Response:
        """That a tree begins with an older one."""
        old, new = _number(request, "old"), _number(request, "new")
        if old > new:
            raise LedgerQueryInvalidError(f"Expected old to be at most new; found {old} and {new}.")
        _within_log(new)
        return _proof(selectors.consistency_proof_of(old=old, new=new))


class TileView(PublicView):
    """`GET /api/v1/ledger/tile/<level>/<place>` and `tile/entries/<place>` (C2SP tlog-tiles)."""

    @extend_schema(
        operation_id="ledger_tile",
        parameters=[
            OpenApiParameter("level", str, OpenApiParameter.PATH, description="0 to 7, or `entries`", pattern="^([0-7]|entries)$"),
            OpenApiParameter("place", str, OpenApiParameter.PATH, description="tlog-tiles index, for example x001/234.p/7"),
        ],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, 404: PROBLEM},
    )
    def get(self, request: Request, level: str, place: str) -> HttpResponseBase:
        """A tile of hashes, 32 bytes each, or a bundle of entries, each after its length in 2 bytes. Never changes."""
        found = place_parse(place)
        if found is None:
            raise BeyondLogError("Expected a tile index as tlog-tiles writes it, for example x001/234 or 000.p/7.")
        index, width = found
        is_full = width == TILE_WIDTH
        name = f"tile/{level}/{place}"
        if is_full and (published := published_file(name)) is not None:
            return _octets(published, is_full)
        try:
            data = tiles.entry_bundle(index, width) if level == "entries" else b"".join(tiles.tile_hashes(int(level), index, width))
        except tiles.TileMissingError as error:
            raise BeyondLogError(str(error)) from error
        return _octets(data, is_full)


def _stream(request: Request, export: Callable[[exports.Leaves], bytes], *, content_type: str) -> StreamingHttpResponse:
    """The log a page at a time, each as `export` writes it."""
    # Django reads a whole synchronous iterator into memory before it serves it under ASGI, and an asynchronous one under WSGI.
    pages = exports.pages_async if isinstance(request._request, ASGIRequest) else exports.pages
    return StreamingHttpResponse(pages(export), content_type=content_type)


def _note(note: str | bytes) -> HttpResponse:
    return HttpResponse(note, content_type="text/plain; charset=utf-8", headers={"Cache-Control": _SHORT})


def _octets(data: bytes, is_full: bool) -> HttpResponse:
    """A partial tile gives way to a longer one within seconds: nobody should keep it for a year."""
    return HttpResponse(data, content_type="application/octet-stream", headers={"Cache-Control": _IMMUTABLE if is_full else _HOUR})


def _number(request: Request, name: str, *, default: int | None = None, lowest: int = 0, highest: int = NUMBER_MAX) -> int:
    """A whole number from the query. Raises LedgerQueryInvalidError."""
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    negative_allowed = text is not None and text.startswith("-") and lowest < 0
    digits = (text or "")[1:] if negative_allowed else (text or "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19) or not lowest <= int(text or "") <= highest:
        raise LedgerQueryInvalidError(f"Expected {name} to be a whole number from {lowest} to {highest}; found {(text or '')[:40]!r}.")
    return int(text or "")


def _within_log(size: int) -> None:
    latest = checkpoint_latest()
    if latest is None or size > latest.size:
        raise BeyondLogError(f"The newest checkpoint covers {latest.size if latest else 0} leaves; asked for {size}.")
