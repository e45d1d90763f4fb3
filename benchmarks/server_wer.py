"""Word error rate of a LibriSpeech-style folder streamed through a running server, as fast as it takes it.

    python -m benchmarks.server_wer ws://127.0.0.1:8765 DIR [--clients 4] [--compare]

``--compare`` also runs each recording through the library and counts the transcripts that differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

from streaming_asr_client import Final, connect

from streaming_asr.evaluate import count_word_errors, stream_recordings
from streaming_asr.recordings import Recording, find_recordings, read_samples

from .material import load_recognizer, to_pcm

PACKET_BYTES = 2560  # 80 ms of 16-bit audio


async def recognize(url: str, recording: Recording) -> str:
    pcm = to_pcm(read_samples(recording.path)).tobytes()

    async def packets() -> AsyncIterator[bytes]:
        for first in range(0, len(pcm), PACKET_BYTES):
            yield pcm[first : first + PACKET_BYTES]

    async with connect(url, partials=False) as session:
        events = [event async for event in session.transcribe(packets())]
    return " ".join(event.text for event in events if isinstance(event, Final) and event.text)


async def recognize_all(url: str, recordings: list[Recording], num_clients: int) -> list[str]:
    texts = [""] * len(recordings)
    waiting = iter(enumerate(recordings))

    async def client() -> None:
        for index, recording in waiting:
            texts[index] = await recognize(url, recording)

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    recordings = find_recordings([options.folder])
    texts = asyncio.run(recognize_all(options.url, recordings, options.clients))
    errors = count_word_errors((" ".join(r.words), text) for r, text in zip(recordings, texts, strict=True))
    row = {"wer": round(errors.wer, 5), "words": errors.words, "recordings": len(recordings)}
    if options.compare:
        alone = [result.text for result in stream_recordings(load_recognizer(), recordings)]
        row["different_from_library"] = sum(a != b for a, b in zip(alone, texts, strict=True))
    print(json.dumps(row))


if __name__ == "__main__":
    main()
