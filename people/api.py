"""REST of people: who am I, and my API tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from people import selectors, services
from people.models import ApiToken, Scope, User
from people.parsing import StrictJSONParser
from people.permissions import ScopePermission, SessionPermission, TokenItselfOrSessionPermission
from workers.protocol.messages.base import Problem

PROBLEM = OpenApiResponse(Problem, description="Problem details (RFC 9457) with a stable `code`.")


def user_of(request: Request) -> User:
    """The signed-in user; permissions have made sure that there is one."""
    user = request.user
    if not isinstance(user, User):
        raise TypeError("a view without an authentication permission asked for the user")
    return user


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    """A token without its secret."""

    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))

    class Meta:
        model = ApiToken
        fields: ClassVar = ["id", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]


class TokenMintSerializer(serializers.Serializer[Any]):
    """What to mint; `expires_at` null or absent: it lives until it is revoked."""

    name = serializers.CharField(max_length=64)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), min_length=1, max_length=16)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class TokenMintedSerializer(TokenSerializer):
    """A new token with its secret, shown this once."""

    secret = serializers.CharField()

    class Meta(TokenSerializer.Meta):
        fields: ClassVar = [*TokenSerializer.Meta.fields, "secret"]


class MeSerializer(serializers.Serializer[Any]):
    """The caller: their roles, and what this credential may do. `token` is null for a session."""

    username = serializers.CharField()
    email = serializers.CharField(allow_blank=True)
    roles = serializers.ListField(child=serializers.ChoiceField(choices=["contributor", "researcher", "moderator"]))
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    researcher_approved_at = serializers.DateTimeField(allow_null=True)
    token = TokenSerializer(allow_null=True)


class MeView(APIView):
    """`GET /api/v1/me`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": None}

    @extend_schema(operation_id="me", responses={200: MeSerializer, 401: PROBLEM, 403: PROBLEM})
    def get(self, request: Request) -> Response:
        """Who the caller is and what this credential may do."""
        user = user_of(request)
        token = request.auth if isinstance(request.auth, ApiToken) else None
        return Response(
            {
                "username": user.username,
                "email": user.email,
                "roles": selectors.roles_of(user=user),
                "scopes": selectors.scopes_of(token=token),
                "researcher_approved_at": user.researcher_approved_at,
                "token": TokenSerializer(token).data if token else None,
            }
        )


class TokenListView(APIView):
    """`GET` and `POST /api/v1/tokens`: for sessions only."""

    parser_classes = [StrictJSONParser]
    permission_classes = [SessionPermission]

    @extend_schema(operation_id="tokens_list", responses={200: TokenSerializer(many=True), 401: PROBLEM, 403: PROBLEM})
    def get(self, request: Request) -> Response:
        """The caller's API tokens, newest first, without secrets."""
        return Response(TokenSerializer(selectors.tokens_of(owner=user_of(request)), many=True).data)

    @extend_schema(
        operation_id="tokens_mint",
        request=TokenMintSerializer,
        responses={
            201: TokenMintedSerializer,
            400: PROBLEM,
            401: PROBLEM,
            403: PROBLEM,
            409: PROBLEM,
            413: PROBLEM,
            415: PROBLEM,
        },
    )
    def post(self, request: Request) -> Response:
        """Mints an API token; its secret is in this answer and nowhere else."""
        wanted = TokenMintSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        token, secret = services.token_mint(owner=user_of(request), **wanted.validated_data)
        return Response({**TokenSerializer(token).data, "secret": secret}, status=status.HTTP_201_CREATED)


class TokenView(APIView):
    """`DELETE /api/v1/tokens/<id>`: a session revokes any token of its user, a token only itself."""

    permission_classes = [TokenItselfOrSessionPermission]

    @extend_schema(
        operation_id="tokens_revoke",
        request=None,
        responses={204: None, 401: PROBLEM, 403: PROBLEM, 404: PROBLEM},
    )
    def delete(self, request: Request, token_id: int) -> Response:
        """Revokes a token at once. Idempotent."""
        token = selectors.tokens_of(owner=user_of(request)).filter(pk=token_id).first()
        if token is None:
            raise Http404("You have no token with this id.")
        services.token_revoke(token=token)
        return Response(status=status.HTTP_204_NO_CONTENT)
