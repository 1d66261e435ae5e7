"""Pages of the ledger."""

from django.urls import path

from ledger import views

urlpatterns = [
    path("ledger/", views.ledger_page, name="ledger-page"),
    path("ledger/checkpoints/", views.checkpoints_page, name="ledger-checkpoints-page"),
    path("ledger/<int:index>/", views.entry_page, name="ledger-entry-page"),
]
