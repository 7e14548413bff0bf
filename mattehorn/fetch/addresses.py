"""Which IP addresses are public: the only ones that a caller may send us to. Pure.

`ipaddress.is_global` is not enough: on Python 3.11 it passes 64:ff9b::, 2002::, fec0::, 224.0.0.1 and 168.63.129.16.
The list holds the metadata hosts of the clouds: 169.254.169.254, fd00:ec2::254, 100.100.100.200, 192.0.0.192.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

# IANA's special-purpose registry, and what follows it
IPV4_REFUSED = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's virtual host, in public space
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All of IPv6 that is routed to anybody. What lies outside is refused: ::, ::1, 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64),
# 100::/64, fc00::/7, fe80::/10, fec0::/10, ff00::/8.
IPV6_UNICAST = IPv6Network("2000::/3")
IPV6_REFUSED = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address within
        "3fff::/20",  # documentation (RFC 9637)
    )
)


def unwrap(address: Address) -> Address:
    """The IPv4 address in an IPv4-mapped IPv6 one (::ffff:0:0/96), any other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Whether `address`, unwrapped, is global unicast and in none of the ranges above."""
    address = unwrap(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in IPV4_REFUSED)
    inside = address.scope_id is None and address in IPV6_UNICAST
    return inside and not any(address in network for network in IPV6_REFUSED)
