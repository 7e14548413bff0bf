"""Which addresses callers may send us to: none outside global unicast, in whatever form it comes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.fetch.addresses import is_public, unwrap

# the contract's list (6.3), word by word, and RFC 9637's documentation range
REFUSED_4 = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
]
REFUSED_6 = [
    *("::/128", "::1/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "3fff::/20"),
]
METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"]
PUBLIC = [
    *(
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
    ),
    *("168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"),
    *("192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
    *("198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "1.0.0.0"),
    *("2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1"),
    *("2000::", "3fff:1000::"),
]


def edges(network: str) -> list[str]:
    """First, middle and last address of a range."""
    block = ip_network(network)
    return sorted({str(block[at]) for at in (0, block.num_addresses // 2, -1)})


@pytest.mark.parametrize("text", [text for network in REFUSED_4 + REFUSED_6 for text in edges(network)] + METADATA)
def test_an_address_of_the_list_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", [text for network in REFUSED_4 for text in edges(network)])
def test_an_address_of_the_list_is_not_public_as_mapped_ipv6(text: str) -> None:
    mapped = IPv6Address(f"::ffff:{text}")
    assert unwrap(mapped) == IPv4Address(text)
    assert not is_public(mapped)


@pytest.mark.parametrize("text", [text for network in REFUSED_4 for text in edges(network)] + ["8.8.8.8"])
def test_no_ipv4_address_comes_through_inside_a_tunnels_ipv6_address(text: str) -> None:
    number = int(IPv4Address(text))
    inside = {
        "compatible": number,
        "6to4": int(IPv6Address("2002::")) | number << 80,
        "NAT64": int(IPv6Address("64:ff9b::")) | number,
        "local NAT64": int(IPv6Address("64:ff9b:1::")) | number,
        "Teredo, obscured": int(IPv6Address("2001::")) | number ^ 0xFFFFFFFF,
        "Teredo, server": int(IPv6Address("2001::")) | number << 64,
        "translated": int(IPv6Address("::ffff:0:0:0")) | number,
    }
    assert [name for name, value in inside.items() if is_public(IPv6Address(value))] == []


@pytest.mark.parametrize("text", PUBLIC)
def test_the_neighbours_of_the_ranges_are_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_a_mapped_public_address_is_its_ipv4_address() -> None:
    assert is_public(IPv6Address("::ffff:8.8.8.8"))
    assert str(unwrap(IPv6Address("::ffff:8.8.8.8"))) == "8.8.8.8"


def test_an_address_with_a_zone_is_not_public() -> None:
    assert not is_public(IPv6Address("2606:4700::1111%eth0"))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_outside_global_unicast_is_public(address: IPv4Address) -> None:
    listed = any(address in ip_network(network) for network in REFUSED_4)
    assert is_public(address) is not listed
    assert not is_public(address) or (address.is_global and not address.is_multicast and not address.is_reserved)


@given(st.ip_addresses(v=6) | st.integers(2**125, 2**126 - 1).map(IPv6Address))
def test_no_ipv6_address_outside_global_unicast_is_public(address: IPv6Address) -> None:
    inner = unwrap(address)
    if is_public(address):
        assert inner.is_global
        assert not inner.is_multicast
        if isinstance(inner, IPv6Address):
            assert int(inner) >> 125 == 1  # 2000::/3
            assert inner.sixtofour is None
            assert inner.teredo is None
    else:
        assert (int(address) >> 112) not in range(0x2003, 0x3FFF)
