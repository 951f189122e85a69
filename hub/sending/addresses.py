"""Which addresses the hub may send to: public ones, over HTTPS, so that nobody reaches through it into its network.

A name is resolved once and what it means is checked; the connection then goes to that very address, so that a name
which means something else a moment later changes nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from hub.errors import Invalid

MAX_URL = 500
# What a browser and a library might read in two ways is in no address here.
_PLAIN = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9.:-]+")
_LOWEST_PORT = 1024
_HTTPS = 443
Address = IPv4Address | IPv6Address
# getaddrinfo(host, port) as in the standard library, cut down to addresses.
Resolver = Callable[[str, int], list[str]]

# IPv6 addresses that hold an IPv4 one in their last 32 bits: translated (RFC 6052), compatible (RFC 4291), and
# translated locally (RFC 8215), which is nobody's business.
_HOLDING_IPV4 = tuple(map(IPv6Network, ("64:ff9b::/96", "::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")))
_TUNNELLED = IPv6Network("2002::/16")
_ANYCAST_6TO4 = 0xC0586300  # 192.88.99.0/24, withdrawn (RFC 7526)


@dataclass(frozen=True)
class Target:
    """Where a message goes: `path` with its query, to `host` as it was named, at the address it was found to have."""

    host: str
    port: int
    path: str
    address: str
    has_tls: bool


def find_target(
    url: str, *, allow_loopback: bool = False, resolve: Resolver | None = None, max_url: int = MAX_URL
) -> Target:
    """Where `url` leads, at the first of its addresses. Reads the network for a name.

    Raises Invalid (URL_FORBIDDEN) for an address that is not public, or when any of a name's is not.
    `allow_loopback` lets tests send to http://127.0.0.1.
    """
    host, port, path, has_tls = _parts(url, allow_loopback=allow_loopback, max_url=max_url)
    try:
        found = (resolve or _resolve)(host, port)
    except (OSError, UnicodeError) as error:
        raise _forbidden(f"the name {host} cannot be resolved ({error})") from error
    if not found:
        raise _forbidden(f"the name {host} means no address")
    if has_tls:  # without it, it is the loopback of a test
        for each in found:
            if not is_public(ip_address(each.partition("%")[0])):
                # Which address a name has inside this network is nobody's business.
                raise _forbidden(f"{host} is not a public address, or is a name of one that is not")
    return Target(host, port, path, found[0], has_tls)


def is_public(address: Address) -> bool:
    """True for an address of the internet, and false for one of this machine, this network, or no use to anybody."""
    if isinstance(address, IPv6Address):
        inner = list(_held_in(address))
        if inner:
            return all(is_public(each) for each in inner)
        if address.is_site_local:
            return False
    elif int(address) & 0xFFFFFF00 == _ANYCAST_6TO4:
        return False
    is_special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not is_special


def _held_in(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a packet to this one may be sent on to."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address in _TUNNELLED and address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if any(address in network for network in _HOLDING_IPV4):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _parts(url: str, *, allow_loopback: bool, max_url: int) -> tuple[str, int, str, bool]:
    if len(url) > max_url or not _PLAIN.fullmatch(url) or "\\" in url:
        raise _forbidden(f"it is longer than {max_url} characters, or has one that is not plain ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _forbidden(str(error)) from error
    if "@" in parts.netloc or parts.fragment or not _HOST.fullmatch(host):
        raise _forbidden("it has a user, a fragment, or no plain host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if allow_loopback and parts.scheme == "http" and host == "127.0.0.1":
        return host, port or 80, path, False
    if parts.scheme != "https":
        raise _forbidden("it does not begin with https://")
    if port is not None and port != _HTTPS and port < _LOWEST_PORT:
        raise _forbidden(f"its port is {port}, and it may be {_HTTPS} or one from {_LOWEST_PORT} on")
    return host, port or _HTTPS, path, True


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def _forbidden(why: str) -> Invalid:
    return Invalid(
        f"The hub does not send to that address: {why}. Name a public one, as https://example.org/path.",
        code="URL_FORBIDDEN",
    )
