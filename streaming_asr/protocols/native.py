"""Owns nothing but the encoding of the native protocol, which `messages` and `session` are: ``docs/protocol.md``."""

from __future__ import annotations

from collections.abc import Sequence

from ..messages import Final, Partial, ServerMessage
from .adapter import Adapter, Step, Write, to_json


def write_message(message: ServerMessage) -> Write:
    """The text frame that carries this message."""
    return Write(to_json(message), isinstance(message, Partial), isinstance(message, Partial | Final))


class NativeAdapter(Adapter):
    """``/v1/stream``."""

    name = "native"
    reads_after_stop = True  # what comes then is a mistake

    def read_text(self, text: str) -> Sequence[Step]:
        """A message of `messages.ClientMessage`."""
        return self.session.receive_text(text)

    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """Audio."""
        return self.accept_audio(data)

    def write(self, message: ServerMessage) -> list[Write]:
        """The message itself."""
        return [write_message(message)]
