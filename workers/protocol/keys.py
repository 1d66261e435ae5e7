"""Ed25519 keys (RFC 8032) and their ids.

A key's id is the digest of its 32 public bytes: anyone who has the key can check the id, and nobody can choose it.
"""

from dataclasses import dataclass
from typing import NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workers.protocol.digests import digest_of
from workers.protocol.errors import KeyMalformedError, SignatureInvalidError
from workers.protocol.strict_base64 import base64_decode, base64_encode

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_FIELD_PRIME = 2**255 - 19
_ORDER_EIGHT_Y = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
# The y coordinates of the eight points of small order. Under such a "key" one signature fits many messages, so its
# owner could later deny, or lend to anyone, whatever it signed.
_SMALL_ORDER_YS = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_EIGHT_Y, _FIELD_PRIME - _ORDER_EIGHT_Y})


@dataclass(frozen=True)
class PublicKey:
    """A public key: `raw` is its 32 bytes. Does not say whose it is, or that anyone trusts it.

    Raises KeyMalformedError for another length, for a y coordinate beyond the field prime (a second spelling of
    another key) and for points of small order.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise KeyMalformedError(f"An Ed25519 public key is {KEY_BYTES} bytes; found {len(self.raw)}.")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        if y >= _FIELD_PRIME or y in _SMALL_ORDER_YS:
            raise KeyMalformedError("These 32 bytes are no usable Ed25519 key: not canonical, or of small order.")

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """The key whose 32 bytes `text` spells in standard base64. Raises KeyMalformedError."""
        try:
            raw = base64_decode(text)
        except ValueError as error:
            raise KeyMalformedError(f"A public key is written as base64 of {KEY_BYTES} bytes: {error}.") from error
        return cls(raw)

    def to_base64(self) -> str:
        """The 32 bytes in standard base64: 44 characters."""
        return base64_encode(self.raw)

    @property
    def key_id(self) -> str:
        """The digest of the 32 bytes, `sha256:` and 64 hexadecimal digits."""
        return digest_of(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` is this key's over `message`. Raises SignatureInvalidError."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalidError(f"The signature is not one of the key {self.key_id} over this text.") from error


class PrivateKey:
    """A key that signs. Its repr names only the public key, it cannot be pickled; how it is kept is not its affair."""

    __slots__ = ("_key", "public")

    public: PublicKey

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """The key with this 32-byte seed (RFC 8032, section 5.1.5). Raises KeyMalformedError."""
        if len(raw) != KEY_BYTES:
            raise KeyMalformedError(f"An Ed25519 private key is {KEY_BYTES} bytes; found {len(raw)}.")
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    @property
    def raw(self) -> bytes:
        """The 32 secret bytes. Never log them, never put them into an argument or an environment."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`; the same message always gets the same one."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"PrivateKey(of {self.public.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A private key is not pickled: keep `raw` where secrets are kept.")
