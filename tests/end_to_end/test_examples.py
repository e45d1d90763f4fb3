"""The examples and the code in the docs, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from streaming_asr.evaluate import count_word_errors
from tests.end_to_end.conftest import DEMO, ServerProcess
from tests.end_to_end.test_server import DEMO_TEXT

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]


def python(*arguments: str | Path, sound: bytes = b"") -> str:
    """What a program prints; run from the checkout, as the docs say."""
    done = subprocess.run(
        [sys.executable, *arguments], input=sound, capture_output=True, cwd=ROOT, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def is_understood(said: str) -> bool:
    words = " ".join(re.findall(r"[a-z']+", said.lower()))
    return count_word_errors([(DEMO_TEXT, words)]).wer <= 0.5


def code(document: str, first: str) -> str:
    """The Python in a document that begins with this line."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    [found] = [block for block in blocks if block.startswith(first)]
    return str(found)


def test_the_demo_shows_the_words() -> None:
    printed = python("examples/demo.py")
    assert is_understood(printed.partition("would:")[2].partition("Now with")[0]), printed


def test_sound_from_a_pipe() -> None:
    with wave.open(str(DEMO)) as file:
        assert is_understood(python("examples/embed.py", sound=file.readframes(file.getnframes())))


def test_the_readmes_code() -> None:
    *events, last = python("-c", code("README.md", "import torch")).splitlines()
    assert events[0].startswith("SpeechStarted")
    assert is_understood(last), last


def test_the_protocol_by_hand(server: ServerProcess) -> None:
    program = code("docs/protocol.md", "import asyncio, json")
    program = program.replace("ws://127.0.0.1:8765", server.url).replace("recording.wav", str(DEMO))
    assert is_understood(python("-c", program))


def test_the_clients_library(server: ServerProcess) -> None:
    program = code("client/README.md", "import asyncio").replace("ws://127.0.0.1:8765", server.url)
    program += (
        "\nasync def blocks():\n    with open('examples/demo.wav', 'rb') as file:\n        yield file.read()[44:]\n\n"
        "asyncio.run(main(blocks()))\n"
    )
    printed = python("-c", program).splitlines()
    assert is_understood(" ".join(line for line in printed if not line.startswith("…"))), printed
