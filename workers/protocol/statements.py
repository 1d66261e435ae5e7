"""in-toto Statement v1: "these files, by digest, and this about them".

Follows github.com/in-toto/attestation, `spec/v1/statement.md`, narrowed to what this protocol means: every subject has
a name of its own and one SHA-256 digest in lowercase hexadecimal, and there are no members that the specification
does not name. (The reference library builds statements with malformed digests; this one doesn't.)
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import DIGEST_PREFIX, DigestHex, digest_parse
from workers.protocol.errors import (
    JsonMalformedError,
    JsonTooLargeError,
    StatementMalformedError,
    StatementTypeWrongError,
)

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
STATEMENT_LIMIT_BYTES = 3 * 1024 * 1024

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class SubjectDigest(BaseModel):
    """A subject's digests; always exactly one, SHA-256 as 64 lowercase hexadecimal digits."""

    model_config = _STRICT

    sha256: DigestHex


class Subject(BaseModel):
    """One thing that the statement is about. The name tells subjects of one statement apart and means nothing else."""

    model_config = _STRICT

    name: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    digest: SubjectDigest

    @classmethod
    def of(cls, name: str, digest: str) -> Self:
        """The subject with this digest as messages write it (`sha256:…`). Raises DigestMalformedError."""
        return cls(name=name, digest=SubjectDigest(sha256=digest_parse(digest)))

    @property
    def digest_text(self) -> str:
        """The digest as messages write it: `sha256:` and 64 hexadecimal digits."""
        return DIGEST_PREFIX + self.digest.sha256


class Statement(BaseModel):
    """A parsed statement. That it is signed, and by whom, is the envelope's matter."""

    model_config = _STRICT

    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subjects: Annotated[tuple[Subject, ...], Field(alias="subject", min_length=1, strict=False)]
    predicate_type: Annotated[str, StringConstraints(min_length=1, max_length=1024), Field(alias="predicateType")]
    predicate: dict[str, Any]

    @model_validator(mode="after")
    def _names_unique(self) -> Self:
        if len({subject.name for subject in self.subjects}) != len(self.subjects):
            raise ValueError("two subjects have the same name")
        return self


def statement_build(subjects: Sequence[Subject], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """The statement as canonical JSON: the payload of an envelope of type `PAYLOAD_TYPE_STATEMENT`.

    At least one subject, each with a name of its own. Raises StatementMalformedError, NotCanonicalError.
    """
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [subject.model_dump() for subject in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    _validated(document)
    return canonical_json(document)


def statement_parse(data: bytes, *, predicate_type: str, limit_bytes: int = STATEMENT_LIMIT_BYTES) -> Statement:
    """The statement that `data` spells, after the check that its predicate is of this type.

    What the predicate holds is for the caller to check. Raises StatementMalformedError, StatementTypeWrongError.
    """
    try:
        document = json_parse(data, limit_bytes=limit_bytes)
    except (JsonMalformedError, JsonTooLargeError) as error:
        raise StatementMalformedError(f"A statement is a JSON object: {error}") from error
    statement = _validated(document)
    if statement.predicate_type != predicate_type:
        raise StatementTypeWrongError(
            f"Expected a statement with a predicate {predicate_type!r}; found {statement.predicate_type[:120]!r}."
        )
    return statement


def _validated(document: Any) -> Statement:
    try:
        return Statement.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise StatementMalformedError(f"Not an in-toto Statement v1 of ours: {where[:200]}: {first['msg']}.") from error
