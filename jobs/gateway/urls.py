"""Addresses that hosts speak to, below /api/v1/; uploads and blobs serve people's API tokens too."""

from django.urls import path

from jobs.gateway.departures import leave_view
from jobs.gateway.downloads import blob_view
from jobs.gateway.exchange import exchange_view
from jobs.gateway.receipts import receipts_view
from jobs.gateway.uploads import upload_view, uploads_view

urlpatterns = [
    path("exchange", exchange_view, name="exchange"),
    path("nodes/self/leave", leave_view, name="node-leave"),
    path("receipts", receipts_view, name="receipts"),
    path("uploads", uploads_view, name="uploads"),
    path("uploads/<uuid:upload_id>", upload_view, name="upload"),
    path("blobs/<str:digest>", blob_view, name="blob"),
]
