"""The job descriptor: its fields (model), its rules (consistency), and reading it from untrusted bytes (parsing)."""

from jobs.descriptor.errors import DescriptorInvalidError, Fault
from jobs.descriptor.formats import FileFormat, NanPolicy, RowOrder, format_of
from jobs.descriptor.model import (
    SCHEMA_VERSION,
    ComparedColumn,
    ComparedFile,
    Descriptor,
    InputFile,
    OutputFile,
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
    "NanPolicy",
    "OutputFile",
    "Requirements",
    "RowOrder",
    "RunLimits",
    "Verification",
    "VerificationMethod",
    "Visibility",
    "descriptor_digest",
    "descriptor_document",
    "descriptor_parse",
    "descriptor_schema",
    "format_of",
]
