"""Owns the client's exceptions. Each class says whose fault it was; each message says what to do about it."""

from __future__ import annotations


class ClientError(Exception):
    """Base of everything this package raises on purpose; ``str()`` is one sentence for people."""


class UsageError(ClientError):
    """The caller asked for something that cannot be: a malformed URL, an unknown device, a file we cannot read."""


class LocalProtocolError(ClientError):
    """The caller broke the protocol: audio after ``stop``, say. Nothing was sent."""


class RemoteProtocolError(ClientError):
    """The server broke the protocol: something that is not JSON, a field that is missing, a message out of turn."""


class ConnectionFailed(ClientError):  # noqa: N818 - reads as what happened
    """There was no session: nobody listens there, or not a streaming_asr server."""


class ConnectionLost(ClientError):  # noqa: N818 - reads as what happened
    """The connection broke before the server had said ``done``."""


class ServerError(ClientError):
    """The server said no, in its own words; `code` is stable, for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the server says: {message} ({code})")
        self.code = code
        self.message = message


class ServerFull(ServerError):  # noqa: N818 - reads as what happened
    """There is no room now, in the server or for this key or address (close code 1013, HTTP 503): try again later."""

    def __init__(self, url: str, message: str = "", code: str = "server_full") -> None:
        super().__init__(code, message)
        self.args = (f"the server at {url} has no room{f' ({message})' if message else ''}; try again in a moment",)
