"""Owns what whoever runs a server decides of it, and which decisions do not go together.

The fields are the options of ``serve`` (`settings.add_fields`), so nothing here is heavy to import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .access import is_loopback
from .errors import InputError
from .limits import MAX_BACKLOG_SECONDS, Limits
from .watchdog import STALL_SECONDS

MAX_PORT = 65535


def _option(default: Any, help: str, metavar: str | None = None) -> Any:
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True)
class ServerOptions:
    """Where to listen and what to allow."""

    host: str = _option("127.0.0.1", "address to listen on (default: %(default)s)")
    port: int = _option(8765, "port; 0 picks a free one (default: %(default)s)")
    # Vosk's and sherpa-onnx's clients by convention ask for no path; Wyoming's know neither keys nor TLS.
    vosk_port: int | None = _option(None, "also serve Vosk's clients there (usually 2700)", "PORT")
    sherpa_port: int | None = _option(None, "also serve sherpa-onnx's clients there (usually 6006)", "PORT")
    wyoming_port: int | None = _option(
        None, "also serve Wyoming's clients, as Home Assistant, there (plain TCP, usually 10300)", "PORT"
    )
    max_sessions: int | None = _option(None, "refuse further ones (default: what a test at start says)", "N")
    workers: int | None = _option(None, "workers that recognize (default: one a core, 4 at most)", "N")
    max_batch: int | None = _option(None, "streams in a step (default: what the test says, 64 at most)", "N")
    calibration: Path | None = _option(None, "keep there what the test says, and do without it next time", "FILE")
    max_latency_ms: float = _option(300.0, "refuse who would make others wait longer (default: %(default)g)", "MS")
    allow_origin: Sequence[str] = _option(
        (),
        "a web origin that may connect; repeatable. '*': every web page, and no check against DNS rebinding",
        "ORIGIN",
    )
    drain_seconds: float = _option(10.0, "time for open sessions on SIGTERM (default: %(default)s)", "S")
    resume_seconds: float = _option(
        60.0,
        "time that a session waits for a client whose connection dropped; 0: none waits (default: %(default)g)",
        "S",
    )
    keys: Path | None = _option(None, "let nobody in without a key of this file", "FILE")
    insecure: bool = _option(False, "let anybody in, also from beyond this machine, without --keys")
    journal: Path | None = _option(None, "append every final there before it is sent (default: keep nothing)", "DIR")
    state_dir: Path | None = _option(
        None, "keep what resumable sessions need to go on after a restart (default: keep nothing)", "DIR"
    )
    tls_cert: Path | None = _option(None, "serve TLS (wss) with this certificate chain, PEM", "FILE")
    tls_key: Path | None = _option(None, "its key, PEM, if not in the same file", "FILE")
    # No options of the command line; the limits are, each by itself.
    limits: Limits = field(default_factory=Limits)  # of one client
    max_backlog_seconds: float = MAX_BACKLOG_SECONDS  # audio of one session that waits, before it is read no further
    stall_seconds: float = STALL_SECONDS  # from which the recognizer is taken to stand still, and restarted

    @property
    def max_latency_seconds(self) -> float:
        """The promise: for a step to end after its audio came."""
        return self.max_latency_ms / 1000

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
        is_guarded = self.keys is not None or self.tls_cert is not None or not is_loopback(self.host)
        if self.wyoming_port is not None and is_guarded and not self.insecure:
            raise InputError(
                "Wyoming's clients know neither keys nor TLS: leave its port closed, or say that anybody who reaches "
                "it may come in (`--insecure`)"
            )
        if self.tls_key is not None and self.tls_cert is None:
            raise InputError("a TLS key needs its certificate")
