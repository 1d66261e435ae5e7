"""Which addresses the portal speaks to when strangers name them. It must not be made to knock at doors of its own network.

1. Only public unicast addresses: not private, loopback, link-local (cloud metadata), carrier-grade, documentation or multicast ones, and
   of IPv6 only global unicast. An IPv6 address that carries an IPv4 address is as public as that one.
2. A name is resolved once, every address it has must be public, and the connection goes to the address that was checked, while the
   certificate must be the name's: an answer that changes between check and use (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def address_is_public(address: str) -> bool:
    """Whether an IP address may be spoken to. Rule 1."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast
    if found.ipv4_mapped is not None:
        return address_is_public(str(found.ipv4_mapped))
    if found in _NAT64:
        return address_is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    carried = [inner for inner in (found.sixtofour, *(found.teredo or ())) if inner is not None]
    return found in _GLOBAL_UNICAST and found.is_global and all(address_is_public(str(inner)) for inner in carried)


def addresses_of(host: str, port: int) -> list[str]:
    """Every address that the resolver gives for `host`. Raises OSError where there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host!r} is no name of a host") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
