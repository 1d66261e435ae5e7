"""The job descriptor: its fields (model), its rules (consistency), and reading it from untrusted bytes (parsing)."""

from jobs.descriptor.arrays import JobArray, JobArrayDocument, PlannedJob, array_of_one, array_parse
from jobs.descriptor.errors import DescriptorInvalidError, Fault
from jobs.descriptor.formats import FileFormat, NanPolicy, RowOrder, format_of
from jobs.descriptor.model import (
    SCHEMA_VERSION,
    ComparedColumn,
    ComparedFile,
    Descriptor,
    InputFile,
    OutputFile,
    RedundancyPolicy,
    Requirements,
    RunLimits,
    Verification,
    VerificationMethod,
    Visibility,
)
from jobs.descriptor.parsing import descriptor_digest, descriptor_document, descriptor_parse
from jobs.descriptor.schema import descriptor_schema

__all__ = [
    "SCHEMA_VERSION",
    "ComparedColumn",
    "ComparedFile",
    "Descriptor",
    "DescriptorInvalidError",
    "Fault",
    "FileFormat",
    "InputFile",
    "JobArray",
    "JobArrayDocument",
    "NanPolicy",
    "OutputFile",
    "PlannedJob",
    "RedundancyPolicy",
    "Requirements",
    "RowOrder",
    "RunLimits",
    "Verification",
    "VerificationMethod",
    "Visibility",
    "array_of_one",
    "array_parse",
    "descriptor_digest",
    "descriptor_document",
    "descriptor_parse",
    "descriptor_schema",
    "format_of",
]
