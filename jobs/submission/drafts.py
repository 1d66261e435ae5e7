"""A descriptor that is being written, as a form or as JSON: what a browser sends, turned from one into the other, changed by rows. Pure.

A draft holds whatever was written, also what is no descriptor yet. What it says is the parser's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from jobs.descriptor import Descriptor, DescriptorInvalidError, Fault, descriptor_parse
from jobs.descriptor.form import FIELDS_MAX, Fields, Written, document_of, fields_fault, fields_of, row_add, row_remove
from jobs.descriptor.model import DESCRIPTOR_BYTES_MAX
from jobs.descriptor.numbers import document_text
from workers.protocol.canonical import json_parse
from workers.protocol.errors import VerificationError

TEXT_NAME: Final = "text"
TAB_NAME: Final = "tab"


class Tab(StrEnum):
    """How the draft is shown."""

    FORM = "form"
    JSON = "json"


@dataclass(frozen=True)
class Draft:
    """`fields` hold it on the form's tab, `text` on that of JSON. `unfit`: why it could not be shown or changed as asked."""

    tab: Tab
    fields: Fields
    text: str
    unfit: tuple[Fault, ...] = ()

    @cached_property
    def written(self) -> Written:
        """What the fields spell; only on the form's tab."""
        return document_of(self.fields)

    def parsed(self) -> tuple[Descriptor | None, list[Fault]]:
        """The descriptor, or all that keeps it from being one."""
        own = [fault for _, fault in self.written.faults] if self.tab is Tab.FORM else list(self.unfit)
        try:
            descriptor = descriptor_parse(self.written.document if self.tab is Tab.FORM else self.text.encode("utf-8", "replace"))
        except DescriptorInvalidError as error:
            return None, [*own, *error.faults]
        return (None, own) if own else (descriptor, [])

    def name_of(self, path: str) -> str:
        """The field at a JSON pointer; on the tab of JSON there is only one."""
        return self.written.name_of(path) if self.tab is Tab.FORM else TEXT_NAME

    def shown_as(self, tab: Tab) -> Draft:
        """The same on the other tab; a document that no form can show stays where it is, and `unfit` says why."""
        if tab is self.tab:
            return self
        if tab is Tab.JSON:
            written = self.written
            if written.faults:
                return replace(self, unfit=tuple(fault for _, fault in written.faults))
            return Draft(Tab.JSON, {}, document_text(written.document))
        document, unfit = self._read()
        if unfit:
            return replace(self, unfit=unfit)
        try:
            return Draft(Tab.FORM, fields_of(document), "")
        except DescriptorInvalidError as error:
            return replace(self, unfit=error.faults)

    def with_row(self, rows: str) -> Draft:
        """With an empty row more."""
        return self._grown(row_add(self.fields, rows))

    def without_row(self, row: str) -> Draft:
        return replace(self, fields=row_remove(self.fields, row))

    def with_input(self, *, path: str, digest: str, size_bytes: int) -> Draft:
        """With this upload as the input of that path, in the place of another one of the same path."""
        if self.tab is Tab.JSON:
            return self._with_input_in_text({"path": path, "digest": digest, "size_bytes": size_bytes})
        fields = self.fields
        row = next((name.removesuffix("/path") for name, text in fields.items() if _is_input_path(name) and text == path), None)
        if row is None:
            before = set(fields)
            fields = row_add(fields, "/inputs")
            row = next(name for name in fields if name not in before).rpartition("/")[0]
        return self._grown({**fields, f"{row}/path": path, f"{row}/digest": digest, f"{row}/size_bytes": str(size_bytes)})

    def _grown(self, fields: Fields) -> Draft:
        """With these fields instead; on the tab of JSON where they are more than the form shows."""
        if len(fields) <= FIELDS_MAX:
            return replace(self, fields=fields)
        told = replace(self, fields=fields).shown_as(Tab.JSON)
        if told.tab is Tab.FORM:  # no document spells it: it stays as it was until that is corrected
            return replace(self, unfit=told.unfit)
        return replace(told, unfit=(fields_fault(len(fields)),))

    def _with_input_in_text(self, given: Mapping[str, Any]) -> Draft:
        document, unfit = self._read()
        inputs = document.get("inputs") or []
        if not isinstance(inputs, list):
            unfit = (Fault("/inputs", "wrong_type", "An upload goes into an array of inputs. Correct it, then choose the file again."),)
        if unfit:
            return replace(self, unfit=unfit)
        place = next((n for n, one in enumerate(inputs) if isinstance(one, dict) and one.get("path") == given["path"]), len(inputs))
        return replace(self, text=document_text({**document, "inputs": [*inputs[:place], given, *inputs[place + 1 :]]}))

    def _read(self) -> tuple[dict[str, Any], tuple[Fault, ...]]:
        """The object that the text spells, or an empty one and why there is none."""
        try:
            document = json_parse(self.text.encode("utf-8", "replace"), limit_bytes=DESCRIPTOR_BYTES_MAX)
        except VerificationError as error:
            return {}, (Fault("", error.code, str(error)),)
        if not isinstance(document, dict):
            return {}, (Fault("", "wrong_type", "A descriptor is a JSON object: begin with { and end with }."),)
        return document, ()


def draft_of_document(document: Mapping[str, Any]) -> Draft:
    """On the form's tab, or on that of JSON where no form can show it."""
    return Draft(Tab.JSON, {}, document_text(dict(document))).shown_as(Tab.FORM)


def draft_of_post(posted: Mapping[str, str]) -> Draft:
    """What a browser sent: fields have a slash in front of their names."""
    if posted.get(TAB_NAME) == Tab.JSON:
        return Draft(Tab.JSON, {}, posted.get(TEXT_NAME, ""))
    return Draft(Tab.FORM, {name: text for name, text in posted.items() if name.startswith("/")}, "")


def _is_input_path(name: str) -> bool:
    return name.startswith("/inputs/") and name.endswith("/path")
