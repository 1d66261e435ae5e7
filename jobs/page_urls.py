"""Pages of jobs."""

from django.urls import path

from jobs import views
from jobs.live import views as live

urlpatterns = [
    path("live/", live.live_page, name="live"),
    path("live/fragment/", live.live_fragment, name="live-fragment"),
    path("jobs/", views.jobs_page, name="jobs-page"),
    path("jobs/<uuid:job_id>/", views.job_page, name="job-page"),
    path("jobs/<uuid:job_id>/fragment/", views.job_fragment, name="job-fragment"),
]
