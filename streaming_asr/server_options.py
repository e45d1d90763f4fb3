"""Owns what whoever runs a server decides of it, and which decisions do not go together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from .access import is_loopback
from .errors import InputError
from .limits import Limits
from .watchdog import STALL_SECONDS
from .worker import MAX_BACKLOG_SECONDS

MAX_PORT = 65535


@dataclass(frozen=True)
class ServerOptions:
    """Where to listen and what to allow."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0 picks a free one
    max_sessions: int | None = None  # None: as many as were measured at start to be carried within the promise
    max_latency_seconds: float = 0.3  # the promise: for a step to end after its audio came
    workers: int | None = None  # that recognize; None: one a core, 4 at most
    max_batch: int | None = None  # streams in a step; None: 64 at most, and as many as was measured to keep the promise
    calibration: Path | None = None  # file that keeps what is measured at start; None: measured each time
    max_backlog_seconds: float = MAX_BACKLOG_SECONDS  # audio of one session that waits, before it is read no further
    stall_seconds: float = STALL_SECONDS  # from which the recognizer is taken to stand still, and restarted
    limits: Limits = field(default_factory=Limits)  # of one client
    drain_seconds: float = 10.0  # at shutdown, for sessions to end by themselves
    resume_seconds: float = 60.0  # that a session waits for its client, if that asked for it; 0: none does
    allow_origins: tuple[str, ...] = ()  # web pages from elsewhere that may connect; "*" for all
    vosk_port: int | None = None  # its clients by convention ask for no path; None keeps it closed
    sherpa_port: int | None = None  # the same
    wyoming_port: int | None = None  # plain TCP, without keys or TLS: its clients know neither; None keeps it closed
    keys: Path | None = None  # key file; None asks nobody for a key
    insecure: bool = False  # whether anybody may come in from beyond this machine
    tls_certificate: Path | None = None  # PEM
    journal: Path | None = None  # folder for finals, each on disk before it is sent; None: nothing is kept
    state_dir: Path | None = None  # folder for open sessions, so that they outlive a restart; None: nothing is kept
    tls_key: Path | None = None  # PEM; None: in the certificate's file

    def __post_init__(self) -> None:
        self.limits.validate()
        for port in (self.port, self.vosk_port, self.sherpa_port, self.wyoming_port):
            if port is not None and not 0 <= port <= MAX_PORT:
                raise InputError(f"a port must be 0 to {MAX_PORT}, not {port}")
        for name in ("drain_seconds", "resume_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not self.max_latency_seconds > 0:
            raise InputError("the latency promised must be above 0")
        if self.workers is not None and self.workers < 1:
            raise InputError("there must be at least one worker")
        if self.max_batch is not None and self.max_batch < 1:
            raise InputError("a step must move at least one stream on")
        if self.max_sessions is not None and self.max_sessions < 0:
            raise InputError("max_sessions must not be negative")
        if not (self.insecure or self.keys is not None or is_loopback(self.host)):
            raise InputError(
                f"anybody who reaches {self.host or 'any address'} could come in: give a key file "
                "(`streaming-asr keys add`), or say that they may (`--insecure`)"
            )
        is_guarded = self.keys is not None or self.tls_certificate is not None or not is_loopback(self.host)
        if self.wyoming_port is not None and is_guarded and not self.insecure:
            raise InputError(
                "Wyoming's clients know neither keys nor TLS: leave its port closed, or say that anybody who reaches "
                "it may come in (`--insecure`)"
            )
        if self.tls_key is not None and self.tls_certificate is None:
            raise InputError("a TLS key needs its certificate")
