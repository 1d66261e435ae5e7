"""Signed notes and checkpoints: the vector of Go's implementation, and what is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.errors import (
    CheckpointMalformedError,
    KeyWrongError,
    NoteMalformedError,
    NotSignableError,
    SignatureInvalidError,
    VerificationError,
)
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.merkle import EMPTY_ROOT
from workers.protocol.signed_note import (
    NOTE_LIMIT_BYTES,
    Checkpoint,
    note_key_hash,
    note_open,
    note_sign,
    note_text,
    note_verifier_key,
)

# golang.org/x/mod/sumdb/note, note_test.go.
GO_NAME = "PeterNeumann"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
GO_NOTE = (GO_TEXT + "\n" + GO_LINE).encode()
GO_PUBLIC = PublicKey(base64.b64decode(GO_VERIFIER.split("+", 2)[2])[1:])
GO_PRIVATE = PrivateKey.from_raw(base64.b64decode(GO_SIGNER.split("+", 4)[4])[1:])

KEY = PrivateKey.from_raw(bytes(range(32)))
NAME = "portal.example/ledger"
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=60).map(lambda text: text + "\n")


def opened(note: bytes) -> str:
    return note_open(note, name=NAME, key=KEY.public)


def test_the_published_note_of_go_verifies_and_is_signed_to_the_same_bytes() -> None:
    assert GO_PRIVATE.public == GO_PUBLIC
    assert note_key_hash(GO_NAME, GO_PUBLIC).hex() == "c74f20a3"
    assert note_verifier_key(GO_NAME, GO_PUBLIC) == GO_VERIFIER
    assert note_open(GO_NOTE, name=GO_NAME, key=GO_PUBLIC) == GO_TEXT
    assert note_sign(GO_TEXT, GO_NAME, GO_PRIVATE) == GO_NOTE


def test_several_keys_sign_in_the_order_given_and_each_reads_the_note() -> None:
    other = PrivateKey.generate()
    note = note_sign("text\n", NAME, other, KEY)
    assert note == note_sign("text\n", NAME, other) + note_sign("text\n", NAME, KEY).split(b"\n\n")[1]
    for key in (KEY, other):
        assert note_open(note, name=NAME, key=key.public) == "text\n"
    with pytest.raises(NotSignableError, match="one key at least"):
        note_sign("text\n", NAME)


def test_the_text_alone_is_had_without_a_key_from_a_well_formed_note_only() -> None:
    assert note_text(GO_NOTE) == GO_TEXT
    with pytest.raises(NoteMalformedError):
        note_text(b"text\n")


@given(TEXTS)
def test_open_returns_the_text_that_was_signed(text: str) -> None:
    assert opened(note_sign(text, NAME, KEY)) == text


def test_a_changed_text_does_not_verify() -> None:
    with pytest.raises(SignatureInvalidError):
        note_open(GO_NOTE.replace(b"answer", b"Answer"), name=GO_NAME, key=GO_PUBLIC)


@given(st.data())
def test_a_note_with_one_byte_changed_yields_no_other_text(draw: st.DataObject) -> None:
    note = bytearray(GO_NOTE)
    note[draw.draw(st.integers(0, len(note) - 1))] = draw.draw(st.integers(0, 255))
    try:
        text = note_open(bytes(note), name=GO_NAME, key=GO_PUBLIC)
    except VerificationError:
        return
    assert text == GO_TEXT


def test_lines_of_other_signers_are_ignored_and_ours_is_found_among_them() -> None:
    witness = note_sign("text\n", "witness.example", PrivateKey.generate()).split(b"\n\n")[1]
    note = note_sign("text\n", NAME, KEY)
    assert opened(note + witness) == "text\n"
    assert opened(note.replace(b"\n\n", b"\n\n" + witness)) == "text\n"


def test_a_note_of_another_name_or_key_is_refused() -> None:
    with pytest.raises(KeyWrongError):
        opened(note_sign("text\n", "other", KEY))
    with pytest.raises(KeyWrongError):
        opened(note_sign("text\n", NAME, PrivateKey.generate()))


def test_a_second_line_of_ours_that_does_not_verify_is_refused() -> None:
    other = note_sign("other\n", NAME, KEY).split(b"\n\n")[1]
    with pytest.raises(SignatureInvalidError):
        opened(note_sign("text\n", NAME, KEY) + other)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("no newline", NAME),
        ("", NAME),
        ("tab\t\n", NAME),
        ("\r\n", NAME),
        ("text\n", ""),
        ("text\n", "two words"),
        ("text\n", "a+b"),
        ("text\n", "line\nbreak"),
        ("text\n", "no-break\N{NO-BREAK SPACE}space"),
        ("\ud800\n", NAME),
        ("text\n", "\ud800"),
    ],
)
def test_what_cannot_be_a_note_is_not_signed(text: str, name: str) -> None:
    with pytest.raises(NotSignableError):
        note_sign(text, name, KEY)


_HASH = note_key_hash(NAME, KEY.public)
_TOO_MANY = note_sign("text\n", NAME, KEY) + b"".join(note_sign("text\n", f"w{number}", KEY).split(b"\n\n")[1] for number in range(100))


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n\n\n",
        b"text\n\nnot a signature\n",
        "text\n\n— name\n".encode(),
        "text\n\n— name AAAA\n".encode(),
        "text\n\n— name AAAAAAA\n".encode(),
        "text\n\n— name AAAAAB==\n".encode(),
        "text\n\n—  name AAAAAAAA\n".encode(),
        b"text\n\n- name AAAAAAAA\n",
        "text\n\n— a+b AAAAAAAA\n".encode(),
        note_sign("text\n", NAME, KEY)[:-1],
        note_sign("text\n", NAME, KEY) + b"x",
        note_sign("text\n", NAME, KEY).replace(b"text", b"te\xff"),
        note_sign("text\n", NAME, KEY).replace(b"text", b"te\0"),
        note_sign("text\n", NAME, KEY).replace(b"\n", b"\r\n"),
        f"text\n\n— {NAME} {base64.b64encode(_HASH + bytes(63)).decode()}\n".encode(),
        _TOO_MANY,
        note_sign("x" * NOTE_LIMIT_BYTES + "\n", NAME, KEY),
    ],
    ids=lambda note: repr(note[:40]),
)
def test_a_malformed_note_is_refused(note: bytes) -> None:
    with pytest.raises(NoteMalformedError):
        opened(note)


@given(st.binary(max_size=60) | st.text(st.sampled_from("— \nab+/=A"), max_size=60).map(str.encode))
def test_any_bytes_are_refused_with_a_documented_error(note: bytes) -> None:
    with pytest.raises((NoteMalformedError, KeyWrongError)):
        opened(note)


def test_a_checkpoint_has_the_text_of_the_specification() -> None:
    checkpoint = Checkpoint("example.com/log", 20852163, EMPTY_ROOT)
    text = "example.com/log\n20852163\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert checkpoint.to_text() == text
    assert Checkpoint.from_text(text) == checkpoint


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_from_text_returns_the_checkpoint_that_to_text_wrote_also_through_a_note(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert Checkpoint.from_text(opened(note_sign(checkpoint.to_text(), NAME, KEY))) == checkpoint


_ROOT = base64.b64encode(EMPTY_ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        f"log\n1\n{_ROOT}",
        f"log\n1\n{_ROOT}\nextension\n",
        f"log\n1\n{_ROOT}\n\n",
        f"\n1\n{_ROOT}\n",
        f"log\n01\n{_ROOT}\n",
        f"log\n-1\n{_ROOT}\n",
        f"log\n+1\n{_ROOT}\n",
        f"log\n \n{_ROOT}\n",
        f"log\n1.0\n{_ROOT}\n",
        f"log\n\N{ARABIC-INDIC DIGIT ONE}\n{_ROOT}\n",
        f"log\n{2**63}\n{_ROOT}\n",
        f"log\n{'9' * 5000}\n{_ROOT}\n",
        f"lo\tg\n1\n{_ROOT}\n",
        f"log\n1\n{_ROOT[:-1]}\n",
        f"log\n1\n{_ROOT[:-2]}V=\n",
        "log\n1\nAAAA\n",
        "log\n1\n\n",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointMalformedError):
        Checkpoint.from_text(text)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [("", 1, EMPTY_ROOT), ("a\nb", 1, EMPTY_ROOT), ("a", -1, EMPTY_ROOT), ("a", 2**63, EMPTY_ROOT), ("a", 1, b"short")],
)
def test_a_checkpoint_that_has_no_text_is_refused(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(CheckpointMalformedError):
        Checkpoint(origin, size, root)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_refused_with_the_documented_error(text: str) -> None:
    with pytest.raises(CheckpointMalformedError):
        Checkpoint.from_text(text)
