"""Pages of jobs."""

from django.urls import path

from jobs.views import acts, evidence, job_list, job_page, shared

urlpatterns = [
    path("jobs/", job_list.jobs_page, name="jobs-page"),
    path("jobs/rows/", job_list.jobs_rows, name="jobs-rows"),
    path("jobs/act/", acts.jobs_act, name="jobs-act"),
    path("jobs/shared/<str:secret>/", shared.job_shared_page, name="job-shared"),
    path("jobs/<uuid:job_id>/", job_page.job_page, name="job-page"),
    path("jobs/<uuid:job_id>/fragment/", job_page.job_fragment, name="job-fragment"),
    path("jobs/<uuid:job_id>/runs/", evidence.job_runs, name="job-runs"),
    path("jobs/<uuid:job_id>/retry/", acts.job_retry_page, name="job-retry"),
    path("jobs/<uuid:job_id>/visibility/", acts.job_visibility_page, name="job-visibility"),
    path("jobs/<uuid:job_id>/replicas/<uuid:replica_id>/<str:name>", evidence.job_evidence, name="job-evidence"),
]
