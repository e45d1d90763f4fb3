"""Owns every error this package raises on purpose; each class says whose fault it was.

Knows nothing of sockets, models or the other modules.
"""


class StreamingAsrError(Exception):
    """Base of every deliberate error of this package."""


class ClientError(StreamingAsrError):
    """The peer broke the protocol or sent something it was told not to: report it to the peer, close its session.

    ``code`` is a stable machine-readable word (``bad_json``, ``wrong_order`` …), ``close_code`` the WebSocket close
    code that fits (RFC 6455, section 7.4.1).
    """

    def __init__(self, code: str, message: str, close_code: int = 1008) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.close_code = close_code


class InputError(StreamingAsrError, ValueError):
    """The caller or user passed a value or file that cannot be used; the message says which and why."""


class ModelError(StreamingAsrError):
    """A model folder is incomplete, damaged, or made for another version; the message names the file."""
