"""REST of the wall: for everybody, as the page."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from nodes.wall.asking import PAGE_ROWS, Kind, Period, WallAsked
from nodes.wall.selectors import PLACE_MAX, wall_totals
from people.api import PROBLEM


class WallQuerySerializer(serializers.Serializer[Any]):
    """Which part of the wall."""

    period = serializers.ChoiceField(required=False, default=Period.ALL, choices=[one.value for one in Period])
    by = serializers.ChoiceField(required=False, default=Kind.PEOPLE, choices=[one.value for one in Kind])
    science = serializers.CharField(required=False, default="", max_length=64, allow_blank=True)
    limit = serializers.IntegerField(required=False, default=PAGE_ROWS, min_value=1, max_value=200)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        place = serializers.IntegerField(required=False, default=1, min_value=1, max_value=PLACE_MAX, help_text="the place to begin at")
        return {**super().get_fields(), "from": place}  # a word of Python's own


class WallRowSerializer(serializers.Serializer[Any]):
    """A line. `name` is null for a person who is not public; `account_id` is null for a team. Amounts are whole millionths, as strings."""

    rank = serializers.IntegerField()
    name = serializers.CharField(allow_null=True)
    team = serializers.CharField(allow_null=True)
    account_id = serializers.UUIDField(allow_null=True)
    members = serializers.IntegerField()
    work_micro = serializers.CharField(help_text="verified work, in millionths of a TFLOP/s-hour")
    paid_micro = serializers.CharField(help_text="in millionths of a credit")
    accepted = serializers.IntegerField(help_text="receipts that were accepted")
    judged = serializers.IntegerField(help_text="receipts that were accepted or rejected")
    since = serializers.DateField(help_text="a person's first workday; the day on which a team was founded")


class WallSerializer(serializers.Serializer[Any]):
    """`next_from` is null on the last page."""

    contributors = serializers.IntegerField()
    work_micro = serializers.CharField()
    paid_micro = serializers.CharField()
    rows = WallRowSerializer(many=True)
    next_from = serializers.IntegerField(allow_null=True)


class WallView(APIView):
    """`GET /api/v1/wall`."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="wall", auth=[], parameters=[WallQuerySerializer], responses={200: WallSerializer, 400: PROBLEM})
    def get(self, request: Request) -> Response:
        """Who contributed how much, most verified work first."""
        query = WallQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        values = query.validated_data
        asked = WallAsked(Period(values["period"]), values["science"], Kind(values["by"]), values["from"])
        limit: int = values["limit"]
        rows = asked.rows(limit=limit + 1)
        totals = wall_totals(period_days=asked.period.days, science=asked.science)
        return Response(
            {
                "contributors": totals.contributors,
                "work_micro": str(totals.work_micro),
                "paid_micro": str(totals.paid_micro),
                "rows": [
                    {
                        "rank": row.rank,
                        "name": row.name or None,
                        "team": row.team or None,
                        "account_id": row.account_id or None,
                        "members": row.members,
                        "work_micro": str(row.work_micro),
                        "paid_micro": str(row.paid_micro),
                        "accepted": row.accepted,
                        "judged": row.accepted + row.rejected,
                        "since": row.since.isoformat(),
                    }
                    for row in rows[:limit]
                ],
                "next_from": asked.first + limit if len(rows) > limit and asked.first + limit <= PLACE_MAX else None,
            }
        )
