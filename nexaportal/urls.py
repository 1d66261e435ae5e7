"""Every address of the portal. The seed's names stand at the root beside their versioned twins."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularJSONAPIView

from jobs.api import StatusView, SubmitJobView
from nexaportal.api_reference import api_reference
from nexaportal.bank import bank_page, statement_download
from nexaportal.design import design_page
from nexaportal.docs import docs_index, docs_page
from nexaportal.health import healthz, readyz
from nexaportal.metrics import metrics
from nexaportal.views import favicon, home_page
from nodes.api import RegistrationView

api_v1: list[URLPattern | URLResolver] = [
    path("", include("people.urls")),
    path("", include("nodes.urls")),
    path("", include("jobs.urls")),
    path("", include("jobs.gateway.urls")),
    path("ledger/", include("ledger.urls")),
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
]

urlpatterns = [
    path("", home_page, name="home"),
    path("favicon.ico", favicon, name="favicon"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("design/", design_page, name="design"),
    path("bank/", bank_page, name="bank-page"),
    path("bank/statement.<str:form>", statement_download, name="bank-statement"),
    path("docs/", docs_index, name="docs"),
    path("docs/api/", api_reference, name="docs-api"),
    path("docs/<slug:slug>/", docs_page, name="docs-page"),
    path("", include("jobs.page_urls")),
    path("", include("jobs.hosting.page_urls")),
    path("", include("nodes.page_urls")),
    path("", include("ledger.page_urls")),
    path("", include("people.notifications.page_urls")),
    path("", include("people.page_urls")),
    path("register", RegistrationView.as_view(), name="register"),
    path("submit-job", SubmitJobView.as_view(), name="submit-job"),
    path("status", StatusView.as_view(), name="status"),
    path("api/v1/", include(api_v1)),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
]
