"""Owns the programs that finals are handed to: `--exec` and `--type`. One at a time, in order, beside the sound.

There is no shell: text from a server is an argument or standard input, and never a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from .errors import UsageError
from .render import clean

PLACE = "{}"  # the argument, or the part of one, that the words take
MAX_WAITING = 100  # finals that wait for slow programs
END_SECONDS = 5.0  # for what waits when the session is over

NO_TYPING = (
    "--type needs a program that types into windows, and there is none: install `xdotool` (X11) or `wtype` (Wayland), "
    "for example `apt-get install xdotool`"
)


def parse_command(line: str) -> list[str]:
    """The command line in words, as a shell would split it. Raises `UsageError` when there is no such program."""
    try:
        command = shlex.split(line)
    except ValueError as failure:
        raise UsageError(f"--exec {line!r}: {failure}") from None
    if not command:
        raise UsageError("--exec: no command")
    if shutil.which(command[0]) is None:
        raise UsageError(f"--exec: there is no program {command[0]!r}")
    return command


def typing_command(environment: Mapping[str, str], find: Callable[[str], str | None] = shutil.which) -> list[str]:
    """The command that types into the focused window. Raises `UsageError` with what to install."""
    wayland, x11 = bool(environment.get("WAYLAND_DISPLAY")), bool(environment.get("DISPLAY"))
    if not wayland and not x11:
        raise UsageError("--type needs a desktop: neither WAYLAND_DISPLAY nor DISPLAY is set")
    if wayland and find("wtype"):
        return ["wtype", "--", f"{PLACE} "]
    if x11 and find("xdotool"):
        return ["xdotool", "type", "--clearmodifiers", "--", f"{PLACE} "]
    raise UsageError(NO_TYPING)


def with_words(command: Sequence[str], text: str) -> tuple[list[str], bytes]:
    """The arguments, and what goes to standard input: the words take the place of ``{}``, or else are the input."""
    if any(PLACE in argument for argument in command[1:]):
        return [command[0], *(argument.replace(PLACE, text) for argument in command[1:])], b""
    return list(command), f"{text}\n".encode()


class Hook:
    """Hands texts to a command, never making the caller wait. `notice` is told, in words, what went wrong."""

    def __init__(self, command: Sequence[str], notice: Callable[[str], None]) -> None:
        self._command = command
        self._notice = notice
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)

    def accept(self, text: str) -> None:
        """Queues the command for `text`; nothing when it is empty."""
        text = clean(text)
        if not text:
            return
        try:
            self._waiting.put_nowait(text)
        except asyncio.QueueFull:
            self._notice(f"{self._command[0]} is too slow: left out for one utterance")

    async def _run_all(self) -> None:
        while True:
            text = await self._waiting.get()
            try:
                await self._run(text)
            finally:
                self._waiting.task_done()

    async def _run(self, text: str) -> None:
        arguments, words = with_words(self._command, text)
        try:
            # What it prints goes to standard error, where it is in nobody's way.
            process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE, stdout=2)
        except OSError as failure:
            self._notice(f"cannot run {arguments[0]}: {failure.strerror}")
            return
        try:
            await process.communicate(words)
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            self._notice(f"{arguments[0]} ended with exit code {process.returncode}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs what is accepted; at the end waits `END_SECONDS` for what is left, then ends it."""
        task = asyncio.create_task(self._run_all())
        try:
            yield
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._waiting.join()
            except TimeoutError:
                self._notice(f"{self._command[0]} did not finish within {END_SECONDS:g} s")
        finally:
            task.cancel()
            await asyncio.wait([task])
