"""REST of one's own ledger account: the balance, and the statement that makes it up."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ledger import selectors
from ledger.models import Posting
from ledger.services import account_of
from people.api import PROBLEM, user_of
from people.models import Scope
from people.paging import page_of
from people.permissions import ScopePermission

PAGE_DEFAULT = 100
PAGE_MAX = 1000


class AccountSerializer(serializers.Serializer[Any]):
    """`account_id` is the opaque id in the public log; the balance is in whole millionths of a credit, as a string."""

    account_id = serializers.UUIDField()
    balance_micro = serializers.CharField()


class StatementQuerySerializer(serializers.Serializer[Any]):
    """`before` is the `next_before` of the page before."""

    before = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    limit = serializers.IntegerField(required=False, default=PAGE_DEFAULT, min_value=1, max_value=PAGE_MAX)


class StatementLineSerializer(serializers.Serializer[Any]):
    """One posting. `index` is the leaf that holds its entry; null until the entry is integrated, a second or so. `other_account`: of a
    transfer, where the credits came from or went."""

    id = serializers.IntegerField()
    entry = serializers.CharField()
    kind = serializers.CharField()
    at = serializers.DateTimeField()
    amount_micro = serializers.CharField()
    evidence = serializers.DictField()
    index = serializers.IntegerField(allow_null=True)
    other_account = serializers.UUIDField(allow_null=True)


class StatementSerializer(serializers.Serializer[Any]):
    """Postings, newest first; `next_before` is null on the last page."""

    lines = StatementLineSerializer(many=True)
    next_before = serializers.IntegerField(allow_null=True)


class AccountView(APIView):
    """`GET /api/v1/account`."""

    permission_classes = [ScopePermission]
    required_scopes = {"GET": Scope.LEDGER_READ}

    @extend_schema(operation_id="account", responses={200: AccountSerializer, 401: PROBLEM, 403: PROBLEM})
    def get(self, request: Request) -> Response:
        """The caller's account and its balance."""
        account = account_of(user=user_of(request))
        return Response({"account_id": str(account.pk), "balance_micro": str(account.balance_micro)})


class StatementView(APIView):
    """`GET /api/v1/account/statement`."""

    permission_classes = [ScopePermission]
    required_scopes = {"GET": Scope.LEDGER_READ}

    @extend_schema(
        operation_id="account_statement",
        parameters=[StatementQuerySerializer],
        responses={200: StatementSerializer, 400: PROBLEM, 401: PROBLEM, 403: PROBLEM},
    )
    def get(self, request: Request) -> Response:
        """The caller's postings with their evidence, newest first."""
        query = StatementQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        limit: int = query.validated_data["limit"]
        account = account_of(user=user_of(request))
        postings = selectors.statement_page(account=account, before=query.validated_data.get("before"), limit=limit + 1)
        page, last = page_of(postings, limit)
        return Response({"lines": [_line(posting) for posting in page], "next_before": last and last.pk})


def _line(posting: Posting) -> dict[str, Any]:
    entry, other = posting.entry, selectors.transfer_other_account(posting)
    leaf = getattr(entry.item, "leaf", None)
    return {
        "id": posting.pk,
        "entry": str(entry.pk),
        "kind": entry.kind,
        "at": entry.created_at.isoformat(),
        "amount_micro": str(posting.amount_micro),
        "evidence": entry.evidence,
        "index": leaf.index if leaf else None,
        "other_account": str(other) if other else None,
    }
