"""Changes to valid bytes, as hostile writers and broken disks make them."""

from __future__ import annotations

import random

TOKENS = (
    *(b"nan", b"-inf", b"1e999", b"9007199254740993", b"-1", b"0", b"1" * 50, b"null", b"True"),
    *(b"\x00", b"\xff", b"\n", b"\r", b"\t", b"'", b'"', b",", b";", b"#", b"[", b"]", b"{", b"}", b"(", b")"),
    *(b"\\u0000", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"loop_\n", b"ENDMDL\n", b"|O", b"PK\x01\x02", b"../"),
)
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def mutated(data: bytes, source: random.Random, changes: int) -> bytes:
    """`data` after so many changes, each at a place that `source` draws."""
    found = bytearray(data)
    for _ in range(changes):
        place = source.randrange(len(found) + 1)
        until = min(len(found), place + source.choice((1, 1, 2, 4, 8, 30)))
        match source.randrange(8):
            case 0:
                found[place:until] = bytes(byte ^ (1 << source.randrange(8)) for byte in found[place:until])
            case 1:
                del found[place:until]
            case 2:
                found[place:place] = found[place:until] * source.choice((1, 2, 10))
            case 3:
                found[place:until] = source.randbytes(until - place)
            case 4:
                found[place:place] = source.choice(TOKENS)
            case 5:
                token = source.choice(TOKENS)
                found[place : place + len(token)] = token
            case 6:
                width = source.choice((1, 2, 4, 8))
                found[place : place + width] = (source.choice(_NUMBERS) % 2 ** (8 * width)).to_bytes(
                    width, source.choice(("little", "big"))
                )
            case _:
                other = source.randrange(len(found) + 1)
                found[place:until] = found[other : other + until - place]
    return bytes(found)
