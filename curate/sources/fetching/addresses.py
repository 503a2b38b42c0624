"""Tell addresses and host names that anybody may ask from those inside somebody's network.

An explicit table instead of `ipaddress.is_global`, whose answer moves with Python versions.
"""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

_IPV4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-shared"),  # holds Alibaba's metadata service
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),  # Azure's, at a public address
        ("169.254.0.0/16", "link-local"),  # holds the metadata services of most clouds
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),  # holds Oracle's metadata service
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
"""Source: IANA IPv4 Special-Purpose Address Registry (RFC 6890); clouds' manuals for metadata."""

_IPV6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),  # holds Amazon's metadata service fd00:ec2::254
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Source: IANA IPv6 Special-Purpose Address Registry (RFC 6890)."""

_IPV4_INSIDE = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4-mapped (RFC 4291) and NAT64 (RFC 6052): as good as the IPv4 address in the last 32 bits."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # Source: IANA IPv6 Address Space

_LOCAL_SUFFIXES = (
    "localhost",  # RFC 6761
    "local",  # RFC 6762
    "localdomain",  # the resolver file of many systems
    "home.arpa",  # RFC 8375
    "internal",  # reserved by ICANN in 2024; holds metadata.google.internal
)


def kind_of_address(address: Address) -> str:
    """Name what keeps an address from being public ("loopback", ...); "" for a public one."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _IPV4 if address in network), "")
    plain = IPv6Address(int(address))  # without its zone
    if any(plain in network for network in _IPV4_INSIDE):
        return kind_of_address(IPv4Address(int(plain) & 0xFFFFFFFF))
    named = next((kind for network, kind in _IPV6 if plain in network), "")
    return named or ("" if plain in _GLOBAL_UNICAST else "reserved")


def kind_of_name(host: str) -> str:
    """Name what keeps a host name from being public; "" for a public one."""
    name = host.rstrip(".").lower()
    if any(name == suffix or name.endswith(f".{suffix}") for suffix in _LOCAL_SUFFIXES):
        return "local name"
    return "" if "." in name else "name without a dot"


def literal_address(host: str) -> Address | None:
    """Read a host that is an address in any form that sockets take; None for a name.

    Source: POSIX inet_addr: one to four parts, each decimal, octal (0) or hexadecimal (0x).
    """
    plain = host.strip("[]").rstrip(".")
    if ":" in plain:
        try:
            return IPv6Address(plain.replace("%25", "%", 1))
        except ValueError:
            return None
    try:
        return IPv4Address(socket.inet_aton(plain))
    except OSError:
        return None


def address_of(text: str) -> Address:
    """Read an address as a resolver gives it, a zone included."""
    return ipaddress.ip_address(text)
