"""Which IP addresses are on the public internet.

The rules are spelled out instead of taken from `ipaddress.is_global`, whose answers changed between
the Python versions that MsgCore runs on. Sources: the IANA special-purpose address registries
(https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network"; 0.0.0.0 reaches the machine itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a cloud's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's in-cloud service, on a public-looking address
        "169.254.0.0/16",  # link-local; 169.254.169.254 is the clouds' metadata service
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")
"""All of global unicast; everything outside is loopback, local, mapped, multicast or unassigned."""

_NOT_PUBLIC_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, with Teredo (2001::/32), which hides an IPv4 address
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_ISATAP = frozenset((0x0000_5EFE, 0x0200_5EFE))
"""What comes before an IPv4 address in the lower half of an IPv6 address, under any network."""

_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa")
"""Names that mean something only here: RFC 6761, RFC 6762, RFC 8375, and ICANN's resolution 2024.07.29.06."""


def reached_address(address: Address) -> Address:
    """The address at which a packet to `address` ends: an embedded IPv4 address, or itself.

    Knows IPv4-mapped and IPv4-compatible addresses (RFC 4291), 6to4 (RFC 3056), NAT64's
    well-known prefix (RFC 6052) and ISATAP (RFC 5214) under networks that are public.
    """
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _PUBLIC_V6 and (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):  # :: and ::1 embed nothing
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether an address, after `reached_address`, is on the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def parse_address(text: str) -> Address | None:
    """The address that a text is, with or without an IPv6 zone (`%eth0`) and brackets; else None."""
    text = text.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_seen_from_outside(url: str) -> bool:
    """Whether a URL may be reached from the public internet, as far as it shows: nothing is resolved."""
    host = urlsplit(url).hostname or ""
    address = parse_address(host)
    if address is not None:
        return is_public(reached_address(address))
    return "." in host.rstrip(".") and not host.rstrip(".").endswith(_LOCAL_NAMES)
