"""Signed notes and tree checkpoints, as the transparency-log world writes them.

A note (C2SP signed-note) is text, an empty line, and signature lines `— <name> <base64>`; what is encoded is 4 bytes of
key hash and an Ed25519 signature over the text. A checkpoint (C2SP tlog-checkpoint) is a note whose text is the log's
origin, its size and its root. Both are read by existing tools for witnesses and auditors.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from workers.protocol.errors import CheckpointMalformedError, KeyWrongError, NoteMalformedError, NotSignableError
from workers.protocol.keys import SIGNATURE_BYTES, PrivateKey, PublicKey
from workers.protocol.merkle import HASH_BYTES
from workers.protocol.strict_base64 import base64_decode, base64_encode

NOTE_LIMIT_BYTES = 64 * 1024
SIGNATURES_LIMIT = 100
SIZE_LIMIT = 2**63 - 1

_ED25519 = b"\x01"
_KEY_HASH_BYTES = 4
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_NAME = re.compile(r"[^\s+]+")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def note_key_hash(name: str, key: PublicKey) -> bytes:
    """The 4 bytes by which a signature line refers to its key: of SHA-256 over name, newline, algorithm, key."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + _ED25519 + key.raw).digest()[:_KEY_HASH_BYTES]


def note_verifier_key(name: str, key: PublicKey) -> str:
    """The key as note tools take it, `<name>+<hash>+<base64>` (Go's `note.NewVerifier`)."""
    return f"{name}+{note_key_hash(name, key).hex()}+{base64_encode(_ED25519 + key.raw)}"


def note_sign(text: str, name: str, *keys: PrivateKey) -> bytes:
    """The note: `text` and a signature line by each key, in the name of `name`. Several keys: who knows any of them can read the note.

    `text` ends with a newline and has no other control characters; `name` has neither spaces nor `+`. Raises
    NotSignableError.
    """
    if _NAME.fullmatch(name) is None:
        raise NotSignableError(f"A note's key name has no white space and no '+'; found {name!r}.")
    try:
        signed = text.encode("utf-8")
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotSignableError("A note and its key name must be encodable as UTF-8.") from error
    if not keys:
        raise NotSignableError("A note is signed by one key at least; found none.")
    if not text.endswith("\n") or _has_control_characters(text):
        raise NotSignableError("A note's text ends with a newline and has no other control characters.")
    lines = [f"— {name} {base64_encode(note_key_hash(name, key.public) + key.sign(signed))}\n" for key in keys]
    return signed + b"\n" + "".join(lines).encode("utf-8")


def note_open(note: bytes, *, name: str, key: PublicKey) -> str:
    """The text of the note, after the check that `key` signed it in the name of `name`.

    Lines of other signers, such as witnesses, are allowed and ignored. Raises NoteMalformedError, KeyWrongError when no
    line is of this name and key, SignatureInvalidError.
    """
    text, lines = _note_split(note)
    key_hash = note_key_hash(name, key)
    ours = []
    for line in lines:
        match = _SIGNATURE_LINE.fullmatch(line)
        if match is None:
            raise NoteMalformedError(f"A signature line is '— <name> <base64>'; found {line[:120]!r}.")
        try:
            blob = base64_decode(match.group(2))
        except ValueError as error:
            raise NoteMalformedError(f"A note's signature line: {error}.") from error
        if len(blob) <= _KEY_HASH_BYTES:
            raise NoteMalformedError("A note's signature line is too short to hold a signature.")
        if match.group(1) == name and blob[:_KEY_HASH_BYTES] == key_hash:
            ours.append(blob[_KEY_HASH_BYTES:])
    if not ours:
        raise KeyWrongError(f"The note has no signature of {name!r} with the key {key.key_id}.")
    for signature in ours:
        if len(signature) != SIGNATURE_BYTES:
            raise NoteMalformedError(f"A signature is {SIGNATURE_BYTES} bytes; found {len(signature)}.")
        key.verify(signature, text.encode("utf-8"))
    return text


def note_text(note: bytes) -> str:
    """The text of the note; whose it is is NOT looked at. Raises NoteMalformedError."""
    return _note_split(note)[0]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log: `size` entries, and `root`, the 32-byte Merkle root over them.

    `origin` names the log; two logs never share one. Raises CheckpointMalformedError for values that have no text.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin or _has_control_characters(self.origin):
            raise CheckpointMalformedError("A checkpoint's origin is one non-empty line.")
        if not 0 <= self.size <= SIZE_LIMIT:
            raise CheckpointMalformedError(f"A checkpoint's size is from 0 to 2^63 - 1; found {self.size}.")
        if len(self.root) != HASH_BYTES:
            raise CheckpointMalformedError(f"A checkpoint's root is {HASH_BYTES} bytes; found {len(self.root)}.")

    def to_text(self) -> str:
        """The text of its note: three lines, each ended by a newline."""
        return f"{self.origin}\n{self.size}\n{base64_encode(self.root)}\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The checkpoint that `to_text` writes as `text`; extension lines, which we don't use, are refused.

        Raises CheckpointMalformedError.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] != "":
            raise CheckpointMalformedError("A checkpoint is three lines: origin, size, root; each ends with a newline.")
        origin, size, root, _ = lines
        if _DECIMAL.fullmatch(size) is None:
            raise CheckpointMalformedError(f"A checkpoint's size is a decimal without leading zeros; found {size[:40]!r}.")
        try:
            root_bytes = base64_decode(root)
        except ValueError as error:
            raise CheckpointMalformedError(f"A checkpoint's root: {error}.") from error
        return cls(origin, int(size), root_bytes)


def _note_split(note: bytes) -> tuple[str, list[str]]:
    """The text of a note, with its final newline, and its signature lines without theirs."""
    if len(note) > NOTE_LIMIT_BYTES:
        raise NoteMalformedError(f"A note has at most {NOTE_LIMIT_BYTES} bytes; found {len(note)}.")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteMalformedError(f"A note is UTF-8; the byte at offset {error.start} is not.") from error
    if _has_control_characters(whole):
        raise NoteMalformedError("A note has no control characters but newlines.")
    # The text may itself hold empty lines: the signatures start after the last one.
    text, separator, signatures = whole.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise NoteMalformedError("A note is text, an empty line, and signature lines, each ended by a newline.")
    lines = signatures[:-1].split("\n")
    if len(lines) > SIGNATURES_LIMIT:
        raise NoteMalformedError(f"A note has at most {SIGNATURES_LIMIT} signatures; found {len(lines)}.")
    return text + "\n", lines


def _has_control_characters(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)
