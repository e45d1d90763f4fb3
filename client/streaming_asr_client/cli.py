"""Owns the command ``streaming-asr-mic``: options, signals, standard streams, exit codes.

What it decides with is elsewhere: sound in `sources`, `microphone` and `push_to_talk`, the session in `client`, what
finals do to the text in `dictation`, looks in `render` and `live`, what follows the text in `transcript` and `hooks`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import select
import signal
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import TextIO

import shtab

from . import __version__
from .client import DEFAULT_URL, connect
from .dictation import COMMANDS, Dictation, Edit, line
from .errors import ClientError, ServerError, UsageError
from .events import Error, Final, Partial
from .hooks import Hook, parse_command, typing_command
from .live import LiveView
from .microphone import NO_MICROPHONE, MicrophoneSource, device_table, input_devices, load_sounddevice
from .printer import Printer, tell
from .protocol import Request
from .push_to_talk import HINT, SpaceBar, gated
from .readings import Readings
from .render import JsonView, LinesView, View
from .sources import BLOCK_MS, AudioSource, StdinSource, WavSource
from .transcript import TranscriptFile

EXIT_OK, EXIT_SERVER, EXIT_USAGE = 0, 1, 2
EXIT_SIGNAL = 128  # plus the signal's number, as shells count
RESUME_SECONDS = 60.0  # how long we try to come back when the connection drops; servers wait as long
DRAIN_SECONDS = 5.0  # how long the server has, after Ctrl-C, for the last words
LEAVE_SECONDS = 0.5  # how long who reads us has, after a second Ctrl-C, for what was printed
MAX_LINE_BYTES = 1 << 16  # that another program may print without a line's end before it is shown
PROGRAM = "streaming-asr-mic"
KEY_VARIABLE = "STREAMING_ASR_KEY"

_DESCRIPTION = """\
Sends sound from the microphone (or a file) to a streaming_asr server and prints what it hears: live on a terminal,
one line for each utterance when piped. Ctrl-C ends the recording and prints the last words; again: leaves at once."""

_EPILOG = """\
exit codes: 0 all was said; 1 the server or the connection; 2 an option, a device or a file; 130 a second Ctrl-C"""


def argument_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("--server", metavar="URL", default=DEFAULT_URL, help="default: %(default)s; host:port will do")
    sound = parser.add_mutually_exclusive_group()
    sound.add_argument("--device", metavar="N|NAME", help="the microphone: its number, or a part of its name")
    sound.add_argument("--list-devices", action="store_true", help="list the microphones and exit")
    sound.add_argument(
        "--file", metavar="F", help="a 16-bit WAV file instead of a microphone; '-': raw s16le 16 kHz mono from stdin"
    )
    parser.add_argument(
        "--fast", action="store_true", help="with --file: as fast as it goes, not at the pace of speech"
    )
    parser.add_argument(
        "--key-file", metavar="F", type=Path, help=f"where the server's API key is written (default: ${KEY_VARIABLE})"
    )
    parser.add_argument(
        "--spool",
        metavar="DIR",
        help="keep sound that the server does not take there when 32 MB are in memory; up to 1 GB",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: each event as a line of JSON")
    parser.add_argument("--raw", action="store_true", help="words as they were said: no marks, capitals or figures")
    parser.add_argument(
        "--output", metavar="F", type=Path, help="also write finals there: F.txt, F.srt, F.vtt or F.jsonl"
    )
    parser.add_argument(
        "--exec",
        metavar="CMD",
        help="run CMD for each final: its words for {} in CMD, else on standard input; no shell",
    )
    parser.add_argument(
        "--commands",
        action="store_true",
        help="obey 'new line', 'new paragraph', 'scratch that', 'comma', 'period', 'full stop' and 'question mark'",
    )
    parser.add_argument(
        "--hotword",
        metavar="PHRASE",
        action="append",
        default=[],
        help="a word or phrase that is likely to be said, in the lexicon or not; may be given often",
    )
    parser.add_argument(
        "--only-hotwords", action="store_true", help="hear nothing but what --hotword and --commands name"
    )
    parser.add_argument(
        "--push-to-talk", action="store_true", help="hear only while the space bar is on: held, or pressed until again"
    )
    parser.add_argument("--type", action="store_true", help="type finals into the focused window (xdotool or wtype)")
    shtab.add_argument_to(parser, "--print-completion", help="print the shell's completion of this command, and end")
    return parser


class Terminal:
    """Standard output and standard error, kept from writing over each other. Writes at once, and nobody waits for it.

    `failure` is what became of standard output: `BrokenPipeError` when nobody reads it any more. `on_failure` is then
    called on the event loop.
    """

    def __init__(self, view: View, out: TextIO, err: TextIO) -> None:
        self.view = view
        self.failure: OSError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._out, self._err = out, err
        # Without a buffer, which would keep what could not be written, and its lock while we stand still.
        self._raw_out = open(out.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115 - for as long as we last
        self._raw_err = open(err.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        self._printer = Printer()

    def size(self) -> os.terminal_size:
        """The size now. Not `shutil`'s, which believes an exported COLUMNS even after a resize."""
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return os.terminal_size((80, 24))
        return os.terminal_size((size.columns or 80, size.lines or 24))

    def write(self, text: str, *, is_passing: bool = False) -> None:
        """To standard output. `is_passing`: such text may take its place when nobody reads."""
        if text:
            data = text.encode(self._out.encoding, "replace")
            self._printer.put(functools.partial(self._write_out, data), len(data), is_passing=is_passing)

    def notice(self, text: str) -> None:
        """To standard error, above the live line."""
        self.pass_on(f"{PROGRAM}: {text}\n".encode(self._err.encoding, "replace"))

    def pass_on(self, lines: bytes) -> None:
        """What another program printed, to standard error, above the live line."""
        self.write(self.view.hide())
        self._printer.put(functools.partial(self._write_err, lines), len(lines))
        self.redraw()

    def redraw(self) -> None:
        """After a resize, or when readings have changed."""
        self.write(self.view.redraw(self.size()), is_passing=True)

    async def flush(self) -> None:
        """Waits until everything is written."""
        await self._printer.flush()

    def _write_out(self, data: bytes) -> None:
        try:
            _write(self._raw_out, data)
        except OSError as failure:
            if self.failure is None:
                self.failure = failure
                tell(self._loop, self.on_failure)

    def _write_err(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # there is nobody to tell
            _write(self._raw_err, data)


def _write(file: FileIO, data: bytes) -> None:
    while data:
        if num_written := file.write(data):
            data = data[num_written:]
        else:  # another program has made it non-blocking
            select.select([], [file], [])


def choose_view(
    output_format: str, *, is_terminal: bool, environment: Mapping[str, str], revisable: bool = False
) -> View:
    """JSON when asked for; live on a terminal that can move its cursor; else lines. NO_COLOR: live, without colours."""
    if output_format == "json":
        return JsonView()
    if is_terminal and environment.get("TERM", "") not in ("", "dumb"):
        return LiveView(color=not environment.get("NO_COLOR"), revisable=revisable)
    return LinesView()


class Interrupts:
    """What ends us. The first signal ends the sound and gives the server `DRAIN_SECONDS`; the next ends us.

    Before there is a session nothing can be lost, and after it only programs are waited for: the first one ends us.
    """

    def __init__(self, task: asyncio.Task[int]) -> None:
        self._task = task
        self._finish: Callable[[], None] | None = None
        self.count = 0
        self.exit_code: int | None = None  # when we left because of a signal

    def session_is_open(self, finish: Callable[[], None]) -> None:
        """From now on the first signal calls `finish`."""
        self._finish = finish

    def session_is_over(self) -> None:
        """From now on every signal ends us."""
        self._finish = None

    def receive(self, number: int) -> None:
        """On the event loop."""
        self.count += 1
        if self.count == 1 and self._finish is not None:
            self._finish()
        else:
            self.exit_code = EXIT_SIGNAL + number
            self._task.cancel()

    def output_failed(self) -> None:
        """Nobody reads us any more. After a signal the last words are still had, for whoever else is given them."""
        if not self.count:
            self._task.cancel()


@contextlib.contextmanager
def _on_signals(numbers: Sequence[int], receive: Callable[[int], None]) -> Iterator[None]:
    """Calls `receive` on the running event loop for each of these signals."""
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, receive, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda number, frame: loop.call_soon_threadsafe(receive, number))
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, previous[number])


def _open_source(options: argparse.Namespace, notice: Callable[[str], None]) -> AudioSource:
    if options.file == "-":
        return StdinSource(fast=options.fast)
    if options.file is not None:
        return WavSource(options.file, fast=options.fast)
    return MicrophoneSource(options.device, on_loss=notice)


def _read_key(path: Path | None, environment: Mapping[str, str]) -> str | None:
    """Not an option of its own: other users of a machine can read what a program was started with."""
    if path is None:
        return environment.get(KEY_VARIABLE) or None
    try:
        return path.read_text().strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"no API key in {path}: {reason}") from error


@contextlib.contextmanager
def _above_the_live_line(terminal: Terminal) -> Iterator[int]:
    """A descriptor for what other programs print: standard error, or a pipe to it that does not break the live view."""
    if not isinstance(terminal.view, LiveView) or os.name != "posix":
        yield 2
        return
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    line = b""

    def read() -> None:
        nonlocal line
        with contextlib.suppress(BlockingIOError):
            *lines, line = (line + os.read(reading, MAX_LINE_BYTES)).split(b"\n")
            if len(line) > MAX_LINE_BYTES:
                lines, line = [*lines, line], b""
            if lines:
                terminal.pass_on(b"\n".join(lines) + b"\n")

    loop.add_reader(reading, read)
    try:
        yield writing
    finally:
        read()
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
        if line:
            terminal.pass_on(line + b"\n")


@contextlib.asynccontextmanager
async def _edits_handed_on(options: argparse.Namespace, terminal: Terminal) -> AsyncIterator[Callable[[Edit], None]]:
    """To the file and the programs that the options name: what to call with each edit. Raises `UsageError`."""
    async with contextlib.AsyncExitStack() as stack:
        output = stack.enter_context(_above_the_live_line(terminal))
        hooks = []
        if options.exec is not None:
            hooks.append(Hook(parse_command(options.exec), terminal.notice, output=output))
        if options.type:
            hooks.append(Hook(typing_command(os.environ), terminal.notice, types=options.commands, output=output))
        file = None if options.output is None else stack.enter_context(TranscriptFile(options.output))
        for hook in hooks:
            await stack.enter_async_context(hook.running())

        def hand_on(edit: Edit) -> None:
            if file is not None:
                file.accept(edit)
            for hook in hooks:
                hook.accept(edit)

        yield hand_on


async def _measured(sound: AsyncIterable[bytes | Request], readings: Readings) -> AsyncIterator[bytes | Request]:
    async for block in sound:
        if isinstance(block, Request):
            readings.silence()
        else:
            readings.hear(block)
        yield block


@contextlib.asynccontextmanager
async def _heard(
    options: argparse.Namespace, source: AudioSource, terminal: Terminal
) -> AsyncIterator[AsyncIterable[bytes | Request]]:
    """What is to be sent of the source's sound: gated by the space bar, measured for the live view."""
    view = terminal.view if isinstance(terminal.view, LiveView) else None
    sound: AsyncIterable[bytes | Request] = source
    with contextlib.ExitStack() as stack:
        if options.push_to_talk:
            space_bar = SpaceBar(sys.stdin.fileno(), terminal.redraw)
            stack.enter_context(space_bar.listening())
            sound = gated(source, space_bar.is_on, BLOCK_MS / 1000)
            if view is not None:
                view.hint = lambda: "" if space_bar.is_on() else HINT
        if view is not None and not options.fast:
            view.readings = Readings(source.sample_rate, source.channels, terminal.redraw)
            sound = _measured(sound, view.readings)
        yield sound


async def stream(options: argparse.Namespace, terminal: Terminal, interrupts: Interrupts) -> None:
    """From the first block of sound to ``done``. Raises `ClientError`."""
    view = terminal.view
    edit_of = Dictation().accept if options.commands else line
    async with (
        _edits_handed_on(options, terminal) as hand_on,
        _open_source(options, terminal.notice) as source,
        _heard(options, source, terminal) as sound,
        connect(
            options.server,
            sample_rate=source.sample_rate,
            channels=source.channels,
            key=_read_key(options.key_file, os.environ),
            resume_seconds=RESUME_SECONDS,
            spool=options.spool,
            formatted=not options.raw,
            hotwords=options.hotword + ([" ".join(command) for command in COMMANDS] if options.commands else []),
            only_hotwords=options.only_hotwords,
            notice=terminal.notice,
        ) as session,
    ):
        loop = asyncio.get_running_loop()
        terminal.write(view.show(session.ready, terminal.size()))
        if sys.stderr.isatty() and options.file is None:
            terminal.notice(f"listening to {source.name!r} ({source.sample_rate} Hz); Ctrl-C ends")
        if sys.stderr.isatty() and options.push_to_talk and isinstance(view, LinesView):
            terminal.notice(HINT)
        try:
            async with asyncio.timeout(None) as deadline:

                def finish() -> None:
                    source.stop()
                    deadline.reschedule(loop.time() + DRAIN_SECONDS)

                interrupts.session_is_open(finish)
                async with contextlib.aclosing(session.transcribe(sound)) as events:
                    async for event in events:
                        if not isinstance(event, Final):
                            text = view.show(event, terminal.size())
                            terminal.write(text, is_passing=isinstance(event, Partial))
                            continue
                        edit = edit_of(event)
                        terminal.write(view.settle(edit, terminal.size()))
                        if edit.num_scratched and isinstance(view, LinesView):
                            terminal.notice("scratched, but what was printed stays")
                        hand_on(edit)
        except TimeoutError:
            raise ClientError(
                f"the server did not finish within {DRAIN_SECONDS:g} s; the last words may be missing"
            ) from None
        except ServerError as refused:
            terminal.write(view.show(Error(refused.code, refused.message), terminal.size()))
            raise
        finally:
            interrupts.session_is_over()


async def run(options: argparse.Namespace, view: View) -> int:
    """Streams under signals; returns the exit code."""
    task = asyncio.current_task()
    assert task is not None  # a coroutine runs in one
    terminal = Terminal(view, sys.stdout, sys.stderr)
    interrupts = Interrupts(task)
    terminal.on_failure = interrupts.output_failed
    resize = [signal.SIGWINCH] if hasattr(signal, "SIGWINCH") else []
    with (
        _on_signals([signal.SIGINT, signal.SIGTERM], interrupts.receive),
        _on_signals(resize, lambda number: terminal.redraw()),
    ):
        failure: ClientError | None = None
        try:
            await stream(options, terminal, interrupts)
        except ClientError as raised:
            failure = raised
        except asyncio.CancelledError:
            if interrupts.exit_code is None and terminal.failure is None:
                raise
        terminal.write(view.close())
        await _printed(terminal, interrupts)
        if failure is None and interrupts.exit_code is None:
            failure = _unprinted(terminal, interrupts)
        if failure is not None:
            terminal.notice(str(failure))
            await _printed(terminal, interrupts)
    if failure is not None:
        return EXIT_USAGE if isinstance(failure, UsageError) else EXIT_SERVER
    return interrupts.exit_code or EXIT_OK


async def _printed(terminal: Terminal, interrupts: Interrupts) -> None:
    """Waits for who reads. When he stands still a signal ends the wait, be it the first one."""
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(None if interrupts.exit_code is None else LEAVE_SECONDS):
            await terminal.flush()


def _unprinted(terminal: Terminal, interrupts: Interrupts) -> ClientError | None:
    """Why text could not be printed; `None` also when its reader has had enough, which is no fault."""
    if terminal.failure is None or (isinstance(terminal.failure, BrokenPipeError) and not interrupts.count):
        return None
    return ClientError(f"cannot write to standard output ({terminal.failure.strerror}); the last words may be missing")


def _list_devices() -> int:
    devices = input_devices(load_sounddevice())
    if not devices:
        raise UsageError(NO_MICROPHONE)
    print(device_table(devices), end="", flush=True)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we run
    parser = argument_parser()
    options = parser.parse_args(arguments)
    if options.fast and options.file is None:
        parser.error("--fast goes with --file: a microphone is as fast as speech")
    for stream_ in (sys.stdout, sys.stderr):
        stream_.reconfigure(errors="replace")  # type: ignore[union-attr]  # an ASCII terminal must not end a dictation
    if options.commands and options.format == "json":
        parser.error("--commands goes with text: JSON is what the server said")
    if options.only_hotwords and not (options.hotword or options.commands):
        parser.error("--only-hotwords goes with --hotword: nothing would be heard")
    view = choose_view(
        options.format, is_terminal=sys.stdout.isatty(), environment=os.environ, revisable=options.commands
    )
    try:
        return _list_devices() if options.list_devices else asyncio.run(run(options, view))
    except UsageError as wrong:
        print(f"{PROGRAM}: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read the list has had enough, which is no fault. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:  # before the event loop had the signal
        return EXIT_SIGNAL + signal.SIGINT
