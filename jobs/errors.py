"""Refusals of jobs and submissions, all of them the caller's fault.

ProblemError
├── DescriptorInvalidError      descriptor_invalid          422   (jobs.descriptor)
├── ResearcherRequiredError     researcher_required         403
├── LabelConflictError          label_conflict              409
├── RequirementsImpossibleError requirements_impossible     422
├── ImageMalformedError         image_malformed             422
├── ImageNotApprovedError       image_not_approved          403
├── ImageUnresolvableError      image_unresolvable          422
├── ImageRequestOpenError       image_request_open          409
├── InputUnknownError           input_unknown               422
├── InputUriUnsupportedError    input_uri_unsupported       422
├── InputUriMalformedError      input_uri_malformed         422
├── InputHostNotAllowedError    input_host_not_allowed      403
├── InputAddressPrivateError    input_address_not_public    403
├── InputUnreachableError       input_unreachable           422
├── InputTooLargeError          input_too_large             413
├── InputMismatchError          input_mismatch              422
├── JobConcludedError           job_concluded               409
├── JobDisputedError            job_disputed                409
├── JobOpenError                job_open                    409
├── LabelInvalidError           label_invalid               422
├── JobNotDisputedError         job_not_disputed            409
├── RulingForbiddenError        ruling_forbidden            403
├── RulingInterestError         ruling_interest             403
├── RulingInvalidError          ruling_invalid              422
└── QueryInvalidError           query_invalid               400
"""

from __future__ import annotations

from workers.protocol.problems import ProblemError


class ResearcherRequiredError(ProblemError):
    code = "researcher_required"
    status = 403
    title = "Only approved researchers submit jobs"


class LabelConflictError(ProblemError):
    code = "label_conflict"
    status = 409
    title = "This label names another job"


class RequirementsImpossibleError(ProblemError):
    code = "requirements_impossible"
    status = 422
    title = "No machine can meet these requirements"


class ImageMalformedError(ProblemError):
    code = "image_malformed"
    status = 422
    title = "This is not an image reference"


class ImageNotApprovedError(ProblemError):
    code = "image_not_approved"
    status = 403
    title = "This image may not run here"


class ImageUnresolvableError(ProblemError):
    code = "image_unresolvable"
    status = 422
    title = "This image has no pinned content"


class ImageRequestOpenError(ProblemError):
    """One request for an image at a time, and not too many at once."""

    code = "image_request_open"
    status = 409
    title = "A request is open already"


class InputUnknownError(ProblemError):
    """An upload of somebody else is answered exactly like one that never was."""

    code = "input_unknown"
    status = 422
    title = "You have not uploaded this input"


class InputUriUnsupportedError(ProblemError):
    code = "input_uri_unsupported"
    status = 422
    title = "Inputs can't be fetched from there yet"


class InputUriMalformedError(ProblemError):
    code = "input_uri_malformed"
    status = 422
    title = "input_uri is not an address"


class InputHostNotAllowedError(ProblemError):
    code = "input_host_not_allowed"
    status = 403
    title = "Inputs are not fetched from this host"


class InputAddressPrivateError(ProblemError):
    code = "input_address_not_public"
    status = 403
    title = "The host of the inputs has no public address"


class InputUnreachableError(ProblemError):
    code = "input_unreachable"
    status = 422
    title = "An input could not be fetched"


class InputTooLargeError(ProblemError):
    code = "input_too_large"
    status = 413
    title = "An input is too large"


class InputMismatchError(ProblemError):
    code = "input_mismatch"
    status = 422
    title = "An input has another content than stated"


class JobConcludedError(ProblemError):
    code = "job_concluded"
    status = 409
    title = "The job has ended"


class JobDisputedError(ProblemError):
    code = "job_disputed"
    status = 409
    title = "The job is disputed"


class JobNotDisputedError(ProblemError):
    code = "job_not_disputed"
    status = 409
    title = "The job is not disputed"


class RulingForbiddenError(ProblemError):
    code = "ruling_forbidden"
    status = 403
    title = "Only moderators rule on disputes"


class RulingInterestError(ProblemError):
    """The moderator owns the job, or a node that ran it."""

    code = "ruling_interest"
    status = 403
    title = "You have an interest in this dispute"


class RulingInvalidError(ProblemError):
    code = "ruling_invalid"
    status = 422
    title = "This is not a ruling"


class QueryInvalidError(ProblemError):
    code = "query_invalid"
    status = 400
    title = "A query parameter is not valid"


class JobOpenError(ProblemError):
    """Only a job that has ended can be put into the archive: one that still costs something stays in sight."""

    code = "job_open"
    status = 409
    title = "The job has not ended"


class LabelInvalidError(ProblemError):
    code = "label_invalid"
    status = 422
    title = "This can't be a label"
