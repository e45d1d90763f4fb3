"""Owns which web pages may talk to the server: request headers in, a reason to refuse out. No sockets, no HTTP.

A browser lets any page open a WebSocket to any address, and only says whose page it is (RFC 6455, 10.2). Two attacks
follow. *Hijacking*: a page from elsewhere connects to a server that only its user can reach; its `Origin` tells.
*DNS rebinding*: such a page has its own name resolve to that server, so that `Origin` and `Host` agree; the name tells,
since an address, a name without a dot, or one that a certificate vouches for cannot be rebound from outside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from .access import is_loopback
from .errors import InputError

ANY = "*"


class Origins:
    """The pages that may connect to a server: its own, and those of `allowed` origins (``https://app.example``).

    Raises `InputError` for what is no origin.
    """

    def __init__(self, listen_host: str, allowed: Sequence[str] = ()) -> None:
        self._allowed = {_normalize(origin) for origin in allowed}
        self._names = {urlsplit(origin).hostname for origin in self._allowed} | {listen_host.lower()}
        self._is_loopback = is_loopback(listen_host)

    def refusal(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Why a request with these values of `Host` and `Origin` must not be answered, in words; `None`: it may be.

        Programs send no `Origin`. On loopback they, too, must use a name of this machine.
        """
        if ANY in self._allowed:
            return None
        if self._is_loopback:
            for host in hosts:
                if not self._is_own_name(_hostname(f"//{host}")):
                    return f"this server does not answer to {host!r}; --allow-origin https://{host} makes it"
        for origin in origins:
            if not self._may_connect(origin.lower(), hosts):
                return f"web pages of {origin!r} may not connect; --allow-origin {origin} lets them"
        return None

    def _may_connect(self, origin: str, hosts: Sequence[str]) -> bool:
        if origin in self._allowed:
            return True
        name = _hostname(origin)
        is_same_origin = name is not None and origin.partition("://")[2] in {host.lower() for host in hosts}
        return is_same_origin and (origin.startswith("https://") or self._is_own_name(name))

    def _is_own_name(self, name: str | None) -> bool:
        """Whether nobody outside can have made this name resolve to here."""
        if name is None:
            return False
        return name in self._names or "." not in name or name.endswith(".localhost") or _is_address(name)


def _normalize(origin: str) -> str:
    normal = origin.lower().removesuffix("/")
    parts = urlsplit(normal)
    if normal != ANY and (parts.scheme not in ("http", "https") or normal != f"{parts.scheme}://{parts.netloc}"):
        raise InputError(f"{origin!r} is no web origin; one looks like https://app.example")
    return normal


def _hostname(url: str) -> str | None:
    try:
        name = urlsplit(url).hostname
    except ValueError:  # an unclosed bracket
        return None
    return name.removesuffix(".") if name else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
