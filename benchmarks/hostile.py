"""What strangers can do to a running server, and to those who use it well.

    python -m benchmarks.hostile DIR [--cycles 1000] [--good 10] [--seconds 60]

First connections that are cut at random points, eight at a time: afterwards no session, stream, thread or file
descriptor may be left, and memory is compared over the second half. Then recordings of DIR are played at the pace of
speech by some good clients, alone and beside one of each kind of bad ones: transcripts must be the same, and word
latency is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import random
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streaming_asr.lexicon import Lexicon
from streaming_asr.manifest import LEXICON_FILE, SHIPPED_MODEL
from streaming_asr.model import load_model
from streaming_asr.recordings import find_recordings, read_samples

from .adapters import Native
from .align import Aligner
from .compute import process_folders, read_metrics, usage
from .material import spread
from .replay import Clip, Run, pcm_blocks, replay
from .serving import serve_command, serving
from .timeline import summarize

CONCURRENT_CYCLES = 8
WARM_UP_CYCLES = 100
SETTLE_SECONDS = 2.0
TEXT, BINARY, PING = 1, 2, 9  # opcodes: RFC 6455, 11.8
START = b'{"type":"start"}'
FRAME_BYTES = 3200

Address = tuple[str, int]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# --- a client that can do wrong -----------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes, *, first_bits: int = 0x80, length: int | None = None) -> bytes:
    """A masked frame (RFC 6455, 5.2). ``first_bits``: FIN and the reserved ones; ``length``: what it claims to hold."""
    size = len(payload) if length is None else length
    head = struct.pack("!B", first_bits | opcode)
    if size < 126:
        head += struct.pack("!B", 0x80 | size)
    elif size < 1 << 16:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + bytes(4) + payload  # masked with zeros


def request(address: Address, extra: str = "") -> bytes:
    """The opening handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /v1/stream HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()


async def opened(address: Address, extra: str = "") -> Stream:
    """A connection after its handshake."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request(address, extra))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def _send(stream: Stream, *frames: bytes) -> None:
    for each in frames:
        stream[1].write(each)
        await stream[1].drain()


# --- kinds of bad clients, each until it is cancelled or thrown out; `pcm` is speech -------------------------------


async def _half_open(address: Address, pcm: bytes) -> None:
    _, writer = await asyncio.open_connection(*address)
    writer.write(request(address)[:30])
    await asyncio.sleep(3600)


async def _slow_handshake(address: Address, pcm: bytes) -> None:
    _, writer = await asyncio.open_connection(*address)
    for byte in request(address):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def _one_byte_frames(address: Address, pcm: bytes) -> None:
    stream = await opened(address)
    await _send(stream, frame(TEXT, START), *(frame(BINARY, pcm[at : at + 1]) for at in range(len(pcm))))


async def _never_reads(address: Address, pcm: bytes) -> None:
    """What the server says fills the reader's buffer, then the sockets', then the server's."""
    stream = await opened(address)
    await _send(stream, frame(TEXT, START))
    while True:
        await _send(stream, *(frame(BINARY, pcm[at : at + FRAME_BYTES]) for at in range(0, len(pcm), FRAME_BYTES)))


async def _uploads(address: Address, pcm: bytes) -> None:
    """Much faster than real time, reading what it is told."""
    stream = await opened(address)
    reading = asyncio.create_task(stream[0].read())
    try:
        await _send(stream, frame(TEXT, START))
        while True:
            await _send(stream, *(frame(BINARY, pcm[at : at + FRAME_BYTES]) for at in range(0, len(pcm), FRAME_BYTES)))
    finally:
        reading.cancel()


async def _floods(address: Address, pcm: bytes) -> None:
    stream = await opened(address)
    await _send(stream, frame(TEXT, START))
    while True:
        await _send(stream, frame(TEXT, b'{"type":"keepalive"}') * 100)


async def _pings(address: Address, pcm: bytes) -> None:
    """And never reads the answers."""
    stream = await opened(address)
    await _send(stream, frame(TEXT, START))
    while True:
        await _send(stream, frame(PING, bytes(125)) * 100)


async def _huge_frame(address: Address, pcm: bytes) -> None:
    stream = await opened(address)
    await _send(stream, frame(TEXT, START), frame(BINARY, pcm, length=64 << 20))
    await stream[0].read()


async def _bomb(address: Address, pcm: bytes) -> None:
    stream = await opened(address, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    await _send(stream, frame(TEXT, START), frame(BINARY, bytes(FRAME_BYTES), first_bits=0xC0))
    await stream[0].read()


async def _garbage_text(address: Address, pcm: bytes) -> None:
    stream = await opened(address)
    await _send(stream, frame(TEXT, b"\xff\xfe\x80" * 100))
    await stream[0].read()


async def _deep_json(address: Address, pcm: bytes) -> None:
    stream = await opened(address)
    await _send(stream, frame(TEXT, b'{"type":' + b"[" * 100_000))
    await stream[0].read()


async def _wrong_tls(address: Address, pcm: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(bytes.fromhex("16030100c8010000c40303") + os.urandom(197))
    await reader.read()


BAD: dict[str, Callable[[Address, bytes], Awaitable[None]]] = {
    "half-open handshakes": _half_open,
    "handshakes a byte at a time": _slow_handshake,
    "1-byte frames": _one_byte_frames,
    "never reads": _never_reads,
    "uploads faster than real time": _uploads,
    "floods of messages": _floods,
    "floods of pings": _pings,
    "64 MB frames": _huge_frame,
    "compressed frames": _bomb,
    "text that is not UTF-8": _garbage_text,
    "JSON 100,000 deep": _deep_json,
    "TLS where there is none": _wrong_tls,
}


async def _again_and_again(bad: Callable[[Address, bytes], Awaitable[None]], address: Address, pcm: bytes) -> None:
    while True:
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError):
            await bad(address, pcm)
        await asyncio.sleep(0.05)


# --- connections that are cut ----------------------------------------------------------------------------------------


async def cut_one(address: Address, pcm: bytes, rng: random.Random) -> None:
    """Goes some way through a session, and away without a word."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        stage = rng.randrange(6)
        opening = request(address)
        writer.write(opening[: rng.randrange(len(opening))] if stage == 0 else opening)
        if stage <= 1:
            return
        await reader.readuntil(b"\r\n\r\n")
        await _send((reader, writer), frame(TEXT, START))
        end = rng.randrange(len(pcm))
        if stage >= 3:
            await _send((reader, writer), *(frame(BINARY, pcm[at : at + 6400]) for at in range(0, end, 6400)))
        if stage == 4:
            await _send((reader, writer), frame(TEXT, b'{"type":"finalize"}'))
            await reader.read(rng.randrange(1, 200))
        if stage == 5:
            await _send((reader, writer), frame(TEXT, b'{"type":"stop"}'))
            await reader.read(rng.randrange(1, 200))
    except (OSError, asyncio.IncompleteReadError):
        pass  # refused: the server was full
    finally:
        writer.transport.abort() if rng.random() < 0.7 else writer.close()


@dataclass(frozen=True)
class Held:
    """What a server and its workers hold."""

    sessions: int
    streams: int
    threads: int
    file_descriptors: int
    rss_bytes: int


def held(url: str, pid: int) -> Held:
    """From its metrics and /proc."""
    values = read_metrics(url)
    sessions = sum(value for name, value in values.items() if name.startswith("streaming_asr_sessions{"))
    streams = values["streaming_asr_streams"]
    folders = process_folders(pid)
    return Held(
        int(sessions),
        int(streams),
        sum(len(list((folder / "task").iterdir())) for folder in folders),
        sum(len(list((folder / "fd").iterdir())) for folder in folders),
        usage(pid).rss_bytes,
    )


async def cut_many(url: str, pid: int, pcm: bytes, cycles: int) -> dict[str, Any]:
    """Cuts connections; what was held after a warm-up, half of the cycles, and all."""
    address = _address(url)
    rng = random.Random(1)
    snapshots = []
    for count in (WARM_UP_CYCLES, cycles // 2, cycles - cycles // 2):
        left = iter(range(count))

        async def worker(left: Any = left) -> None:
            for _ in left:
                await cut_one(address, pcm, rng)

        await asyncio.gather(*(worker() for _ in range(CONCURRENT_CYCLES)))
        await asyncio.sleep(SETTLE_SECONDS)
        snapshots.append(await asyncio.to_thread(held, url, pid))
    return {"cycles": cycles, "before": vars(snapshots[0]), "half": vars(snapshots[1]), "after": vars(snapshots[2])}


# --- good ones beside bad ones ---------------------------------------------------------------------------------------


def attack(url: str, pcm: bytes, kinds: list[str]) -> None:
    """Is bad, in a process of its own, until it is ended.

    It takes what processor time the server and the good ones leave: strangers bring processors of their own, and what
    is measured is what they make the server do, not what making their frames costs this machine.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    async def all_kinds() -> None:
        await asyncio.gather(*(_again_and_again(BAD[kind], _address(url), pcm) for kind in kinds))

    asyncio.run(all_kinds())


async def beside(
    url: str, clips: list[Clip], pcm: bytes, good: int, seconds: float, kinds: list[str]
) -> dict[str, Any]:
    """Plays clips on ``good`` connections alone, then beside bad clients."""
    alone = await replay(url, Native, clips, num_streams=good, hold_seconds=seconds)
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(url, pcm, kinds), daemon=True)
    process.start()
    try:
        crowded = await replay(url, Native, clips, num_streams=good, hold_seconds=seconds)
    finally:
        process.kill()
        process.join()
    expected = {timeline.recording: timeline.text for timeline in alone.timelines if timeline.done is not None}
    finished = [timeline for timeline in crowded.timelines if timeline.done is not None]
    return {
        "bad": kinds,
        "recordings_played": len(crowded.timelines),
        "failed": len(crowded.timelines) - len(finished),
        "changed": sum(timeline.text != expected.get(timeline.recording, timeline.text) for timeline in finished),
        "blocks_sent_late": round(crowded.health.late_share, 4),
        "word_latency_ms_alone": _latency(alone),
        "word_latency_ms_beside": _latency(crowded),
    }


def _latency(run: Run) -> dict[str, float]:
    percentiles = summarize(run.timelines).words.percentiles
    return {name: percentiles[name] for name in ("p50", "p95") if name in percentiles}


def _address(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--good", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="that the good ones play, each time")
    parser.add_argument("--kind", action="append", choices=BAD, help="of bad client; repeatable (default: all)")
    options = parser.parse_args()
    aligner = Aligner(load_model(options.model), Lexicon.from_file(options.model / LEXICON_FILE))
    recordings = find_recordings([options.folder])
    clips = []
    for recording in spread(recordings, options.good):
        samples = read_samples(recording.path)
        clips.append(Clip(recording.utterance, samples, aligner.align(samples, recording.words), recording.words))
    pcm = b"".join(block.tobytes() for block in pcm_blocks(clips[0].samples, 16000))
    with serving(serve_command(options.model)) as (url, pid, _):
        if options.cycles:
            print(json.dumps(asyncio.run(cut_many(url, pid, pcm, options.cycles))), flush=True)
        kinds = options.kind or list(BAD)
        print(json.dumps(asyncio.run(beside(url, clips, pcm, options.good, options.seconds, kinds))))


if __name__ == "__main__":
    main()
