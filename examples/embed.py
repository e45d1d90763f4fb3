"""The recognizer without a server: raw 16-bit mono sound at 16 kHz on standard input, finals on standard output.

    arecord -q -f S16_LE -r 16000 -t raw | python examples/embed.py

A stream keeps all its state to itself; one recognizer serves as many streams as there is time for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import torch

from streaming_asr.messages import Final, Partial
from streaming_asr.recognizer import Recognizer
from streaming_asr.stream import Stream

BLOCK_BYTES = 2 * 1600  # 0.1 s


def blocks(sound: BinaryIO) -> Iterator[np.ndarray]:
    """Samples as float32 in -1..1; half a sample at the end is left out."""
    while data := sound.read(BLOCK_BYTES):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768


def finals(stream: Stream, sound: Iterable[np.ndarray]) -> Iterator[str]:
    """Each utterance as people write it when it has ended; what is heard until then goes to standard error."""
    for block in sound:
        for event in stream.accept(block):
            if isinstance(event, Partial):
                print(f"… {event.committed} [{event.unstable}]", file=sys.stderr)
            elif isinstance(event, Final) and event.text:
                yield event.formatted
    for event in stream.finish():
        if isinstance(event, Final) and event.text:
            yield event.formatted


def main() -> None:
    """Until the input ends."""
    torch.set_num_threads(1)  # its products are small: several threads would wait for each other
    recognizer = Recognizer.load()  # the model that ships
    for text in finals(recognizer.stream(), blocks(sys.stdin.buffer)):
        print(text, flush=True)


if __name__ == "__main__":
    main()
