"""Where a URL of a stranger may lead. Pure: an address in, the reason against it out.

The tables are IANA's special-purpose registries, written out so that they do not change with the Python that runs them:
https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""An IPv4 address in its last 32 bits: it leads wherever that one does, and is how a host without IPv4 reaches it."""

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IPv6 has given out; whatever lies outside and is not named below is reserved."""


def _networks(kind: str, *texts: str) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(text), kind) for text in texts)


SPECIAL: tuple[tuple[Network, str], ...] = (
    # first, as some lie inside others: addresses at which clouds hand out credentials
    *_networks("metadata", "169.254.169.254/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
    *_networks("metadata", "fd00:ec2::/64", "fd20:ce::254/128"),
    *_networks("loopback", "127.0.0.0/8", "::1/128"),
    *_networks("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    *_networks("link-local", "169.254.0.0/16", "fe80::/10", "fec0::/10"),
    *_networks("multicast", "224.0.0.0/4", "ff00::/8"),
    *_networks("reserved", "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
    *_networks("reserved", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
    # IETF protocols with Teredo, documentation, 6to4: each can wrap an IPv4 address
    *_networks("reserved", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)

PRIVATE_KINDS = frozenset({"private", "loopback"})
"""What `media.allow_private` opens. Nothing opens the rest."""


def parse_address(text: str) -> Address:
    """An address as a resolver writes it, also with a zone (`fe80::1%eth0`). Raises ValueError."""
    return ipaddress.ip_address(text.partition("%")[0])


def kind_of(address: Address) -> str:
    """`public`, or why not: metadata, loopback, private, link-local, multicast, reserved."""
    if isinstance(address, ipaddress.IPv6Address) and address in NAT64:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    for network, kind in SPECIAL:
        if address.version == network.version and address in network:
            return kind
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return "reserved"
    return "public"


def may_connect(address: Address, *, allow_private: bool) -> bool:
    """Whether a fetch may lead there."""
    kind = kind_of(address)
    return kind == "public" or (allow_private and kind in PRIVATE_KINDS)
