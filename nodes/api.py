"""REST of nodes: join tokens, registration, own nodes, and what a host must know of the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ledger.coordinator_key import coordinator_public_key
from ledger.succession import predecessors_of
from nodes import selectors, services
from nodes.access import node_or_404
from nodes.authentication import HttpSignatureAuthentication, SignedBy, SignedPermission, registration_verify, rotation_signer
from nodes.models import Node, NodeState
from nodes.rotation import node_key_rotate
from nodes.tiers import tier_classify
from people.api import PROBLEM, user_of
from people.models import Scope
from people.paging import page_of
from people.parsing import StrictJSONParser
from people.permissions import ScopePermission
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.joining import (
    CoordinatorInfo,
    KeyRotationAnswer,
    KeyRotationRequest,
    RegistrationAnswer,
    RegistrationRequest,
)
from workers.protocol.messages.machine import NodeProfile, Tier
from workers.protocol.validation import PROTOCOL_VERSIONS, message_parse

NODE_NAME = r"^[^\x00-\x1f]{1,64}$"
ROTATION_BYTES_MAX = 16 * 1024
REGISTRATION_RESPONSES = {
    201: RegistrationAnswer,
    200: RegistrationAnswer,
    **dict.fromkeys((400, 401, 403, 409, 413, 422), PROBLEM),
}


class NodeSerializer(serializers.ModelSerializer[Node]):
    """A node as its owner sees it; `profile` is what the host said of itself."""

    state = serializers.ChoiceField(choices=NodeState.choices)
    tier = serializers.ChoiceField(choices=[tier.value for tier in Tier])
    queues = serializers.ListField(child=serializers.CharField())
    profile = serializers.DictField()
    tier_reasons = serializers.SerializerMethodField(help_text="Why the tier is not a higher one.")
    last_no_work = serializers.DictField(allow_null=True, child=serializers.CharField())

    class Meta:
        model = Node
        fields: ClassVar = [
            "id",
            "name",
            "key_id",
            "state",
            "tier",
            "tier_reasons",
            "queues",
            "benchmark_gflops",
            "profile",
            "created_at",
            "last_seen_at",
            "last_no_work",
            "clone_seen_at",
        ]

    def get_tier_reasons(self, node: Node) -> list[str]:
        return list(tier_classify(NodeProfile.model_validate(node.profile)).reasons)


class NodePageSerializer(serializers.Serializer[Any]):
    """`next` is the `after` of the following page, or null on the last one."""

    nodes = NodeSerializer(many=True)
    next = serializers.UUIDField(allow_null=True)


class NodePageQuerySerializer(serializers.Serializer[Any]):
    """Which page of nodes."""

    after = serializers.UUIDField(required=False)
    limit = serializers.IntegerField(required=False, default=100, min_value=1, max_value=200)


class JoinTokenMintSerializer(serializers.Serializer[Any]):
    """What its node is to be called, and how long the token may wait for its host."""

    name = serializers.RegexField(
        NODE_NAME,
        required=False,
        max_length=64,
        help_text="Used unless the host gives a name of its own. Absent: as the machine calls itself.",
    )
    lifetime_seconds = serializers.IntegerField(
        required=False,
        min_value=services.JOIN_LIFETIME_SECONDS_MIN,
        max_value=services.JOIN_LIFETIME_SECONDS_MAX,
        help_text="Absent: as this portal is configured, usually an hour.",
    )


class JoinTokenMintedSerializer(serializers.Serializer[Any]):
    """A join token, shown this once, and the command to run on the host."""

    token = serializers.CharField()
    command = serializers.CharField()
    expires_at = serializers.DateTimeField()


def registration_answer(request: Request) -> Response:
    """Registers the node of a verified registration: 201, or 200 when the same host asks again."""
    message = request.auth
    if not isinstance(message, RegistrationRequest):
        raise TypeError("a registration view without registration_verify")
    node, created = services.node_register(message=message)
    answer = RegistrationAnswer(
        protocol_version=PROTOCOL_VERSION,
        node_id=node.pk,
        key_id=node.key_id,
        name=node.name,
        owner=node.owner.username,
        tier=Tier(node.tier),
        queues=tuple(Tier(queue) for queue in node.queues),
        coordinator_key=coordinator_public_key().to_base64(),
        origin=settings.NEXA_ORIGIN,
    )
    return Response(answer.model_dump(mode="json"), status.HTTP_201_CREATED if created else status.HTTP_200_OK)


class RegistrationView(APIView):
    """`POST /register`: signed (RFC 9421) with the key that it registers."""

    permission_classes = [SignedPermission]

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [HttpSignatureAuthentication(registration_verify)]

    @extend_schema(operation_id="register", request=RegistrationRequest, responses=REGISTRATION_RESPONSES)
    def post(self, request: Request) -> Response:
        """Registers a host with a one-time join token. Idempotent for the same key and token."""
        return registration_answer(request)


class NodeListView(APIView):
    """`/api/v1/nodes`: `POST` registers a host (as `/register`), `GET` lists the caller's nodes."""

    parser_classes = [StrictJSONParser]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.NODES_READ}

    def get_authenticators(self) -> list[BaseAuthentication]:
        if self.request is not None and self.request.method == "POST":
            return [HttpSignatureAuthentication(registration_verify)]
        return super().get_authenticators()

    def get_permissions(self) -> list[BasePermission]:
        return [SignedPermission() if self.request.method == "POST" else ScopePermission()]

    @extend_schema(
        operation_id="nodes_list",
        parameters=[NodePageQuerySerializer],
        responses={200: NodePageSerializer, 400: PROBLEM, 401: PROBLEM, 403: PROBLEM},
    )
    def get(self, request: Request) -> Response:
        """The caller's nodes, oldest first, revoked ones too."""
        query = NodePageQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        limit: int = query.validated_data["limit"]
        nodes = selectors.nodes_of(owner=user_of(request), after=query.validated_data.get("after"), limit=limit + 1)
        page, last = page_of(nodes, limit)
        return Response({"nodes": NodeSerializer(page, many=True).data, "next": last and last.pk})

    @extend_schema(operation_id="nodes_register", request=RegistrationRequest, responses=REGISTRATION_RESPONSES)
    def post(self, request: Request) -> Response:
        """Registers a host with a one-time join token. Idempotent for the same key and token."""
        return registration_answer(request)


class NodeKeyView(APIView):
    """`POST /api/v1/nodes/self/key`: signed (RFC 9421) with the key that is being replaced."""

    permission_classes = [SignedPermission]

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [HttpSignatureAuthentication(rotation_signer)]

    @extend_schema(
        operation_id="node_key_rotate",
        request=KeyRotationRequest,
        responses={200: KeyRotationAnswer, **dict.fromkeys((400, 401, 403, 409, 413), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Gives the signing node another key, whose possession `proof` proves. Idempotent for the same two keys."""
        signer = request.auth
        if not isinstance(signer, SignedBy):
            raise TypeError("a rotation view without rotation_signer")
        message = message_parse(KeyRotationRequest, request._request.body, limit_bytes=ROTATION_BYTES_MAX)
        node = node_key_rotate(signer=signer, message=message)
        answer = KeyRotationAnswer(protocol_version=PROTOCOL_VERSION, node_id=node.pk, key_id=node.key_id)
        return Response(answer.model_dump(mode="json"))


class NodeView(APIView):
    """`GET /api/v1/nodes/<id>`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.NODES_READ}

    @extend_schema(operation_id="node", responses={200: NodeSerializer, 401: PROBLEM, 403: PROBLEM, 404: PROBLEM})
    def get(self, request: Request, node_id: UUID) -> Response:
        """One node of the caller."""
        return Response(NodeSerializer(node_or_404(owner=user_of(request), node_id=node_id)).data)


class _NodeActionView(APIView):
    """Something that an owner does to a node: POST without a body, idempotent, answers with the node."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"POST": Scope.NODES_WRITE}
    act: ClassVar[Callable[..., Node]]

    def post(self, request: Request, node_id: UUID) -> Response:
        node = type(self).act(node=node_or_404(owner=user_of(request), node_id=node_id))
        return Response(NodeSerializer(node).data)


_ACTION_RESPONSES = {200: NodeSerializer, **dict.fromkeys((401, 403, 404, 409), PROBLEM)}


@extend_schema_view(post=extend_schema(operation_id="node_revoke", request=None, responses=_ACTION_RESPONSES))
class NodeRevokeView(_NodeActionView):
    """Ends a node's identity for good; its key opens nothing any more."""

    act = staticmethod(services.node_revoke)


@extend_schema_view(post=extend_schema(operation_id="node_pause", request=None, responses=_ACTION_RESPONSES))
class NodePauseView(_NodeActionView):
    """No further work for a node; what it runs goes on."""

    act = staticmethod(services.node_pause)


@extend_schema_view(post=extend_schema(operation_id="node_drain", request=None, responses=_ACTION_RESPONSES))
class NodeDrainView(_NodeActionView):
    """No further work for a node; when what it runs is reported, its worker ends."""

    act = staticmethod(services.node_drain)


@extend_schema_view(post=extend_schema(operation_id="node_resume", request=None, responses=_ACTION_RESPONSES))
class NodeResumeView(_NodeActionView):
    """Work for a paused or draining node again."""

    act = staticmethod(services.node_resume)


class JoinTokenView(APIView):
    """`POST /api/v1/join-tokens`."""

    parser_classes = [StrictJSONParser]
    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"POST": Scope.NODES_WRITE}

    @extend_schema(
        operation_id="join_tokens_mint",
        request=JoinTokenMintSerializer,
        responses={201: JoinTokenMintedSerializer, **dict.fromkeys((400, 401, 403, 409, 413, 415), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Mints a join token: it lets one host register once, as the caller's node."""
        wanted = JoinTokenMintSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        lifetime_seconds = wanted.validated_data.get("lifetime_seconds", settings.NEXA_JOIN_TOKEN_SECONDS)
        name = wanted.validated_data.get("name", "")
        token, text = services.join_token_create(owner=user_of(request), lifetime_seconds=lifetime_seconds, name=name)
        minted = {"token": text, "command": f"nexa join {text}", "expires_at": token.expires_at}
        return Response(JoinTokenMintedSerializer(minted).data, status.HTTP_201_CREATED)


class CoordinatorView(APIView):
    """`GET /api/v1/coordinator`: public."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="coordinator", auth=[], responses={200: CoordinatorInfo})
    def get(self, request: Request) -> Response:
        """The coordinator's key, those it had before, and the protocol versions that it speaks. Compare `key_id` with the join token's."""
        key = coordinator_public_key()
        info = CoordinatorInfo(
            protocol_versions=PROTOCOL_VERSIONS,
            origin=settings.NEXA_ORIGIN,
            public_key=key.to_base64(),
            key_id=key.key_id,
            predecessors=predecessors_of(key),
        )
        return Response(info.model_dump(mode="json"))
