"""Addresses under /api/v1/ledger/."""

from __future__ import annotations

from django.urls import path, re_path

from ledger import api

urlpatterns = [
    path("checkpoint", api.CheckpointView.as_view(), name="ledger-checkpoint"),
    path("entries", api.EntriesView.as_view(), name="ledger-entries"),
    path("epochs", api.EpochsView.as_view(), name="ledger-epochs"),
    path("export.csv", api.CsvExportView.as_view(), name="ledger-export-csv"),
    path("export", api.ExportView.as_view(), name="ledger-export"),
    path("proof/inclusion", api.InclusionView.as_view(), name="ledger-proof-inclusion"),
    path("proof/consistency", api.ConsistencyView.as_view(), name="ledger-proof-consistency"),
    re_path(r"^tile/(?P<level>[0-7]|entries)/(?P<place>[x0-9/.p]{3,40})$", api.TileView.as_view(), name="ledger-tile"),
]
