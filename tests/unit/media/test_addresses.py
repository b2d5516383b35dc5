"""Which addresses a stranger's URL may lead to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.media.addresses import kind_of, may_connect, parse_address

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808"]
PRIVATE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1"]
LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1", "64:ff9b::7f00:1"]
METADATA = ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"]
LINK_LOCAL = ["169.254.0.1", "fe80::1", "fe80::1%eth0", "fec0::1"]
MULTICAST = ["224.0.0.1", "239.255.255.255", "ff02::1"]
RESERVED = [
    *("0.0.0.0", "0.1.2.3", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("240.0.0.1", "255.255.255.255", "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b:1::1"),
    *("100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "4000::1", "5f00::1"),
]
KINDS = {
    "public": PUBLIC,
    "private": PRIVATE,
    "loopback": LOOPBACK,
    "metadata": METADATA,
    "link-local": LINK_LOCAL,
    "multicast": MULTICAST,
    "reserved": RESERVED,
}


@pytest.mark.parametrize(("text", "kind"), [(text, kind) for kind, texts in KINDS.items() for text in texts])
def test_each_address_has_its_kind(text: str, kind: str) -> None:
    """An address is public, or of the kind that keeps it from being reached; NAT64 is what it leads to."""
    assert kind_of(parse_address(text)) == kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("allow_private", [False, True])
def test_only_public_addresses_are_reached(kind: str, allow_private: bool) -> None:
    """allow_private opens private and loopback addresses; metadata, link-local and reserved ones stay shut."""
    expected = kind == "public" or (allow_private and kind in {"private", "loopback"})
    for text in KINDS[kind]:
        assert may_connect(parse_address(text), allow_private=allow_private) is expected


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """The tables are at least as strict as Python's own, but for NAT64, which is judged by where it leads."""
    if address in ipaddress.ip_network("64:ff9b::/96"):
        return
    if address.is_private or address.is_multicast or address.is_reserved or address.is_unspecified:
        assert kind_of(address) != "public"


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_opens_nothing(address: ipaddress.IPv4Address) -> None:
    """No IPv6 form of an address that may not be reached may be reached."""
    number = int(address)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    compatible = ipaddress.IPv6Address(number)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (number << 80))
    assert not any(may_connect(form, allow_private=False) for form in (mapped, compatible, six_to_four))
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    assert kind_of(nat64) == kind_of(address)


def test_what_is_no_address_is_a_value_error() -> None:
    """A resolver's nonsense is not taken for an address."""
    for text in ("", "localhost", "1.2.3", "::g"):
        with pytest.raises(ValueError, match="does not appear to be"):
            parse_address(text)
