"""Pages of jobs."""

from django.urls import path

from jobs import submission_views, upload_views, views

urlpatterns = [
    path("jobs/", views.jobs_page, name="jobs-page"),
    path("jobs/new/", submission_views.new_job_page, name="new-job"),
    path("jobs/new/edit/", submission_views.new_job_edit, name="new-job-edit"),
    path("jobs/new/check/", submission_views.new_job_check, name="new-job-check"),
    path("jobs/new/uploads/", upload_views.browser_uploads_view, name="browser-uploads"),
    path("jobs/new/uploads/<uuid:upload_id>/", upload_views.browser_upload_view, name="browser-upload"),
    path("jobs/<uuid:job_id>/clone/", submission_views.clone_page, name="job-clone"),
    path("jobs/<uuid:job_id>/", views.job_page, name="job-page"),
    path("jobs/<uuid:job_id>/fragment/", views.job_fragment, name="job-fragment"),
]
