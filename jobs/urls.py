"""Addresses of jobs below /api/v1/."""

from django.urls import path

from jobs import api

urlpatterns = [
    path("jobs", api.JobListView.as_view(), name="jobs"),
    path("submit-job", api.SubmitJobV1View.as_view(), name="submit-job-v1"),
    path("jobs/array", api.JobArrayView.as_view(), name="jobs-array"),
    path("jobs/estimate", api.EstimateView.as_view(), name="jobs-estimate"),
    path("jobs/<uuid:job_id>", api.JobView.as_view(), name="job"),
    path("jobs/<uuid:job_id>/replicas", api.JobReplicasView.as_view(), name="job-replicas"),
    path("jobs/<uuid:job_id>/events", api.JobEventsView.as_view(), name="job-events"),
    path("jobs/<uuid:job_id>/cancel", api.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/bundle", api.JobBundleView.as_view(), name="job-bundle"),
    path("status", api.StatusV1View.as_view(), name="status-v1"),
    path("descriptor.schema.json", api.DescriptorSchemaView.as_view(), name="descriptor-schema"),
]
