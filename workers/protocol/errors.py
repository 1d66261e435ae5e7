"""Every error that `workers.protocol` raises.

    ProtocolError
    ├── NotCanonicalError               our own value has no canonical JSON form            (our fault)
    ├── NotSignableError                our own request or note cannot be signed            (our fault)
    ├── ProofRangeError                 a proof was asked for that such a tree doesn't have (the caller's fault)
    └── VerificationError               untrusted bytes were not what they claim
        ├── DigestMalformedError            digest_malformed
        ├── DigestMismatchError             digest_mismatch
        ├── ContentDigestMalformedError     content_digest_malformed
        ├── ContentDigestMismatchError      content_digest_mismatch
        ├── JsonMalformedError              json_malformed
        ├── JsonTooLargeError               json_too_large
        ├── KeyMalformedError               key_malformed
        ├── KeyWrongError                   key_wrong
        ├── SignatureInvalidError           signature_invalid
        │   └── SignatureRetargetedError    signature_retargeted
        ├── SignatureMissingError           signature_missing
        ├── SignatureMalformedError         signature_malformed
        ├── SignatureIncompleteError        signature_incomplete
        ├── SignatureStaleError             signature_stale
        ├── EnvelopeMalformedError          envelope_malformed
        ├── EnvelopeTypeWrongError          envelope_type_wrong
        ├── KeyRotationInvalidError         key_rotation_invalid
        ├── SuccessionInvalidError          succession_invalid
        ├── StatementMalformedError         statement_malformed
        ├── StatementTypeWrongError         statement_type_wrong
        ├── ProofInvalidError               proof_invalid
        ├── NoteMalformedError              note_malformed
        ├── CheckpointMalformedError        checkpoint_malformed
        ├── ArchiveRefusedError             archive_refused
        └── LogRefusedError                 log_refused

Codes are part of the protocol: they appear in problem details and in evidence rows, and never change their meaning.
"""

from typing import ClassVar


class ProtocolError(Exception):
    """Anything that this package refuses to do."""


class NotCanonicalError(ProtocolError):
    """A value of ours has no RFC 8785 form: a type JSON lacks, NaN, or an integer beyond 2^53."""


class NotSignableError(ProtocolError):
    """A request or a note of ours lacks what its signature must cover, or holds what it may not."""


class ProofRangeError(ProtocolError):
    """The proof asked for does not exist: its leaf or tree size lies outside of the tree."""


class VerificationError(ProtocolError):
    """Untrusted bytes were not what they claim. `code` is stable; the message may be shown to the sender."""

    code: ClassVar[str] = "verification_failed"


class DigestMalformedError(VerificationError):
    """Not `sha256:` and 64 lowercase hexadecimal digits."""

    code = "digest_malformed"


class DigestMismatchError(VerificationError):
    """The bytes have another digest than the one promised."""

    code = "digest_mismatch"


class ContentDigestMalformedError(VerificationError):
    """The Content-Digest field is not one `sha-256` digest (RFC 9530)."""

    code = "content_digest_malformed"


class ContentDigestMismatchError(VerificationError):
    """The Content-Digest field does not fit the body that came with it."""

    code = "content_digest_mismatch"


class JsonMalformedError(VerificationError):
    """Not JSON, or JSON that two readers could understand differently."""

    code = "json_malformed"


class JsonTooLargeError(VerificationError):
    """More bytes than this kind of message may have."""

    code = "json_too_large"


class KeyMalformedError(VerificationError):
    """Not a usable Ed25519 public key."""

    code = "key_malformed"


class KeyWrongError(VerificationError):
    """Signed by another key than the one expected."""

    code = "key_wrong"


class SignatureInvalidError(VerificationError):
    """A well-formed signature that does not verify."""

    code = "signature_invalid"


class SignatureRetargetedError(SignatureInvalidError):
    """A request signature that is not one over this request: made for another, or the request was changed."""

    code = "signature_retargeted"


class SignatureMissingError(VerificationError):
    """The request carries no signature."""

    code = "signature_missing"


class SignatureMalformedError(VerificationError):
    """The signature fields cannot be read, or are not of the profile that this protocol uses."""

    code = "signature_malformed"


class SignatureIncompleteError(VerificationError):
    """The signature leaves uncovered something that it must cover."""

    code = "signature_incomplete"


class SignatureStaleError(VerificationError):
    """The signature was made too long ago, or in the future: replayed, or a wrong clock."""

    code = "signature_stale"


class EnvelopeMalformedError(VerificationError):
    """Not a DSSE envelope with exactly one signature."""

    code = "envelope_malformed"


class EnvelopeTypeWrongError(VerificationError):
    """A DSSE envelope around another type of payload than the one expected."""

    code = "envelope_type_wrong"


class KeyRotationInvalidError(VerificationError):
    """Signed by the new key, but not a proof of this rotation."""

    code = "key_rotation_invalid"


class SuccessionInvalidError(VerificationError):
    """Signed by the key before, but not a statement of its successor, or the chain doesn't lead where it must."""

    code = "succession_invalid"


class StatementMalformedError(VerificationError):
    """Not an in-toto Statement v1 with named SHA-256 subjects."""

    code = "statement_malformed"


class StatementTypeWrongError(VerificationError):
    """An in-toto statement with another predicate type than the one expected."""

    code = "statement_type_wrong"


class ProofInvalidError(VerificationError):
    """A Merkle proof that does not lead to the root it was given for."""

    code = "proof_invalid"


class NoteMalformedError(VerificationError):
    """Not a C2SP signed note."""

    code = "note_malformed"


class CheckpointMalformedError(VerificationError):
    """The text of a note is not a tree checkpoint."""

    code = "checkpoint_malformed"


class ArchiveRefusedError(VerificationError):
    """Not an archive in the one form that this protocol allows."""

    code = "archive_refused"


class LogRefusedError(VerificationError):
    """Not a whole compute log of the order, or another one than the receipt signed."""

    code = "log_refused"
