"""Arrays: many jobs that differ in a few members, written as one template and a list of items. Pure.

An item makes of the template the descriptor that one would have submitted by itself:

1. `job_id` is the item's; the template has none.
2. `title` and `arguments`, where an item has them, take the place of the template's.
3. `environment`, `inputs` and `input_files` are added to the template's, the item's behind. Of a variable that both set, the item's value
   holds; a file that both name is there twice, which no descriptor may have.
4. The array is accepted exactly if each of these descriptors would be, no two have one `job_id`, and each member of the template has the
   form of its kind, whether or not items replace it. What items can't change is checked once; of each item, only what it changes.
5. All descriptors together, written out, have at most ARRAY_WRITTEN_BYTES_MAX bytes: a small request must not become a large table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from jobs.descriptor.consistency import command_faults, input_faults, shared_faults
from jobs.descriptor.errors import DescriptorInvalidError, Fault, pointer
from jobs.descriptor.model import (
    DESCRIPTOR_BYTES_MAX,
    FILES_MAX,
    Argument,
    Descriptor,
    DescriptorPart,
    EnvironmentName,
    EnvironmentValue,
    InputFile,
    Label,
)
from jobs.descriptor.parsing import descriptor_document, validation_faults, well_formed
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.errors import VerificationError
from workers.protocol.messages.base import OutputPath

ARRAY_ITEMS_MAX: Final = 1000
ARRAY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of the JSON document as sent."""
ARRAY_WRITTEN_BYTES_MAX: Final = 8 * 1024 * 1024
ENVIRONMENT_MAX: Final = 256

_Environment = dict[EnvironmentName, EnvironmentValue]
_ADDED: Final = (("environment", ENVIRONMENT_MAX), ("inputs", FILES_MAX), ("input_files", FILES_MAX))
"""Members that items add to, and how many entries a descriptor may have."""


class ArrayItem(DescriptorPart):
    """What one job has of its own. A member that is left out is the template's."""

    job_id: Label
    title: str = Field(default="", max_length=200)
    arguments: tuple[Argument, ...] = Field(default=(), max_length=256, description="instead of the template's")
    environment: _Environment = Field(default_factory=dict, max_length=ENVIRONMENT_MAX, description="added to the template's")
    inputs: tuple[InputFile, ...] = Field(default=(), max_length=FILES_MAX, description="added to the template's")
    input_files: tuple[OutputPath, ...] = Field(default=(), max_length=FILES_MAX, description="added to the template's")


class JobArrayDocument(DescriptorPart):
    """`POST /api/v1/jobs/array`."""

    template: dict[str, Any] = Field(description="a descriptor without job_id")
    items: Annotated[tuple[ArrayItem, ...], Field(min_length=1, max_length=ARRAY_ITEMS_MAX)]


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job of an array, as it is stored. `digest`: of what its submitter wrote; equal digest, same job."""

    label: str
    digest: str
    document: dict[str, Any]
    inputs: tuple[InputFile, ...]
    input_files: tuple[str, ...]


@dataclass(frozen=True)
class JobArray:
    """Jobs that are submitted together. `shared` is the template, under the first one's label, or the descriptor of a single job."""

    shared: Descriptor
    jobs: tuple[PlannedJob, ...]
    is_single: bool = False
    """Whether there is no array around the one descriptor."""

    def place(self, index: int, *parts: str | int) -> str:
        """The JSON pointer to a member of a job's own."""
        return pointer(*parts) if self.is_single else pointer("items", index, *parts)

    def input_place(self, index: int, number: int) -> str:
        """The JSON pointer to one of a job's inputs, by its number among all of them: the template's come first."""
        shared = len(self.shared.inputs)
        return self.shared_place("inputs", number) if number < shared else self.place(index, "inputs", number - shared)

    def shared_place(self, *parts: str | int) -> str:
        """The JSON pointer to a member that all jobs share."""
        return pointer(*parts) if self.is_single else pointer("template", *parts)


def array_of_one(descriptor: Descriptor) -> JobArray:
    """A single job, which was checked already, as an array."""
    written = canonical_json(descriptor.model_dump(mode="json", exclude_unset=True))
    planned = PlannedJob(
        label=descriptor.job_id,
        digest=digest_of(written),
        document=descriptor_document(descriptor),
        inputs=descriptor.inputs,
        input_files=descriptor.input_files,
    )
    return JobArray(descriptor, (planned,), is_single=True)


def array_parse(data: bytes) -> JobArray:
    """The array that a UTF-8 JSON document spells. Raises DescriptorInvalidError with the faults found; nothing else."""
    try:
        value = json_parse(data, limit_bytes=ARRAY_BYTES_MAX)
    except VerificationError as error:
        raise DescriptorInvalidError([Fault("", error.code, str(error))]) from error
    try:
        document = JobArrayDocument.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise DescriptorInvalidError(validation_faults(error)) from error
    template = _template_of(value["template"], document.items[0].job_id)
    return _Merging(template, document.items).array()


def _template_of(value: dict[str, Any], job_id: str) -> Descriptor:
    """The template as the descriptor of one of its jobs. Raises DescriptorInvalidError."""
    if "job_id" in value:
        message = "A template has no job_id: each item has its own. Remove it."
        raise DescriptorInvalidError([Fault("/template/job_id", "unknown_field", message)])
    data = json.dumps(value).encode()
    if len(data) > DESCRIPTOR_BYTES_MAX:
        raise DescriptorInvalidError([_too_large("/template", len(data))])
    whole = {**value, "job_id": job_id}
    try:
        return well_formed(whole, json.dumps(whole).encode())
    except DescriptorInvalidError as error:
        raise DescriptorInvalidError([_in_template(fault) for fault in error.faults]) from error


class _Merging:
    """Makes the jobs of an array. What an item leaves as the template has it is checked, dumped and made canonical once."""

    def __init__(self, template: Descriptor, items: tuple[ArrayItem, ...]) -> None:
        self._template = template
        self._items = items
        self._document = descriptor_document(template)
        written = template.model_dump(mode="json", exclude_unset=True)
        # RFC 8785, section 3.2.3: an object is its members in the order of their names, each canonical by itself.
        self._written = {name: canonical_json(value) for name, value in written.items()}
        self._faults: list[Fault] = [_in_template(fault) for fault in shared_faults(template)]
        self._told: set[str] = set()
        """Groups of rules whose faults in the template alone were told: once, not by each item that leaves it as it is."""

    def array(self) -> JobArray:
        """Raises DescriptorInvalidError."""
        jobs = []
        labels: dict[str, int] = {}
        written_bytes = 0
        for index, item in enumerate(self._items):
            if item.job_id in labels:
                message = f"{item.job_id!r} is also the job_id of item {labels[item.job_id]}. Name each job once."
                self._faults.append(Fault(pointer("items", index, "job_id"), "label_duplicate", message))
            labels.setdefault(item.job_id, index)
            descriptor = self._merged(item)
            self._faults += self._faults_of(index, item, descriptor)
            planned, size_bytes = self._planned(item, descriptor)
            if size_bytes > DESCRIPTOR_BYTES_MAX:
                self._faults.append(_too_large(pointer("items", index), size_bytes))
            written_bytes += size_bytes
            if written_bytes > ARRAY_WRITTEN_BYTES_MAX:
                message = (
                    f"Expected at most {ARRAY_WRITTEN_BYTES_MAX} bytes of descriptors; these have more from item {index} on. Send fewer."
                )
                raise DescriptorInvalidError([*self._faults, Fault(pointer("items"), "too_large", message)])
            jobs.append(planned)
        if self._faults:
            raise DescriptorInvalidError(self._faults)
        return JobArray(self._template, tuple(jobs))

    def _merged(self, item: ArrayItem) -> Descriptor:
        template, own = self._template, item.model_fields_set
        changed: dict[str, Any] = {name: getattr(item, name) for name in ("job_id", "title", "arguments") if name in own}
        if "environment" in own:
            changed["environment"] = {**template.environment, **item.environment}
        if "inputs" in own:
            changed["inputs"] = (*template.inputs, *item.inputs)
        if "input_files" in own:
            changed["input_files"] = (*template.input_files, *item.input_files)
        return template.model_copy(update=changed)

    def _faults_of(self, index: int, item: ArrayItem, descriptor: Descriptor) -> Iterator[Fault]:
        own = item.model_fields_set
        for name, count_max in _ADDED:
            if name in own and (found := len(getattr(descriptor, name))) > count_max:
                message = f"Expected at most {count_max} with the template's; found {found}."
                yield Fault(pointer("items", index, name), "too_long", message)
        for check, members in ((input_faults, {"inputs", "input_files"}), (command_faults, {"arguments", "environment"})):
            if own & members:
                yield from (self._placed(index, item, fault) for fault in check(descriptor))
            elif check.__name__ not in self._told:
                self._told.add(check.__name__)
                yield from (_in_template(fault) for fault in check(self._template))

    def _placed(self, index: int, item: ArrayItem, fault: Fault) -> Fault:
        """A fault of the merged descriptor at its place in the array: in the item, if it is there; else at the item, as it makes it one."""
        _, member, *rest = fault.path.split("/")
        if member in ("inputs", "input_files") and rest:
            place = int(rest[0]) - len(getattr(self._template, member))
            if place >= 0:
                return Fault(pointer("items", index, member, place, *rest[1:]), fault.code, fault.message)
        elif member in item.model_fields_set and (not rest or rest[0] in item.environment):
            return Fault(pointer("items", index) + fault.path, fault.code, fault.message)
        return Fault(pointer("items", index), fault.code, f"At {fault.path} of this item with the template: {fault.message}")

    def _planned(self, item: ArrayItem, descriptor: Descriptor) -> tuple[PlannedJob, int]:
        """The job, and how many bytes its descriptor has as written."""
        own: dict[str, Any] = {}
        for name in item.model_fields_set:
            value = getattr(descriptor, name)
            match name:
                case "inputs":
                    own[name] = [each.model_dump(mode="json", exclude_unset=True) for each in value]
                case "arguments" | "input_files":
                    own[name] = list(value)
                case _:
                    own[name] = value
        parts = {**self._written, **{name: canonical_json(value) for name, value in own.items()}}
        written = b"{" + b",".join(b'"%b":%b' % (name.encode(), parts[name]) for name in sorted(parts)) + b"}"
        document = {**self._document, **own}
        if "inputs" in own:
            document["inputs"] = [each.model_dump(mode="json", exclude_none=True) for each in descriptor.inputs]
        return PlannedJob(item.job_id, digest_of(written), document, descriptor.inputs, descriptor.input_files), len(written)


def _in_template(fault: Fault) -> Fault:
    return Fault(pointer("template") + fault.path, fault.code, fault.message)


def _too_large(path: str, size_bytes: int) -> Fault:
    return Fault(
        path, "too_large", f"A descriptor has at most {DESCRIPTOR_BYTES_MAX} bytes; this one has {size_bytes}. Put data into a file."
    )
