"""Pages of jobs."""

from django.urls import path

from jobs.live import views as live
from jobs.results import views as results
from jobs.views import acts, browser_uploads, evidence, images, job_list, job_page, shared, submission

urlpatterns = [
    path("live/", live.live_page, name="live"),
    path("live/fragment/", live.live_fragment, name="live-fragment"),
    path("jobs/", job_list.jobs_page, name="jobs-page"),
    path("jobs/rows/", job_list.jobs_rows, name="jobs-rows"),
    path("jobs/images/", images.images_page, name="images-page"),
    path("jobs/act/", acts.jobs_act, name="jobs-act"),
    path("jobs/shared/<str:secret>/", shared.job_shared_page, name="job-shared"),
    path("jobs/<uuid:job_id>/", job_page.job_page, name="job-page"),
    path("jobs/<uuid:job_id>/fragment/", job_page.job_fragment, name="job-fragment"),
    path("jobs/<uuid:job_id>/runs/", evidence.job_runs, name="job-runs"),
    path("jobs/<uuid:job_id>/retry/", acts.job_retry_page, name="job-retry"),
    path("jobs/<uuid:job_id>/visibility/", acts.job_visibility_page, name="job-visibility"),
    path("jobs/<uuid:job_id>/replicas/<uuid:replica_id>/<str:name>", evidence.job_evidence, name="job-evidence"),
    path("jobs/new/", submission.new_job_page, name="new-job"),
    path("jobs/new/edit/", submission.new_job_edit, name="new-job-edit"),
    path("jobs/new/check/", submission.new_job_check, name="new-job-check"),
    path("jobs/new/uploads/", browser_uploads.browser_uploads_view, name="browser-uploads"),
    path("jobs/new/uploads/<uuid:upload_id>/", browser_uploads.browser_upload_view, name="browser-upload"),
    path("jobs/<uuid:job_id>/clone/", submission.clone_page, name="job-clone"),
    path("jobs/<uuid:job_id>/results/", results.results_page, name="job-results"),
    path("jobs/<uuid:job_id>/results/archive/", results.archive_download, name="job-results-archive"),
    path("jobs/<uuid:job_id>/results/files/<path:path>", results.file_page, name="job-result-file"),
    path("jobs/<uuid:job_id>/results/bytes/<path:path>", results.file_download, name="job-result-bytes"),
    path("jobs/<uuid:job_id>/results/image/<path:path>", results.file_image, name="job-result-image"),
    path("jobs/<uuid:job_id>/results/atoms/<path:path>", results.file_atoms, name="job-result-atoms"),
]
