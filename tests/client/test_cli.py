"""The real command as a subprocess against the fake server: what it prints, when, and how it ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from streaming_asr_client import __version__
from websockets.asyncio.server import ServerConnection

from tests.client.conftest import Popen, bytes_to, write_wav
from tests.client.fake_server import FakeServer, Recorded, ready, recognize

Mic = Callable[..., Popen]

FIRST = "word0 word1 word2 word3 word4 word5 word6 word7"


def test_file_piped_prints_one_line_for_each_final(mic: Mic, noise_wav: Path) -> None:
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(noise_wav), "--fast")
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == (f"{FIRST}\nword8 word9 word10 word11\n", "", 0)
    assert bytes(server.clients[0].audio) == noise_wav.read_bytes()[44:]
    assert server.clients[0].start == {
        "type": "start",
        "sample_rate": 16000,
        "encoding": "pcm_s16le",
        "channels": 1,
        "resumable": True,
    }
    assert server.clients[0].messages == [{"type": "stop"}]


def test_file_leaves_at_the_pace_of_speech(mic: Mic, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "f.wav", np.ones((22050, 2)), 22050)
    with FakeServer() as server:
        began = time.monotonic()
        process = mic("--server", server.url, "--file", str(wav))
        process.communicate(timeout=30)
        took = time.monotonic() - began
    assert took >= 1.0
    assert (server.clients[0].start["sample_rate"], server.clients[0].start["channels"]) == (22050, 2)
    assert server.clients[0].seconds == 1.0


def test_json_is_one_object_a_line_for_every_event(mic: Mic, noise_wav: Path) -> None:
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(noise_wav), "--fast", "--format", "json")
        out, err = process.communicate(timeout=30)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == (
        ["ready", "speech_started", *["partial"] * 8, "final", "speech_started", *["partial"] * 4, "final", "done"]
    )
    assert events[10]["text"] == FIRST
    assert events[10]["words"] == []
    assert (err, process.returncode) == ("", 0)


def test_a_key_comes_from_a_file(mic: Mic, noise_wav: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sasr_k\n")
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(noise_wav), "--fast", "--key-file", str(tmp_path / "key"))
        process.communicate(timeout=30)
    assert server.clients[0].authorization == "Bearer sasr_k"


def test_raw_stdin(mic: Mic) -> None:
    sound = bytes(range(256)) * 125  # 1 s
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", "-", "--fast", stdin=subprocess.PIPE)
        bytes_to(process).write(sound)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("word0 word1 word2 word3\n", "", 0)
    assert bytes(server.clients[0].audio) == sound


def test_finals_go_to_a_file_and_to_a_program_too(mic: Mic, noise_wav: Path, tmp_path: Path) -> None:
    with FakeServer() as server:
        sound = ("--server", server.url, "--file", str(noise_wav), "--fast")
        process = mic(*sound, "--output", str(tmp_path / "notes.txt"), "--exec", f"tee -a '{tmp_path}/heard'")
        out, err = process.communicate(timeout=30)
    lines = f"{FIRST}\nword8 word9 word10 word11\n"
    assert (out, err, process.returncode) == (lines, lines, 0)
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "heard").read_text() == lines


def test_spoken_commands_shape_the_text(mic: Mic, noise_wav: Path, tmp_path: Path) -> None:
    said = ["hello comma world", "new line", "nonsense", "scratch that", "good bye period"]

    async def speak(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        await ready(connection, recorded)
        for number, text in enumerate(said):
            final = {"type": "final", "utterance": number, "text": text, "start": number, "end": number + 1}
            await connection.send(json.dumps(final | {"confidence": 0.9, "reason": "endpoint"}))
        async for frame in connection:
            if frame == '{"type": "stop"}':
                await connection.send('{"type": "done", "audio_seconds": 5.0, "utterances": 5}')

    notes = tmp_path / "notes.txt"
    with FakeServer(speak) as server:
        sound = ("--server", server.url, "--file", str(noise_wav), "--fast")
        wanted = ("--hotword", "Ada", "--hotword", "light off", "--only-hotwords")
        process = mic(*sound, *wanted, "--commands", "--output", str(notes), "--exec", f"tee -a '{tmp_path}/heard'")
        out, err = process.communicate(timeout=30)
    assert {"Ada", "light off", "scratch that"} < set(server.clients[0].start["hotwords"])
    assert server.clients[0].start["only_hotwords"] is True
    assert notes.read_text() == "hello, world\ngood bye.\n"
    assert (tmp_path / "heard").read_text() == "hello, world\nnonsense\ngood bye.\n"
    assert out == "hello, world\nnonsense\ngood bye.\n"
    assert "streaming-asr-mic: scratched, but what was printed stays\n" in err
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_signal_prints_the_last_final(mic: Mic, tmp_path: Path, number: int, source: str) -> None:
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer() as server:
        name = str(wav) if source == "file" else "-"
        process = mic("--server", server.url, "--file", name, stdin=subprocess.PIPE)
        if source == "stdin":  # stays open, and the reader blocked, to the end
            bytes_to(process).write(bytes(32000))
            bytes_to(process).flush()
        server.wait_for_audio(0.6)
        process.send_signal(number)
        process.wait(30)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
    assert (err, process.returncode) == ("", 0)
    assert re.fullmatch(r"word0 word1[ word0-9]*\n", out)
    assert server.clients[0].seconds < 30


async def never_done(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    await ready(connection, recorded)
    async for frame in connection:
        with server.changed:
            if isinstance(frame, bytes):
                recorded.audio += frame
            else:
                recorded.messages.append(json.loads(frame))
            server.changed.notify_all()


def test_a_second_interrupt_leaves_at_once(mic: Mic, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer(never_done) as server:
        process = mic("--server", server.url, "--file", str(wav))
        client = server.wait_for_audio(0.2)
        process.send_signal(signal.SIGINT)
        with server.changed:
            assert server.changed.wait_for(lambda: bool(client.messages), 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("", "", 130)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_before_the_session_is_open_one_signal_is_enough(mic: Mic, noise_wav: Path, number: int, code: int) -> None:
    async def silent(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        await connection.recv()
        with server.changed:
            recorded.messages.append({})
            server.changed.notify_all()
        await connection.wait_closed()

    with FakeServer(silent) as server:
        process = mic("--server", server.url, "--file", str(noise_wav))
        with server.changed:
            assert server.changed.wait_for(lambda: bool(server.clients) and bool(server.clients[0].messages), 30)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("", "", code)


def test_a_server_that_never_finishes_is_given_up(mic: Mic, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer(never_done) as server:
        process = mic("--server", server.url, "--file", str(wav))
        server.wait_for_audio(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("", 1)
    assert err == "streaming-asr-mic: the server did not finish within 5 s; the last words may be missing\n"


@pytest.fixture
def fifos(tmp_path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Named `began` and `go`: opening one waits for nobody."""
    for name in ("began", "go"):
        os.mkfifo(tmp_path / name)
    with (tmp_path / "began").open("r+b", buffering=0) as began, (tmp_path / "go").open("r+b", buffering=0) as go:
        yield began, go


def slow_program(folder: Path) -> tuple[str, ...]:
    """Options: for a final, `began` gets a line, one is waited for in `go`, and `heard` gets the words."""
    script = f"cd '{folder}' && echo > began && read line < go && echo $0 >> heard"
    return "--exec", shlex.join(["sh", "-c", script, "{}"])


def test_the_interrupt_that_ends_the_sound_ends_no_program(
    mic: Mic, tmp_path: Path, fifos: tuple[BinaryIO, BinaryIO]
) -> None:
    began, go = fifos
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer() as server:
        sound = ("--server", server.url, "--file", str(wav))
        process = mic(*sound, *slow_program(tmp_path), start_new_session=True)
        began.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        go.write(b"\n\n")  # for what was said since then, too
        out, err = process.communicate(timeout=30)
    assert (err, process.returncode) == ("", 0)
    assert out == (tmp_path / "heard").read_text()


def test_an_interrupt_ends_the_wait_for_a_program_when_all_was_said(
    mic: Mic, tmp_path: Path, fifos: tuple[BinaryIO, BinaryIO]
) -> None:
    began, _ = fifos
    wav = write_wav(tmp_path / "short.wav", np.ones(8000))
    with FakeServer() as server:
        sound = ("--server", server.url, "--file", str(wav), "--fast", "--format", "json")
        process = mic(*sound, *slow_program(tmp_path))
        began.readline()
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["type"] != "done":
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (err, process.returncode) == ("", 130)
    assert not (tmp_path / "heard").exists()


async def refuse(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    await connection.recv()
    await connection.send('{"type": "error", "code": "bad_rate", "message": "7 Hz is too slow", "hint": "more"}')
    await connection.close(1008)


async def full(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    await connection.recv()
    await connection.close(1013, "4 sessions are open")


async def vanish(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    await ready(connection, recorded)
    await connection.recv()
    connection.transport.abort()


async def shut_down(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    await ready(connection, recorded)
    await connection.recv()
    await connection.send('{"type": "going_away", "seconds": 0}')
    await connection.send('{"type": "done", "audio_seconds": 0.04, "utterances": 0}')
    closing = asyncio.create_task(connection.close(1001))
    async for _ in connection:
        pass
    await closing


async def babble(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    await ready(connection, recorded)
    await connection.send("hello!")
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        (refuse, None, "the server says: 7 Hz is too slow (bad_rate)"),
        (full, None, "the server at URL has no room (4 sessions are open); try again in a moment"),
        (vanish, None, "the connection broke off (close code 1006, URL)"),
        (shut_down, None, "the server ended the session early, after 0.04 s of audio (URL)"),
        (babble, None, "the server sent something that is not JSON: 'hello!'"),
        (recognize, HTTPStatus.SERVICE_UNAVAILABLE, "the server at URL has no room; try again in a moment"),
        (recognize, HTTPStatus.UNAUTHORIZED, "the server at URL asks for an API key, and was given none that is good"),
        (recognize, HTTPStatus.FORBIDDEN, "the server at URL refuses: HTTP 403"),
    ],
)
def test_server_trouble_is_one_line_and_exit_1(
    mic: Mic,
    noise_wav: Path,
    behaviour: Callable[..., object],
    status: HTTPStatus | None,
    says: str,
) -> None:
    with FakeServer(behaviour, http_status=status) as server:  # type: ignore[arg-type]
        process = mic("--server", server.url, "--file", str(noise_wav))
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("", f"streaming-asr-mic: {says.replace('URL', server.url)}\n", 1)


def test_a_refusal_is_an_event_in_json(mic: Mic, noise_wav: Path) -> None:
    async def fail_later(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        await ready(connection, recorded)
        await connection.send('{"type": "error", "code": "oops", "message": "it broke"}')
        await connection.close(1011)

    with FakeServer(fail_later) as server:
        process = mic("--server", server.url, "--file", str(noise_wav), "--format", "json")
        out, _ = process.communicate(timeout=30)
    assert json.loads(out.splitlines()[-1]) == {"type": "error", "code": "oops", "message": "it broke"}
    assert process.returncode == 1


def test_no_server(mic: Mic, noise_wav: Path) -> None:
    with FakeServer() as server:
        pass  # its port is free again
    process = mic("--server", server.url, "--file", str(noise_wav))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == f"streaming-asr-mic: no server at {server.url} — start one with `streaming-asr serve`\n"


def test_it_says_which_version_it_is(mic: Mic) -> None:
    process = mic("--version")
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, f"streaming-asr-mic {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--file", "missing.wav"], "cannot read missing.wav: No such file or directory"),
        (["--file", "."], "cannot read .: Is a directory"),
        (["--file", __file__], "is no 16-bit PCM WAV file"),
        (["--server", "ws://[", "--file", "-"], "'ws://[' is no server address"),
        (["--file", "-", "--key-file", "missing.key"], "no API key in missing.key"),
        (["--file", "-", "--spool", "missing"], "audio cannot be kept in missing: No such file or directory"),
        (["--fast"], "--fast goes with --file"),
        (["--only-hotwords"], "--only-hotwords goes with --hotword"),
        (["--file", "-", "--output", "notes.doc"], "must end in one of .txt, .srt, .vtt, .jsonl"),
        (["--file", "-", "--exec", "no-such-program"], "there is no program 'no-such-program'"),
        (["--file", "-", "--push-to-talk"], "standard input is no terminal"),
        (["--file", "-", "--commands", "--format", "json"], "--commands goes with text"),
        (["--file", "-", "--device", "3"], "not allowed with argument --file"),
    ],
)
def test_what_the_user_got_wrong_is_exit_2(mic: Mic, arguments: list[str], says: str) -> None:
    process = mic(*arguments)
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("", 2)
    assert says in err
    assert "Traceback" not in err


def test_what_is_heavy_or_may_be_missing_is_not_imported() -> None:
    script = (
        "import sys, streaming_asr_client.cli;"
        "print(sorted({'torch', 'numpy', 'sounddevice', 'streaming_asr'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


@pytest.mark.parametrize("argument", ["--list-devices", "--device=0"])
def test_without_portaudio_it_says_what_to_install(mic: Mic, tmp_path: Path, argument: str) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    process = mic(argument, environment={**os.environ, "PYTHONPATH": str(tmp_path)})
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("", 2)
    assert "apt-get install libportaudio2" in err
    assert "brew install portaudio" in err
    assert "Traceback" not in err


def test_a_reader_that_leaves_ends_it_quietly(mic: Mic, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "long.wav", np.ones(600 * 16000))
    with FakeServer() as server:
        process = mic("--server", server.url, "--file", str(wav), "--fast")
        assert process.stdout is not None
        assert process.stdout.readline() == f"{FIRST}\n"
        process.stdout.close()
        process.wait(60)
        assert process.stderr is not None
        assert (process.stderr.read(), process.returncode) == ("", 0)


def test_last_words_that_a_signal_left_nobody_to_read_go_elsewhere_and_are_said_to_be_missing(
    mic: Mic, tmp_path: Path
) -> None:
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    with FakeServer() as server:
        output = ("--output", str(tmp_path / "notes.txt"))
        process = mic("--server", server.url, "--file", str(wav), *output)
        server.wait_for_audio(0.6)
        assert process.stdout is not None
        process.stdout.close()  # as `tee` does, which Ctrl-C has ended, too
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.stderr is not None
    assert process.stderr.read() == (
        "streaming-asr-mic: cannot write to standard output (Broken pipe); the last words may be missing\n"
    )
    assert process.returncode == 1
    assert (tmp_path / "notes.txt").read_text().startswith("word0 word1")


def test_a_reader_that_stands_still_holds_up_neither_sound_nor_signals(mic: Mic, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "long.wav", np.ones(60 * 16000))
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)  # of 40 kB
    sound = ("--file", str(wav), "--fast", "--format", "json")
    with FakeServer() as server, os.fdopen(reading, encoding="utf-8") as reader:
        process = mic("--server", server.url, *sound, stdout=writing)
        os.close(writing)
        server.wait_for_audio(60)
        with server.changed:
            assert server.changed.wait_for(lambda: server.clients[0].messages == [{"type": "stop"}], 30)
        events = [json.loads(line) for line in reader]
        process.wait(30)
    assert [event["utterance"] for event in events if event["type"] == "final"] == list(range(30))
    assert (events[0]["type"], events[-1]["type"], process.returncode) == ("ready", "done", 0)


def read_terminal(descriptor: int) -> str:
    """Everything written to the other side, until it is closed (which Linux reports as EIO)."""
    received = bytearray()
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            data = b""
        if not data:
            return received.decode()
        received += data


@pytest.mark.parametrize(
    ("environment", "live"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_live_on_a_terminal(
    mic: Mic,
    noise_wav: Path,
    environment: dict[str, str],
    live: bool,
) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    try:
        with FakeServer() as server:
            process = mic(
                "--server",
                server.url,
                "--file",
                str(noise_wav),
                "--fast",
                environment=inherited | environment,
                stdout=theirs,
            )
            os.close(theirs)
            written = read_terminal(ours)
            process.wait(30)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert written.endswith("word8 word9 word10 word11\r\n")
    assert ("\x1b[J" in written) == live
    assert ("\x1b[2mword3\x1b[0m" in written) == live
    if live:
        widest = max(re.split(r"\x1b\[[?\d]*[A-Za-z]|\r|\n", written.replace(FIRST, "")), key=len)
        assert len(widest) <= 29


def test_what_programs_print_goes_above_the_live_line(mic: Mic, noise_wav: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        with FakeServer() as server:
            sound = ("--server", server.url, "--file", str(noise_wav))
            environment = os.environ | {"TERM": "xterm"}
            echo = ("--exec", "printf 'ok\\nhalf'")
            process = mic(*sound, *echo, environment=environment, stdout=theirs, stderr=theirs)
            os.close(theirs)
            written = read_terminal(ours)
            process.wait(30)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert [written.count(f"\x1b[J\r{line}\r\n") for line in ("ok", "halfok", "half")] == [1, 1, 1]


def test_closed_outputs_are_no_fault() -> None:
    command = [sys.executable, "-m", "streaming_asr_client", "--server", "ws://127.0.0.1:1", "--file", "none.wav"]
    done = subprocess.run(["bash", "-c", f"{shlex.join(command)} >&- 2>&-"], check=False)
    assert done.returncode == 2  # there is no such file
