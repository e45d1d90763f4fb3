"""A recognizer without a model: one word a chunk, named after its loudest sample, so that tests can predict it."""

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streaming_asr.admission import StepCost
from streaming_asr.audio import Samples
from streaming_asr.messages import Checkpoint, Event, Final, Partial, Reason, SpeechStarted, StreamOptions

CHUNK_MS = 80
CHUNK_SAMPLES = 1280
SECRET = "words that somebody said"  # in an exception; must not be logged
POISON = 99  # a chunk as loud as this breaks the step it is in
STALL = 98  # as loud as this, exactly: holds up the step it is in until `FakeRecognizer.released` is set
DEATH = 97  # the same: ends the thread that takes the step
BROKEN = 95  # the same: breaks its own stream when the step is done
STALL_PUSH = 96  # the same: holds up the thread that pushes it into a stream


def word(level: int) -> bytes:
    """One chunk of s16le audio that is recognized as ``w<level>``; level 0 is silence and ends an utterance."""
    return np.full(CHUNK_SAMPLES, level * 327, dtype="<i2").tobytes()


def words(*levels: int) -> bytes:
    return b"".join(word(level) for level in levels)


class FakeStream:
    def __init__(self, recognizer: "FakeRecognizer", options: StreamOptions) -> None:
        self.recognizer = recognizer
        self.options = options
        self.items: deque[Samples | Reason] = deque()
        self.rest = np.zeros(0, np.float32)
        self.words: list[str] = []
        self.utterance = options.first_utterance
        self.samples = options.first_sample
        self.closed = False

    def push(self, samples: Samples) -> None:
        assert not self.closed
        self.items.append(samples)
        if self.holds_up(samples):
            assert self.recognizer.released.wait(30)

    def holds_up(self, samples: Samples) -> bool:
        return round(float(np.abs(samples).max(initial=0)) * 100) == STALL_PUSH

    def flush(self, reason: Reason) -> None:
        assert not self.closed
        self.items.append(reason)

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.recognizer.open_streams -= 1

    @property
    def ready(self) -> bool:
        waiting = sum(len(item) for item in self.items if not isinstance(item, str))
        return len(self.rest) + waiting >= CHUNK_SAMPLES or any(isinstance(item, str) for item in self.items)

    @property
    def missing_samples(self) -> int:
        return CHUNK_SAMPLES - len(self.rest) - sum(len(item) for item in self.items if not isinstance(item, str))

    def take(self) -> tuple[Samples, Reason | None]:
        """A whole chunk, or what is left before a flush."""
        chunk = self.rest
        while len(chunk) < CHUNK_SAMPLES:
            item = self.items.popleft()
            if isinstance(item, str):
                self.rest = chunk[:0]
                return chunk, item
            chunk = np.concatenate((chunk, item))
        self.rest = chunk[CHUNK_SAMPLES:]
        return chunk[:CHUNK_SAMPLES], None

    def advance(self) -> list[Event]:
        chunk, reason = self.take()
        self.samples += len(chunk)
        events: list[Event] = []
        level = round(float(np.abs(chunk).max(initial=0)) * 100)
        if level:
            if not self.words:
                events.append(SpeechStarted((self.samples - len(chunk)) / 16000))
            self.words.append(f"w{level}")
            if self.options.partials:
                events.append(Partial(self.utterance, " ".join(self.words[:-1]), self.words[-1], 0.0, 0.0))
        if self.options.checkpoints and (reason or not level):
            events.append(Checkpoint(self.samples))
        if reason or (self.words and not level):
            text, self.words = " ".join(self.words), []
            events.append(Final(self.utterance, text, 0.0, self.samples / 16000, 1.0, reason or "endpoint"))
            self.utterance += 1
        return events

    def next_level(self) -> int:
        audio = [self.rest, *(item for item in self.items if not isinstance(item, str))]
        return round(float(np.abs(np.concatenate(audio)[:CHUNK_SAMPLES]).max(initial=0)) * 100)


class FakeRecognizer:
    """Steps wait while `gate` is cleared, so that a test decides when the worker goes on."""

    name = "en-fake"
    chunk_ms = first_chunk_ms = CHUNK_MS
    language = "en"
    can_fork = False  # tests look into it
    search_seconds = 0.0

    def __init__(self) -> None:
        self.open_streams = 0
        self.batches: list[int] = []
        self.streams: list[FakeStream] = []  # all that were ever opened
        self.stepped: list[list[FakeStream]] = []  # the streams of each step
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.released = threading.Event()

    def stream(self, options: StreamOptions, /) -> FakeStream:
        self.open_streams += 1
        self.streams.append(FakeStream(self, options))
        return self.streams[-1]

    def step_cost(self, kept_in: Path | None = None, /) -> StepCost:
        return StepCost(0.0, 0.001, CHUNK_MS / 1000)

    def step(self, streams: Sequence[FakeStream], /) -> list[list[Event] | Exception]:
        assert self.gate.wait(30)
        self.threads.add(threading.get_ident())
        self.batches.append(len(streams))
        self.stepped.append(list(streams))
        assert all(stream.ready and not stream.closed for stream in streams)
        levels = [stream.next_level() for stream in streams]
        if max(levels) >= POISON:
            raise ValueError(SECRET)
        if STALL in levels:
            assert self.released.wait(30)
        if DEATH in levels:
            raise SystemExit(SECRET)
        events = [stream.advance() for stream in streams]
        return [ValueError(SECRET) if level == BROKEN else own for level, own in zip(levels, events, strict=True)]
