"""Owns the decision who may have a session, and counts what those who are in use of their limits.

Knows headers, addresses, keys and the clock that it is given; no sockets and no protocol. Its refusals are
`ClientError`s, and `http_status` says how HTTP puts them.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from .access import Headers, credentials
from .errors import ClientError
from .keys import Key, KeyRing

_STATUS = {
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "key_revoked": HTTPStatus.UNAUTHORIZED,
    "key_sessions": HTTPStatus.TOO_MANY_REQUESTS,
    "key_audio": HTTPStatus.TOO_MANY_REQUESTS,
    "address_sessions": HTTPStatus.TOO_MANY_REQUESTS,
    "bad_origin": HTTPStatus.FORBIDDEN,
    "server_full": HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_SECONDS = 5  # told to who was refused for what may change soon


def http_status(error: ClientError) -> HTTPStatus:
    """How HTTP answers a request that was refused with `error`."""
    return _STATUS.get(error.code, HTTPStatus.BAD_REQUEST)


def http_headers(error: ClientError) -> dict[str, str]:
    """What such an answer must say beside its body (RFC 9110, 11.6.1 and 10.2.3)."""
    status = http_status(error)
    if status is HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return {"Retry-After": str(RETRY_SECONDS)}
    return {}


@dataclass(frozen=True)
class Visitor:
    """Somebody who was let in."""

    address: str
    key: Key | None = field(default=None, repr=False)

    @property
    def owner(self) -> str:
        """Who shares with whom: the bearers of one key, or, without keys, one network."""
        return self.key.sha256 if self.key is not None else self.network

    @property
    def network(self) -> str:
        """The address; of IPv6 the first 64 bits, all addresses of which one host may take (RFC 4291, 2.5.4)."""
        try:
            address = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address  # of a socket that has none
        if isinstance(address, ipaddress.IPv4Address):
            return self.address
        return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address), 64), strict=False))


class Gate:
    """Asks for keys if there is a ring of them."""

    def __init__(
        self,
        keys: KeyRing | None = None,
        max_sessions_per_address: int | None = None,
    ) -> None:
        self._keys = keys
        self._max_sessions_per_address = max_sessions_per_address
        self._sessions: Counter[str] = Counter()  # by network

    def identify(self, headers: Headers, query: str, address: str) -> Visitor:
        """Who asks, however much they use already. Raises `ClientError` if a key is needed and none is good."""
        if self._keys is None:
            return Visitor(address)
        offered = credentials(headers, query)
        key = self._keys.find(offered)
        if key is None:
            words = "this key is not known" if offered else "a key is needed: Authorization: Bearer KEY"
            raise ClientError("unauthorized", words)
        return Visitor(address, key)

    def check(self, visitor: Visitor) -> None:
        """Raises `ClientError` if they may open no further session now."""
        most = self._max_sessions_per_address
        if most is not None and self._sessions[visitor.network] >= most:
            raise ClientError("address_sessions", f"an address may have {most} sessions at once", 1013)
        if self._keys is not None and visitor.key is not None:
            self._keys.check(visitor.key)

    def too_many(self, visitors: Iterable[Visitor]) -> list[bool]:
        """Of sessions by whose they are: whether each is more than the limits allow beside those before it."""
        of_owners: Counter[str] = Counter()
        of_networks: Counter[str] = Counter()
        beyond = []
        for visitor in visitors:
            limits = [(of_networks[visitor.network], self._max_sessions_per_address)]
            if visitor.key is not None:
                limits.append((of_owners[visitor.owner], visitor.key.max_sessions))
            is_beyond = any(most is not None and held >= most for held, most in limits)
            if not is_beyond:
                of_networks[visitor.network] += 1
                of_owners[visitor.owner] += 1
            beyond.append(is_beyond)
        return beyond

    @contextmanager
    def session(self, visitor: Visitor) -> Iterator[None]:
        """Counts a session while it lasts; `check` comes before."""
        self._sessions[visitor.network] += 1
        if self._keys is not None and visitor.key is not None:
            self._keys.open_session(visitor.key)
        try:
            yield
        finally:
            self._sessions[visitor.network] -= 1
            if not self._sessions[visitor.network]:
                del self._sessions[visitor.network]
            if self._keys is not None and visitor.key is not None:
                self._keys.close_session(visitor.key)

    def spend(self, visitor: Visitor, audio_seconds: float) -> None:
        """Notes audio that came. Raises `ClientError` when no more may come."""
        if self._keys is not None and visitor.key is not None:
            self._keys.spend(visitor.key, audio_seconds)
