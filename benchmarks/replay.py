"""Owns playing recordings to a server as if they were spoken now, many at once, and writing down what comes back.

One pacer sends every client's audio at absolute deadlines, so that a late wake-up delays one block and shifts none.
It measures itself: a run whose generator was late says so, because its figures are then the generator's. What latency
means is `timeline`'s business; what frames mean is `adapters`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from streaming_asr.features import SAMPLE_RATE, Samples

from .adapters import Adapter, Frame, Pcm, Text
from .material import to_pcm
from .timeline import Shown, TimedWord, Timeline, percentile

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
End = Literal["finalize", "endpoint"]
T = TypeVar("T", bound=np.generic)

# Of audio in a frame: what the project's own client sends to the model that ships, which takes a step with each.
FIRST_BLOCK_SECONDS, BLOCK_SECONDS = 0.075, 0.06
LATE_SECONDS = 0.02  # a block sent later than this counts against the generator
LATE_SHARE = 0.01  # of blocks, above which a run is flagged
LAG_EVERY_SECONDS = 0.01
AFTER_SECONDS = 1.5  # of background noise after a recording, for endpointing to find its end
CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 30.0  # for the last messages after the audio ended


@dataclass(frozen=True)
class Clip:
    """A recording to play: float32 [N] at 16 kHz, and when its words were said, if that is known."""

    name: str
    samples: Samples
    reference: tuple[TimedWord, ...] = ()
    words: tuple[str, ...] = ()  # the transcript; there may be one without an alignment

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / SAMPLE_RATE


# --- pacing ---------------------------------------------------------------------------------------------------------

Action = Callable[[float], Awaitable[None]]  # told when it was due


@dataclass
class GeneratorHealth:
    """How punctual the generator was; seconds."""

    lateness: list[float] = field(default_factory=list)  # a block sent, after it was due
    loop_lag: list[float] = field(default_factory=list)  # a timer's wake-up, after it was due
    pushed_back: int = 0  # blocks sent while the server had not taken the ones before

    @property
    def late_share(self) -> float:
        """Of blocks, more than `LATE_SECONDS` late."""
        late = sum(value > LATE_SECONDS for value in self.lateness)
        return late / len(self.lateness) if self.lateness else 0.0

    @property
    def is_late(self) -> bool:
        """Whether this run's figures are the generator's rather than the server's."""
        return self.late_share > LATE_SHARE or percentile(self.loop_lag, 99) > LATE_SECONDS

    def figures(self) -> dict[str, float | int | bool]:
        """For the report; milliseconds."""
        return {
            "is_late": self.is_late,
            "late_share": round(self.late_share, 5),
            "lateness_p99_ms": round(1000 * percentile(self.lateness, 99), 2) if self.lateness else 0.0,
            "loop_lag_p50_ms": round(1000 * percentile(self.loop_lag, 50), 2) if self.loop_lag else 0.0,
            "loop_lag_p99_ms": round(1000 * percentile(self.loop_lag, 99), 2) if self.loop_lag else 0.0,
            "pushed_back_blocks": self.pushed_back,
        }


class Pacer:
    """Performs actions at absolute times, those of all clients in one task."""

    def __init__(self, clock: Clock, sleep: Sleep, health: GeneratorHealth) -> None:
        self._clock, self._sleep, self._health = clock, sleep, health
        self._queue: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._news = asyncio.Event()

    def at(self, due: float, action: Action) -> None:
        """Calls ``action`` at ``due``, or as soon as possible after it. Earlier ones first, else in order."""
        heapq.heappush(self._queue, (due, next(self._order), action))
        self._news.set()

    async def run(self) -> None:
        """Forever; to be cancelled."""
        while True:
            if not self._queue:
                self._news.clear()
                await self._news.wait()
            due, _, action = self._queue[0]
            wait = due - self._clock()
            if wait > 0:
                # Another action may come in meanwhile that is due earlier: looks again at least this often.
                await self._sleep(min(wait, BLOCK_SECONDS / 4))
                continue
            heapq.heappop(self._queue)
            self._health.lateness.append(-wait)
            await action(due)


async def watch_lag(clock: Clock, sleep: Sleep, health: GeneratorHealth) -> None:
    """Notes how late a timer wakes; forever, to be cancelled."""
    while True:
        due = clock() + LAG_EVERY_SECONDS
        await sleep(LAG_EVERY_SECONDS)
        health.loop_lag.append(max(0.0, clock() - due))


# --- sound ----------------------------------------------------------------------------------------------------------


def background(samples: Samples, seconds: float, seed: int = 0) -> Samples:
    """Noise as loud as the quietest tenth of a recording, float32 [seconds * 16000]: a room after somebody spoke."""
    shift = SAMPLE_RATE // 100
    frames = samples[: len(samples) // shift * shift].reshape(-1, shift)
    rms = float(np.percentile(np.sqrt((frames**2).mean(axis=1)), 10)) if len(frames) else 0.0
    noise = np.random.default_rng(seed).normal(0.0, rms, round(seconds * SAMPLE_RATE))
    return noise.astype(np.float32)


def in_blocks(samples: NDArray[T], sample_rate: int) -> list[NDArray[T]]:
    """Samples as they become whole blocks; the last may be short."""
    first, each = (round(seconds * sample_rate) for seconds in (FIRST_BLOCK_SECONDS, BLOCK_SECONDS))
    return np.split(samples, range(first, len(samples), each))


def pcm_blocks(samples: Samples, sample_rate: int) -> list[Pcm]:
    """int16 blocks, resampled when a protocol wants another rate."""
    if sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, SAMPLE_RATE, sample_rate)
    return in_blocks(to_pcm(samples), sample_rate)


# --- sessions -------------------------------------------------------------------------------------------------------


class Socket(Protocol):
    """A connection: frames out by `send`, frames in by iterating, until it ends."""

    def send(self, message: Frame, /) -> Awaitable[None]:
        """Sends a frame."""

    def __aiter__(self) -> AsyncIterator[Frame]: ...


class _TcpSocket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, message: Frame, /) -> None:
        self._writer.write(message if isinstance(message, bytes) else message.encode())
        await self._writer.drain()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while data := await self._reader.read(1 << 16):
            yield data


@contextlib.asynccontextmanager
async def connected(url: str, adapter: type[Adapter], headers: Mapping[str, str]) -> AsyncIterator[Socket]:
    """A connection to a server that speaks this protocol. Raises `OSError` and what `websockets.connect` raises."""
    if adapter.is_tcp:
        parts = urlsplit(url)
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            yield _TcpSocket(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return
    async with connect(
        websocket_url(url, adapter),
        compression=None,
        proxy=None,
        open_timeout=CONNECT_SECONDS,
        close_timeout=2.0,
        additional_headers=dict(headers),
    ) as socket:
        yield socket


def websocket_url(url: str, adapter: type[Adapter]) -> str:
    """The URL to connect to: as given when it has a path, with the protocol's own path otherwise."""
    return url.rstrip("/") + adapter.path if urlsplit(url).path in ("", "/") else url


class _Session:
    """One clip over one connection."""

    def __init__(self, socket: Socket, adapter: Adapter, clip: Clip, end: End, clock: Clock) -> None:
        self._socket, self._adapter, self._clip, self._end, self._clock = socket, adapter, clip, end, clock
        self._shown: list[Shown] = []
        self._origin = self._finalize_sent = self._stop_sent = self._done = None  # type: float | None
        self._ready = asyncio.Event()
        self._settled = asyncio.Event()  # a final after finalize
        self._over = asyncio.Event()

    async def listen(self) -> None:
        try:
            async for frame in self._socket:
                now = self._clock()
                for text in self._adapter.receive(frame):
                    self._shown.append(_shown(text, now))
                    if text.kind == "final" and text.reason == "finalize":
                        self._settled.set()
                if self._adapter.is_ready:
                    self._ready.set()
                if self._adapter.is_done:
                    self._done = now
                    self._over.set()
                if self._adapter.error:
                    break
            if self._done is None and self._adapter.ends_by_closing and self._stop_sent is not None:
                self._done = self._shown[-1].received if self._shown else self._clock()
        except (ConnectionClosed, OSError) as closed:
            self._adapter.error = self._adapter.error or f"the connection broke: {closed}"
        finally:
            self._ready.set()
            self._settled.set()
            self._over.set()

    async def play(self, pacer: Pacer, health: GeneratorHealth, delay: float) -> None:
        if self._adapter.is_ready:
            self._ready.set()
        for frame in self._adapter.opening():
            await self._socket.send(frame)
        await self._ready.wait()
        samples = self._clip.samples
        if self._end == "endpoint":
            samples = np.concatenate((samples, background(samples, AFTER_SECONDS)))
        blocks = pcm_blocks(samples, self._adapter.sample_rate)
        origin = self._origin = self._clock() + delay
        finished = asyncio.Event()
        # Holds one clip at most. A server that takes no more must hold up its own clip, not the pacer of all.
        outgoing: asyncio.Queue[Pcm | None] = asyncio.Queue()

        async def send_all_blocks() -> None:
            with contextlib.suppress(ConnectionClosed, OSError):
                while (block := await outgoing.get()) is not None:
                    await self._socket.send(self._adapter.audio(block))

        async def send_block(index: int, end_seconds: float) -> None:
            if self._over.is_set():
                finished.set()
                return
            if not outgoing.empty():
                health.pushed_back += 1
            outgoing.put_nowait(blocks[index])
            if index + 1 < len(blocks):
                later(index + 1, end_seconds)
            else:
                finished.set()

        def later(index: int, begins: float) -> None:
            ends = begins + len(blocks[index]) / self._adapter.sample_rate  # a block exists when all of it was spoken
            pacer.at(origin + ends, lambda _: send_block(index, ends))

        later(0, 0.0)
        sender = asyncio.create_task(send_all_blocks())
        try:
            await finished.wait()
            outgoing.put_nowait(None)
            with contextlib.suppress(ConnectionClosed, OSError):  # of which `TimeoutError` is one
                async with asyncio.timeout(DRAIN_SECONDS):
                    # Stamped before what is held up has left: waiting for it is part of what the user waits for.
                    if self._end == "finalize" and self._adapter.can_finalize:
                        self._finalize_sent = self._clock()
                        await sender
                        await self._send_all(self._adapter.finalize())
                        await self._settled.wait()
                    self._stop_sent = self._clock()
                    await sender
                    await self._send_all(self._adapter.stop())
                    await self._over.wait()
        finally:
            sender.cancel()
            await asyncio.wait([sender])

    async def _send_all(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            await self._socket.send(frame)

    def timeline(self) -> Timeline:
        return Timeline(
            recording=self._clip.name,
            origin=self._origin if self._origin is not None else 0.0,
            audio_seconds=self._clip.seconds,
            shown=tuple(self._shown),
            reference=self._clip.reference,
            finalize_sent=self._finalize_sent,
            stop_sent=self._stop_sent,
            done=None if self._adapter.error else self._done,
            error=self._adapter.error or ("" if self._done is not None else "no orderly end"),
        )


def _shown(text: Text, now: float) -> Shown:
    words = tuple(text.text.lower().split())
    return Shown(now, text.kind, text.utterance, words, len(text.committed.split()), text.reason)


async def play_clip(
    url: str,
    adapter: type[Adapter],
    clip: Clip,
    pacer: Pacer,
    health: GeneratorHealth,
    *,
    end: End = "finalize",
    delay: float = 0.0,
    headers: Mapping[str, str] | None = None,
    clock: Clock = time.perf_counter,
) -> Timeline:
    """Plays one clip; failures end up in the timeline, never as an exception."""
    failed = Timeline(clip.name, clock(), clip.seconds, (), clip.reference)
    try:
        async with connected(url, adapter, headers or {}) as socket:
            session = _Session(socket, adapter(), clip, end, clock)
            listener = asyncio.create_task(session.listen())
            try:
                await session.play(pacer, health, delay)
            finally:
                listener.cancel()
                await asyncio.wait([listener])
            return session.timeline()
    except (OSError, EOFError, TimeoutError, WebSocketException) as error:
        return Timeline(clip.name, failed.origin, clip.seconds, (), clip.reference, error=f"no session: {error}")


@dataclass(frozen=True)
class Run:
    """What a replay gave."""

    num_streams: int
    timelines: list[Timeline]
    health: GeneratorHealth
    window: tuple[float, float]  # receiver's clock: while all streams were playing, each one clip after another


async def replay(
    url: str,
    adapter: type[Adapter],
    clips: Sequence[Clip],
    *,
    num_streams: int = 1,
    hold_seconds: float = 0.0,
    stagger_seconds: float = 2.0,
    end: End = "finalize",
    headers: Mapping[str, str] | None = None,
    clock: Clock = time.perf_counter,
    sleep: Sleep = asyncio.sleep,
) -> Run:
    """Plays clips on ``num_streams`` connections at once, each stream one clip after another.

    Streams start evenly over ``stagger_seconds``. With ``hold_seconds`` each goes on, round the clips, until that
    long after the last one's start; without, the clips are dealt out and each is played once.
    """
    health = GeneratorHealth()
    pacer = Pacer(clock, sleep, health)
    spread = stagger_seconds if num_streams > 1 else 0.0
    began = clock()
    hold_until = began + spread + hold_seconds

    async def stream(number: int) -> list[Timeline]:
        timelines = []
        if hold_seconds:
            own = itertools.islice(itertools.cycle(clips), number % len(clips), None)
        else:
            own = itertools.islice(clips, number, None, num_streams)
        delay = spread * number / num_streams
        for clip in own:
            options = {"end": end, "delay": delay, "headers": headers, "clock": clock}
            timelines.append(await play_clip(url, adapter, clip, pacer, health, **options))  # type: ignore[arg-type]
            delay = 0.0
            if (hold_seconds and clock() >= hold_until) or (hold_seconds and timelines[-1].done is None):
                break
        return timelines

    helpers = [asyncio.create_task(pacer.run()), asyncio.create_task(watch_lag(clock, sleep, health))]
    try:
        results = await asyncio.gather(*(stream(number) for number in range(num_streams)))
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)
    timelines = [timeline for own in results for timeline in own]
    all_playing = max((own[0].origin for own in results if own), default=began)
    return Run(num_streams, timelines, health, (all_playing, hold_until) if hold_seconds else (began, clock()))
