"""The examples' own logic, by table; what they are made of is tested elsewhere."""

from __future__ import annotations

import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.mark.parametrize(
    ("heard", "answer"),
    [
        ("what time is it", "It is 16:05."),
        ("can you tell me the time please", "It is 16:05."),
        ("what day is it today", "It is Tuesday, the 3 of March."),
        ("thank you", "You are welcome."),
        ("good morning", "The same to you."),
        ("time flies", None),
        ("whatever the time", None),
        ("", None),
    ],
)
def test_an_assistant_answers_what_it_knows(
    example: Callable[[str], ModuleType], heard: str, answer: str | None
) -> None:
    assert example("assistant").reply(heard, datetime(2026, 3, 3, 16, 5)) == answer


def test_an_assistant_speaks_its_answers(tmp_path: Path) -> None:
    spoken = tmp_path / "spoken"
    voice = tmp_path / "espeak-ng"
    voice.write_text(f'#!/bin/sh\necho "$2" >> {spoken}\n')
    voice.chmod(0o755)
    command: list[str | Path] = [sys.executable, EXAMPLES / "assistant.py"]
    for path, code in ((f"{tmp_path}:{os.environ['PATH']}", 0), (str(tmp_path / "nothing"), 2)):
        done = subprocess.run(
            command,
            input=b"what day is it\nwhatever\n",
            env={"PATH": path},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code
    assert b"apt-get install espeak-ng" in done.stderr
    assert re.fullmatch(r"It is \w+, the \d+ of \w+\.\n", spoken.read_text())


def test_embedding_reads_samples_as_they_come(example: Callable[[str], ModuleType]) -> None:
    embed = example("embed")
    sound = (np.arange(4001) % 100).astype("<i2").tobytes() + b"\x01"  # and half a sample
    heard = np.concatenate(list(embed.blocks(io.BytesIO(sound))))
    assert heard.dtype == np.float32
    np.testing.assert_array_equal(heard * 32768, np.arange(4001) % 100)


def test_captions_ask_nobody_but_the_server() -> None:
    page = (EXAMPLES / "captions_obs.html").read_text()
    assert not re.search(r"(src|href)=|@import|https?://(?!localhost)", page)


def test_the_picture_of_the_live_view_asks_nobody_for_a_font(example: Callable[[str], ModuleType]) -> None:
    svg = example("live_view").picture("\r\x1b[?7lone \x1b[2mtwo\x1b[0m\x1b[K\nthree\x1b[J\x1b[?7h\r\x1b[1A")
    assert [text.replace("&#160;", " ") for text in re.findall(r"<text[^>]*>([^<\n]+)</text>", svg)] == [
        "streaming-asr-mic",
        "one ",
        "two",
        "three",
    ]
    assert not re.search(r"@font-face|url\((?!#)|(src|href)=", svg)
