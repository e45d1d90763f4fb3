"""Client for a streaming_asr server: an asyncio library, and the command ``streaming-asr-mic`` (in `cli`)."""

from __future__ import annotations

from .client import DEFAULT_URL, StreamingClient, connect
from .errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    ServerError,
    ServerFull,
    UsageError,
)
from .events import Alternative, Done, Error, Event, Final, GoingAway, Partial, Ready, SpeechStarted, Word
from .protocol import Encoding, Endpointing, Request

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_URL",
    "Alternative",
    "ClientError",
    "ConnectionFailed",
    "ConnectionLost",
    "Done",
    "Encoding",
    "Endpointing",
    "Error",
    "Event",
    "Final",
    "GoingAway",
    "LocalProtocolError",
    "Partial",
    "Ready",
    "RemoteProtocolError",
    "Request",
    "ServerError",
    "ServerFull",
    "SpeechStarted",
    "StreamingClient",
    "UsageError",
    "Word",
    "connect",
]
