"""Ed25519 keys and their ids."""

import copy
import hashlib
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.errors import KeyMalformedError, SignatureInvalidError
from workers.protocol.keys import PrivateKey, PublicKey

# RFC 8032, section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
MESSAGE = bytes.fromhex("72")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_the_rfc_8032_vector() -> None:
    key = PrivateKey.from_raw(SEED)
    assert key.raw == SEED
    assert key.public.raw == PUBLIC
    assert key.sign(MESSAGE) == SIGNATURE
    key.public.verify(SIGNATURE, MESSAGE)


def test_a_key_id_is_the_digest_of_the_public_bytes() -> None:
    assert PublicKey(PUBLIC).key_id == "sha256:" + hashlib.sha256(PUBLIC).hexdigest()


def test_a_public_key_survives_base64() -> None:
    key = PrivateKey.generate().public
    assert PublicKey.from_base64(key.to_base64()) == key
    assert len(key.to_base64()) == 44


@given(st.binary(max_size=100), st.integers(0, 511))
def test_a_signature_with_one_bit_changed_does_not_verify(message: bytes, bit: int) -> None:
    key = PrivateKey.from_raw(SEED)
    signature = bytearray(key.sign(message))
    key.public.verify(bytes(signature), message)
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureInvalidError):
        key.public.verify(bytes(signature), message)


@given(st.binary(max_size=80))
def test_any_signature_is_refused_with_the_documented_error(signature: bytes) -> None:
    with pytest.raises(SignatureInvalidError):
        PublicKey(PUBLIC).verify(signature, MESSAGE)


def test_a_signature_does_not_fit_another_message_or_another_key() -> None:
    with pytest.raises(SignatureInvalidError):
        PublicKey(PUBLIC).verify(SIGNATURE, MESSAGE + b"x")
    with pytest.raises(SignatureInvalidError):
        PrivateKey.generate().public.verify(SIGNATURE, MESSAGE)


def test_the_second_spelling_of_a_signature_is_refused() -> None:
    # RFC 8032, section 5.1.7: S must be below the group order; adding the order would give the same point.
    scalar = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    with pytest.raises(SignatureInvalidError):
        PublicKey(PUBLIC).verify(SIGNATURE[:32] + scalar.to_bytes(32, "little"), MESSAGE)


@given(st.binary(max_size=64).filter(lambda raw: len(raw) != 32))
def test_another_length_is_no_key(raw: bytes) -> None:
    with pytest.raises(KeyMalformedError):
        PublicKey(raw)
    with pytest.raises(KeyMalformedError):
        PrivateKey.from_raw(raw)


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_that_verifies_nothing_or_are_refused(raw: bytes) -> None:
    try:
        key = PublicKey(raw)
    except KeyMalformedError:
        return
    with pytest.raises(SignatureInvalidError):
        key.verify(SIGNATURE, MESSAGE)


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 44, "not base64", PublicKey(PUBLIC).to_base64() + "\n", "ä" * 44])
def test_malformed_base64_is_no_key(text: str) -> None:
    with pytest.raises(KeyMalformedError):
        PublicKey.from_base64(text)


def _small_order_points() -> list[bytes]:
    """The encodings of the eight points of small order, computed from the curve equation (RFC 8032, section 5.1)."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME

    def add(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = one, two
        product = d * x1 * x2 * y1 * y2
        x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME)
        y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME)
        return x % PRIME, y % PRIME

    def times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
        total = (0, 1)
        while factor:
            if factor & 1:
                total = add(total, point)
            point, factor = add(point, point), factor >> 1
        return total

    found: set[tuple[int, int]] = set()
    y = 2
    while len(found) < 8:
        # x from y; the group order times any point on the curve is a point of small order.
        square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
        x = pow(square, (PRIME + 3) // 8, PRIME)
        if (x * x - square) % PRIME:
            x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
        if (x * x - square) % PRIME == 0:
            found.add(times(ORDER, (x, y)))
        y += 1
    return [(y | (x & 1) << 255).to_bytes(32, "little") for x, y in found]


def test_the_eight_points_of_small_order_are_no_keys() -> None:
    points = _small_order_points()
    assert len(set(points)) == 8
    for raw in points:
        with pytest.raises(KeyMalformedError):
            PublicKey(raw)


def test_a_small_order_key_would_otherwise_accept_a_signature_over_anything() -> None:
    neutral = (1).to_bytes(32, "little")
    signature = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(signature, b"anything")
    with pytest.raises(KeyMalformedError):
        PublicKey(neutral)


@pytest.mark.parametrize("y", range(PRIME, 2**255))
def test_a_coordinate_beyond_the_prime_is_no_key(y: int) -> None:
    for sign in (0, 1 << 255):
        with pytest.raises(KeyMalformedError):
            PublicKey((y | sign).to_bytes(32, "little"))


def test_a_private_key_does_not_show_its_secret() -> None:
    key = PrivateKey.from_raw(SEED)
    for text in (repr(key), str(key), f"{key}", repr({"key": [key]})):
        assert SEED.hex() not in text
        assert repr(SEED) not in text
        assert key.public.key_id in text


def test_a_private_key_is_neither_pickled_nor_copied() -> None:
    key = PrivateKey.from_raw(SEED)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)


def test_two_generated_keys_differ() -> None:
    assert PrivateKey.generate().raw != PrivateKey.generate().raw
