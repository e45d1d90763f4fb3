"""Cuts the connections of a server that runs, at every chunk of recordings, and compares what clients are told.

python -m benchmarks.cuts ws://127.0.0.1:8765 FOLDER [--every N] [--clients 8]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, Self, get_args

import soundfile
from streaming_asr_client import Done, Event, Final, connect

Way = Literal["close", "reset", "freeze"]
CHUNK_SAMPLES = 3200  # 0.2 s


class Network:
    """Carries bytes between clients and a server, until `cut`; later connections are carried again."""

    def __init__(self, url: str) -> None:
        self._host, port = url.removeprefix("ws://").rsplit(":", 1)
        self._port = int(port)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self.num_connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"ws://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        for writer in [*self._writers, *self._frozen]:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            there, onward = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        self._writers += [writer, onward]
        for source, sink in ((reader, onward), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if sink not in self._frozen:
                    sink.write(data)
        if sink not in self._frozen:
            sink.close()

    def close(self) -> None:
        """No further connections."""
        self._server.close()

    def cut(self, way: Way) -> None:
        """Breaks all connections."""
        writers, self._writers = self._writers, []
        for writer in writers:
            match way:
                case "close":
                    writer.close()
                case "reset":
                    writer.transport.abort()
                case "freeze":
                    self._frozen.add(writer)


async def transcribe(url: str, path: Path, way: Way, cut_at: int | None) -> list[Event]:
    """What a client is told in the end, without partials; `cut_at`: the chunk before which connections break."""
    samples, sample_rate = soundfile.read(path, dtype="int16")

    async with Network(url) as network:

        async def audio() -> AsyncIterator[bytes]:
            for number, at in enumerate(range(0, len(samples), CHUNK_SAMPLES)):
                if number == cut_at:
                    network.cut(way)
                yield samples[at : at + CHUNK_SAMPLES].tobytes()
                await asyncio.sleep(0)

        async with connect(network.url, sample_rate=sample_rate, resume_seconds=60) as session:
            return [event async for event in session.transcribe(audio()) if isinstance(event, Final | Done)]


async def compare(url: str, paths: list[Path], every: int, clients: int) -> None:
    """Prints how many transcripts were as if nothing had happened."""
    free = asyncio.Semaphore(clients)

    async def is_same(path: Path, way: Way, cut_at: int, undisturbed: list[Event]) -> bool:
        async with free:
            return await transcribe(url, path, way, cut_at) == undisturbed

    undisturbed = [await transcribe(url, path, "close", None) for path in paths]
    for way in get_args(Way):
        cuts = [
            is_same(path, way, cut_at, expected)
            for path, expected in zip(paths, undisturbed, strict=True)
            for cut_at in range(0, -(-soundfile.info(path).frames // CHUNK_SAMPLES), every)
        ]
        print(f"{way}: {sum(await asyncio.gather(*cuts))} of {len(cuts)} identical", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of a server that runs")
    parser.add_argument("folder", type=Path, help="mono FLAC files")
    parser.add_argument("--recordings", type=int, default=20, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="chunk (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, metavar="N", help="at once (default: %(default)s)")
    options = parser.parse_args()
    paths = sorted(options.folder.rglob("*.flac"))[: options.recordings]
    asyncio.run(compare(options.url, paths, options.every, options.clients))


if __name__ == "__main__":
    main()
