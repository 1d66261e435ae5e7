"""Which addresses the portal speaks to."""

from __future__ import annotations

import pytest

from people.outward import address_is_public, addresses_of


def test_name_without_an_address_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r".+"):
        addresses_of("no-such-host.invalid", 443)
    with pytest.raises(OSError, match="no name of a host"):
        addresses_of("a" * 64 + ".invalid", 443)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "255.255.255.255", "224.0.0.1"),
        "0.0.0.0",  # noqa: S104 -- never bound, only refused
        *(
            "::1",
            "::",
            "::127.0.0.1",
            "fec0::1",
            "2001:db8::1",
            "100::1",
            "64:ff9b:1::7f00:1",
            "2001:0:7f00:1::",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "ff02::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        "not an address",
    ],
)
def test_address_that_is_not_public(address: str) -> None:
    assert not address_is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]
)
def test_address_that_is_public(address: str) -> None:
    assert address_is_public(address)
