"""Owns where a request carries its key, and which addresses are this machine's own.

Pure: headers in, keys out. Knows no sockets and no key file; what it returns is never logged.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Protocol
from urllib.parse import parse_qs

from .errors import ClientError

SCHEMES = ("bearer", "token")  # of Authorization: everybody's, and Deepgram's
KEY_SUBPROTOCOLS = ("bearer", "token")  # a browser sends its key as the subprotocol after one of these (Deepgram's way)
OPENAI_SUBPROTOCOL = "openai-insecure-api-key."  # and the key, in one word (OpenAI's way)
QUERY_PARAMETER = "token"
MAX_OFFERED_KEYS = 8  # each is compared with all keys, for a stranger; a client that tries all ways offers 4


class Headers(Protocol):
    """What is asked of a request's headers."""

    def get_all(self, name: str, /) -> list[str]:
        """All values of a header, whatever its case."""


def credentials(headers: Headers, query: str) -> list[str]:
    """Every key that a request offers, in any of the ways that the protocols' clients know; most offer none or one.

    Raises `ClientError` for a request that offers more than `MAX_OFFERED_KEYS`.
    """
    found = []
    for value in headers.get_all("Authorization"):
        scheme, _, rest = value.strip().partition(" ")
        if scheme.lower() in SCHEMES:
            found.append(rest.strip())
    offered = [word.strip() for value in headers.get_all("Sec-WebSocket-Protocol") for word in value.split(",")]
    for before, word in zip(["", *offered], offered, strict=False):
        if before.lower() in KEY_SUBPROTOCOLS:
            found.append(word)
        if word.startswith(OPENAI_SUBPROTOCOL):
            found.append(word.removeprefix(OPENAI_SUBPROTOCOL))
    with contextlib.suppress(ValueError):  # too many fields
        found += parse_qs(query, max_num_fields=1000).get(QUERY_PARAMETER, [])
    offers = [key for key in found if key]
    if len(offers) > MAX_OFFERED_KEYS:
        raise ClientError("unauthorized", f"a request may offer {MAX_OFFERED_KEYS} keys, not {len(offers)}")
    return offers


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
