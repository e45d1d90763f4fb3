"""The space bar: what presses mean, what is let through, and that the terminal gets back as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from streaming_asr_client.errors import UsageError
from streaming_asr_client.protocol import Request
from streaming_asr_client.push_to_talk import SpaceBar, Switch, gated

from tests.client.conftest import write_wav
from tests.client.fake_server import FakeServer
from tests.client.test_cli import Mic

HELD = [0.0, 0.5, 0.53, 0.56, 0.59]


@pytest.mark.parametrize(
    ("presses", "changes"),
    [
        ([], []),
        ([1.0], [1.0]),  # a tap: on, and stays on
        ([1.0, 3.0], [1.0, 3.0]),
        ([1.0, 3.0, 5.0], [1.0, 3.0, 5.0]),
        (HELD, [0.0, 0.84]),
        ([at + 0.16 for at in HELD], [0.16, 1.0]),  # the repeats begin as late as anywhere
        ([0.0, 0.3], [0.0, 0.55]),  # two taps in a row: off too
        ([*HELD, 2.0], [0.0, 0.84, 2.0]),
        ([1.0, *(at + 3 for at in HELD)], [1.0, 3.0, 3.5, 3.84]),  # held to turn off
    ],
)
def test_what_presses_mean(presses: list[float], changes: list[float]) -> None:
    switch = Switch()
    seen = []
    for press in [*presses, None]:
        if switch.release is not None and (press is None or switch.release <= press):
            at = switch.release
            switch.wait(at - 0.01)
            assert switch.is_on
            switch.wait(at)
            assert not switch.is_on
            seen.append(round(at, 2))
        if press is not None:
            was_on = switch.is_on
            switch.press(press)
            if switch.is_on != was_on:
                seen.append(press)
    assert seen == changes


def test_only_what_is_said_while_it_is_on_goes_through() -> None:
    async def sound() -> AsyncIterator[bytes]:
        for at in range(10):
            yield bytes([at])

    async def run(on: set[int], seconds: float) -> list[bytes | Request]:
        states = iter(range(10))
        return [block async for block in gated(sound(), lambda: next(states) in on, seconds)]

    assert asyncio.run(run({2, 3, 6}, 1.0)) == [b"\2", b"\3", Request.FINALIZE, b"\6", Request.FINALIZE]
    assert asyncio.run(run(set(), 9.0)) == [Request.KEEPALIVE] * 3
    assert asyncio.run(run({8, 9}, 1.0)) == [b"\x08", b"\x09"]  # the end settles it


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt, asyncio.CancelledError, ZeroDivisionError])
def test_the_terminal_gets_back_as_it_was(terminal: tuple[int, int], failure: type[BaseException] | None) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)

    async def body() -> list[bool]:
        changed = asyncio.Event()
        seen: list[bool] = []
        bar = SpaceBar(theirs, changed.set)
        with bar.listening():
            assert not termios.tcgetattr(theirs)[3] & (termios.ECHO | termios.ICANON)
            for _ in range(2):
                os.write(ours, b"x ")
                await changed.wait()
                changed.clear()
                seen.append(bar.is_on())
                os.write(ours, b" ")  # at once: as if it were held, and is released now
                await changed.wait()
                changed.clear()
                seen.append(bar.is_on())
            if failure is not None:
                raise failure
        return seen

    if failure is None:
        assert asyncio.run(body()) == [True, False] * 2
    else:
        with pytest.raises(failure):
            asyncio.run(body())
    assert termios.tcgetattr(theirs) == before


def test_without_a_keyboard_it_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(UsageError, match="no terminal"):
        SpaceBar(file.fileno(), lambda: None)


def test_the_command_sends_what_is_said_while_it_is_on(mic: Mic, tmp_path: Path, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(wav), "--push-to-talk", stdin=theirs)
        assert process.stdout is not None
        with server.changed:
            assert server.changed.wait_for(lambda: bool(server.clients), 30)
        os.write(ours, b" ")
        client = server.wait_for_audio(1.0)
        os.write(ours, b" ")
        line = process.stdout.readline()
        with server.changed:
            assert client.messages == [{"type": "finalize"}]
        heard = client.seconds
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert line.startswith("word0 word1 word2 word3")
    assert (out, process.returncode) == ("", 0)
    assert client.seconds == heard
    assert client.messages == [{"type": "finalize"}, {"type": "stop"}]
    assert termios.tcgetattr(theirs) == before


def test_suspended_it_gives_the_terminal_back(mic: Mic, tmp_path: Path, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(wav), "--push-to-talk", stdin=theirs)
        with server.changed:
            assert server.changed.wait_for(lambda: bool(server.clients), 30)
        os.write(ours, b" ")
        server.wait_for_audio(0.1)
        assert termios.tcgetattr(theirs) != before
        process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert termios.tcgetattr(theirs) == before
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert termios.tcgetattr(theirs) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_ended_by_a_signal_it_gives_the_terminal_back(
    mic: Mic, tmp_path: Path, terminal: tuple[int, int], number: int
) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(wav), "--push-to-talk", stdin=theirs)
        with server.changed:
            assert server.changed.wait_for(lambda: bool(server.clients), 30)
        assert termios.tcgetattr(theirs) != before
        process.send_signal(number)
        process.communicate(timeout=30)
    assert termios.tcgetattr(theirs) == before
