"""Owns the client's half of the native protocol, version 1, without I/O: what to send, what may come, what an end is.

Method calls in, frames out; frames in, events out. No sockets, no clock: `client.py` moves the frames.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from .errors import ClientError, ConnectionLost, LocalProtocolError, RemoteProtocolError, ServerError, ServerFull
from .events import TYPE_NAMES, Done, Error, Event, Ready, parse_event
from .unacknowledged import SAMPLE_BYTES

PROTOCOL_VERSION = 1
MAX_FRAME_BYTES = 32 * 1024  # 1.024 s of 16-bit mono at 16 kHz; smaller frames let pings and stops through
ROUNDING_SECONDS = 0.001  # by which what the server says it received may be less
CLOSE_TRY_AGAIN_LATER = 1013  # RFC 6455's registry; the server uses it when it has no room

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]


@dataclass(frozen=True, slots=True)
class Endpointing:
    """When an utterance ends, for this session; `None` leaves it to the server. Times in milliseconds."""

    enabled: bool = True
    trailing_silence_ms: int | None = None
    max_utterance_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What ``start`` asks for. The server judges the values, so that this client need not know its limits."""

    sample_rate: int = 16000
    encoding: Encoding = "pcm_s16le"
    channels: int = 1
    language: str | None = None
    partials: bool = True
    words: bool = True
    nbest: int = 1
    endpointing: Endpointing = Endpointing()
    hotwords: tuple[str, ...] = ()
    only_hotwords: bool = False  # whether nothing else is told
    timings: bool = False
    formatted: bool = True  # whether finals also come with marks, capitals and figures
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Which session is to go on."""

    session_id: str
    token: str
    utterance: int  # the first whose final we have not got


class Request(StrEnum):
    """What may come between blocks of audio."""

    FINALIZE = "finalize"
    KEEPALIVE = "keepalive"


class State(StrEnum):
    """Where the session stands, seen from the client."""

    NEW = "new"
    STARTING = "starting"
    STREAMING = "streaming"
    STOPPING = "stopping"
    DONE = "done"
    ENDED = "ended"  # by the server, which has not received everything
    FAILED = "failed"


# What the client may do, and what the server may send, in each state. Everything else is somebody's mistake.
_LOCAL: dict[tuple[State, str], State] = {
    (State.NEW, "start"): State.STARTING,
    (State.STREAMING, "audio"): State.STREAMING,
    (State.STREAMING, "finalize"): State.STREAMING,
    (State.STREAMING, "keepalive"): State.STREAMING,
    (State.STREAMING, "stop"): State.STOPPING,
}
_REMOTE: dict[tuple[State, str], State] = {
    (State.STARTING, "ready"): State.STREAMING,
    (State.STREAMING, "ack"): State.STREAMING,
    (State.STOPPING, "ack"): State.STOPPING,
    (State.STREAMING, "speech_started"): State.STREAMING,
    (State.STREAMING, "partial"): State.STREAMING,
    (State.STREAMING, "final"): State.STREAMING,
    (State.STREAMING, "going_away"): State.STREAMING,
    (State.STREAMING, "done"): State.ENDED,  # a server that shuts down finishes what is open, unasked
    (State.STOPPING, "speech_started"): State.STOPPING,
    (State.STOPPING, "partial"): State.STOPPING,
    (State.STOPPING, "final"): State.STOPPING,
    (State.STOPPING, "going_away"): State.STOPPING,
    (State.STOPPING, "done"): State.DONE,
    (State.STARTING, "error"): State.FAILED,
    (State.STREAMING, "error"): State.FAILED,
    (State.STOPPING, "error"): State.FAILED,
}


def start_message(options: Options) -> str:
    """The ``start`` frame. Defaults are left out: an older server refuses fields that it does not know."""
    message: dict[str, object] = {
        "type": "start",
        "sample_rate": options.sample_rate,
        "encoding": options.encoding,
        "channels": options.channels,
    }
    for name in (
        "language", "partials", "words", "nbest", "hotwords", "only_hotwords", "timings", "formatted", "resumable",
    ):  # fmt: skip
        if getattr(options, name) != getattr(Options(), name):
            message[name] = getattr(options, name)
    endpointing = {
        name: getattr(options.endpointing, name)
        for name in ("enabled", "trailing_silence_ms", "max_utterance_ms")
        if getattr(options.endpointing, name) != getattr(Endpointing(), name)
    }
    if endpointing:
        message["endpointing"] = endpointing
    return json.dumps(message)


class ClientProtocol:
    """One session. Raises `LocalProtocolError` for what we must not send, `RemoteProtocolError` for the rest."""

    def __init__(self, url: str, options: Options) -> None:
        self.url = url
        self.options = options
        self.state = State.NEW
        self.error: Error | None = None
        self._num_bytes = 0  # of audio
        self._received_seconds = 0.0  # of it, as the server says when it is done

    def _local(self, action: str) -> None:
        following = _LOCAL.get((self.state, action))
        if following is None:
            raise LocalProtocolError(f"cannot send {action}: the session is {self.state}")
        self.state = following

    def start(self, resume: Resume | None = None) -> str:
        """The first frame; `resume`: to go on with a session in place of a new one."""
        self._local("start")
        if resume is None:
            return start_message(self.options)
        return json.dumps({"type": "start", "resume": dataclasses.asdict(resume)})

    def audio(self, data: bytes) -> list[bytes]:
        """`data` as frames: none when empty, several when long."""
        self._local("audio")
        self._num_bytes += len(data)
        return [data[at : at + MAX_FRAME_BYTES] for at in range(0, len(data), MAX_FRAME_BYTES)]

    def finalize(self) -> str:
        """Asks for a final now; the session stays open."""
        self._local("finalize")
        return '{"type": "finalize"}'

    def keepalive(self) -> str:
        """Says that silence on the wire is meant."""
        self._local("keepalive")
        return '{"type": "keepalive"}'

    def stop(self) -> str:
        """Ends the audio; the last final and ``done`` follow."""
        self._local("stop")
        return '{"type": "stop"}'

    def receive(self, frame: str | bytes) -> Event | None:
        """What a frame says; `None` for a message newer than this client, in any state."""
        event = parse_event(frame)
        if event is None:
            return None
        name = TYPE_NAMES[type(event)]
        following = _REMOTE.get((self.state, name))
        if following is None:
            raise RemoteProtocolError(f"the server sent {name!r} while the session was {self.state}")
        if isinstance(event, Ready) and event.protocol != PROTOCOL_VERSION:
            raise RemoteProtocolError(
                f"the server speaks version {event.protocol} of the protocol, this client {PROTOCOL_VERSION}: "
                f"update {'this client' if event.protocol > PROTOCOL_VERSION else 'the server'}"
            )
        self.state = following
        if isinstance(event, Error):
            self.error = event
        elif isinstance(event, Done):
            self._received_seconds = event.audio_seconds
            if event.audio_seconds < self._given_seconds() - ROUNDING_SECONDS:
                self.state = State.ENDED  # it shut down while the rest, and our stop, were on their way
        return event

    def _given_seconds(self) -> float:
        """Whole samples of audio that were to be sent."""
        options = self.options
        return self._num_bytes // (SAMPLE_BYTES[options.encoding] * options.channels) / options.sample_rate

    def ended_early(self) -> ConnectionLost:
        """What to raise when the session is ``ended``."""
        return ConnectionLost(
            f"the server ended the session early, after {self._received_seconds:g} s of audio ({self.url})"
        )

    def closed(self, code: int, reason: str) -> ClientError | None:
        """Why the connection is over, as the error to raise; `None` when all was said.

        `code` as in RFC 6455: 1006 for a connection that broke without a closing handshake.
        """
        if self.state is State.DONE:
            return None
        if self.state is State.ENDED:
            return self.ended_early()
        if code == CLOSE_TRY_AGAIN_LATER:
            return (
                ServerFull(self.url, self.error.message, self.error.code)
                if self.error
                else ServerFull(self.url, reason)
            )
        if self.error is not None:
            return ServerError(self.error.code, self.error.message)
        words = {
            1000: "the server ended the session early",
            1001: "the server is shutting down",
            1006: "the connection broke off",
            1009: "a message was too long",
            1012: "the server is restarting",
            1011: "the server failed or stopped answering",
        }.get(code, "the server closed the connection")
        return ConnectionLost(f"{words} (close code {code}{f': {reason}' if reason else ''}, {self.url})")
