"""Draws the picture in the client's README: its live view, some seconds into a recording.

``python examples/live_view.py RECORDING.wav [--seconds 8] > client/live_view.svg``, with a server running.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
from collections.abc import AsyncIterator

from rich.console import Console
from rich.text import Text
from streaming_asr_client import DEFAULT_URL, Final, connect
from streaming_asr_client.dictation import line
from streaming_asr_client.live import LiveView
from streaming_asr_client.readings import Readings
from streaming_asr_client.sources import WavSource

SIZE = os.terminal_size((72, 12))


async def screen(recording: str, seconds: float, url: str) -> str:
    """What is on the terminal after so much sound: what is settled, then the region."""
    view, settled = LiveView(), ""
    async with WavSource(recording) as source:
        view.readings = readings = Readings(source.sample_rate, source.channels, lambda: None)

        async def sound() -> AsyncIterator[bytes]:
            async for block in source:
                if readings.seconds >= seconds:
                    return
                readings.hear(block)
                yield block

        async with connect(url, sample_rate=source.sample_rate, channels=source.channels) as session:
            async for event in session.transcribe(sound()):
                if not isinstance(event, Final):
                    view.show(event, SIZE)
                elif event.reason != "stop":  # which is what only the end of the sound settles
                    view.settle(line(event), SIZE)
                    settled += line(event).added
    return settled + view.redraw(SIZE)


def picture(written: str) -> str:
    """A terminal with these characters on it, as SVG that asks nobody for a font."""
    console = Console(record=True, width=SIZE.columns, file=io.StringIO(), force_terminal=True)
    colours_only = re.sub(r"\r|\x1b\[[?\d;]*[A-Zhl]", "", written)
    for row in colours_only.splitlines():
        console.print(Text.from_ansi(row))
    svg = console.export_svg(title="streaming-asr-mic")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--server", default=DEFAULT_URL)
    options = parser.parse_args()
    print(picture(asyncio.run(screen(options.recording, options.seconds, options.server))))
