"""Owns the command ``streaming-asr-mic``: options, signals, standard streams, exit codes.

What it decides with is elsewhere: sound in `sources` and `microphone`, the session in `client`, looks in `render`,
what else becomes of finals in `transcript` and `hooks`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import shtab

from .client import DEFAULT_URL, connect
from .errors import ClientError, ServerError, UsageError
from .events import Error, Final
from .hooks import Hook, parse_command, typing_command
from .microphone import NO_MICROPHONE, MicrophoneSource, device_table, input_devices, load_sounddevice
from .render import JsonView, LinesView, LiveView, View
from .sources import AudioSource, StdinSource, WavSource
from .transcript import TranscriptFile

EXIT_OK, EXIT_SERVER, EXIT_USAGE = 0, 1, 2
EXIT_SIGNAL = 128  # plus the signal's number, as shells count
RESUME_SECONDS = 60.0  # how long we try to come back when the connection drops; servers wait as long
DRAIN_SECONDS = 5.0  # how long the server has, after Ctrl-C, for the last words
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
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: each event as a line of JSON")
    parser.add_argument(
        "--output", metavar="F", type=Path, help="also write finals there: F.txt, F.srt, F.vtt or F.jsonl"
    )
    parser.add_argument(
        "--exec",
        metavar="CMD",
        help="run CMD for each final: its words for {} in CMD, else on standard input; no shell",
    )
    parser.add_argument("--type", action="store_true", help="type finals into the focused window (xdotool or wtype)")
    shtab.add_argument_to(parser, "--print-completion", help="print the shell's completion of this command, and end")
    return parser


class Terminal:
    """Standard output and standard error, kept from writing over each other. Flushes at once, always."""

    def __init__(self, view: View, out: TextIO, err: TextIO) -> None:
        self.view = view
        self._out = out
        self._err = err

    def columns(self) -> int:
        """The width now. Not `shutil`'s, which believes an exported COLUMNS even after a resize."""
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def write(self, text: str) -> None:
        """To standard output; raises `BrokenPipeError` when nobody reads it any more."""
        if text:
            self._out.write(text)
            self._out.flush()

    def notice(self, text: str) -> None:
        """To standard error, above the live line."""
        self.write(self.view.hide())
        print(f"{PROGRAM}: {text}", file=self._err, flush=True)
        self.write(self.view.redraw(self.columns()))

    def redraw(self) -> None:
        """After a resize."""
        self.write(self.view.redraw(self.columns()))


def choose_view(output_format: str, *, is_terminal: bool, environment: dict[str, str]) -> View:
    """JSON when asked for; live on a terminal that can move its cursor; else lines. NO_COLOR: live, without dim."""
    if output_format == "json":
        return JsonView()
    if is_terminal and environment.get("TERM", "") not in ("", "dumb"):
        return LiveView(style=not environment.get("NO_COLOR"))
    return LinesView()


class Interrupts:
    """What signals do: the first ends the sound and gives the server `DRAIN_SECONDS`; the next ends us.

    Before there is a session nothing can be lost, and the first one ends us.
    """

    def __init__(self, task: asyncio.Task[int]) -> None:
        self._task = task
        self._finish: Callable[[], None] | None = None
        self.count = 0
        self.exit_code: int | None = None  # when we left because of a signal

    def session_is_open(self, finish: Callable[[], None]) -> None:
        """From now on the first signal calls `finish`."""
        self._finish = finish

    def receive(self, number: int) -> None:
        """On the event loop."""
        self.count += 1
        if self.count == 1 and self._finish is not None:
            self._finish()
        else:
            self.exit_code = EXIT_SIGNAL + number
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
        raise UsageError(f"no API key in {path}: {error}") from error


@contextlib.asynccontextmanager
async def _finals_handed_on(
    options: argparse.Namespace, notice: Callable[[str], None]
) -> AsyncIterator[Callable[[Final], None]]:
    """To the file and the programs that the options name: what to call with each final. Raises `UsageError`."""
    commands = [parse_command(options.exec)] if options.exec is not None else []
    commands += [typing_command(os.environ)] if options.type else []
    hooks = [Hook(command, notice) for command in commands]
    async with contextlib.AsyncExitStack() as stack:
        file = None if options.output is None else stack.enter_context(TranscriptFile(options.output))
        for hook in hooks:
            await stack.enter_async_context(hook.running())

        def hand_on(final: Final) -> None:
            if file is not None:
                file.accept(final)
            for hook in hooks:
                hook.accept(final.text)

        yield hand_on


async def stream(options: argparse.Namespace, terminal: Terminal, interrupts: Interrupts) -> None:
    """From the first block of sound to ``done``. Raises `ClientError`."""
    async with (
        _finals_handed_on(options, terminal.notice) as hand_on,
        _open_source(options, terminal.notice) as source,
        connect(
            options.server,
            sample_rate=source.sample_rate,
            channels=source.channels,
            key=_read_key(options.key_file, os.environ),
            resume_seconds=RESUME_SECONDS,
            notice=terminal.notice,
        ) as session,
    ):
        loop = asyncio.get_running_loop()
        terminal.write(terminal.view.show(session.ready, terminal.columns()))
        if sys.stderr.isatty() and options.file is None:
            terminal.notice(f"listening to {source.name!r} ({source.sample_rate} Hz); Ctrl-C ends")
        try:
            async with asyncio.timeout(None) as deadline:

                def finish() -> None:
                    source.stop()
                    deadline.reschedule(loop.time() + DRAIN_SECONDS)

                interrupts.session_is_open(finish)
                async with contextlib.aclosing(session.transcribe(source)) as events:
                    async for event in events:
                        terminal.write(terminal.view.show(event, terminal.columns()))
                        if isinstance(event, Final):
                            hand_on(event)
        except TimeoutError:
            raise ClientError(
                f"the server did not finish within {DRAIN_SECONDS:g} s; the last words may be missing"
            ) from None
        except ServerError as refused:
            terminal.write(terminal.view.show(Error(refused.code, refused.message), terminal.columns()))
            raise


async def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Streams under signals; returns the exit code."""
    task = asyncio.current_task()
    assert task is not None  # a coroutine runs in one
    interrupts = Interrupts(task)
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
            if interrupts.exit_code is None:
                raise
        terminal.write(terminal.view.close())
    if failure is not None:
        terminal.notice(str(failure))
        return EXIT_USAGE if isinstance(failure, UsageError) else EXIT_SERVER
    return interrupts.exit_code or EXIT_OK


def _list_devices() -> int:
    devices = input_devices(load_sounddevice())
    if not devices:
        raise UsageError(NO_MICROPHONE)
    print(device_table(devices), end="", flush=True)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    if options.fast and options.file is None:
        parser.error("--fast goes with --file: a microphone is as fast as speech")
    for stream_ in (sys.stdout, sys.stderr):
        stream_.reconfigure(errors="replace")  # type: ignore[union-attr]  # an ASCII terminal must not end a dictation
    view = choose_view(options.format, is_terminal=sys.stdout.isatty(), environment=dict(os.environ))
    terminal = Terminal(view, sys.stdout, sys.stderr)
    try:
        return _list_devices() if options.list_devices else asyncio.run(run(options, terminal))
    except UsageError as wrong:
        terminal.notice(str(wrong))
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read us has had enough, which is no fault. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:  # before the event loop had the signal
        return EXIT_SIGNAL + signal.SIGINT
