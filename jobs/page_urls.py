"""Pages of jobs."""

from django.urls import path

from jobs import views
from jobs.results import views as results

urlpatterns = [
    path("jobs/", views.jobs_page, name="jobs-page"),
    path("jobs/<uuid:job_id>/", views.job_page, name="job-page"),
    path("jobs/<uuid:job_id>/fragment/", views.job_fragment, name="job-fragment"),
    path("jobs/<uuid:job_id>/results/", results.results_page, name="job-results"),
    path("jobs/<uuid:job_id>/results/archive/", results.archive_download, name="job-results-archive"),
    path("jobs/<uuid:job_id>/results/files/<path:path>", results.file_page, name="job-result-file"),
    path("jobs/<uuid:job_id>/results/bytes/<path:path>", results.file_download, name="job-result-bytes"),
    path("jobs/<uuid:job_id>/results/image/<path:path>", results.file_image, name="job-result-image"),
    path("jobs/<uuid:job_id>/results/atoms/<path:path>", results.file_atoms, name="job-result-atoms"),
]
