"""Owns the programs that finals are handed to: `--exec` and `--type`. One at a time, in order, beside the sound.

There is no shell: text from a server is an argument or standard input, and never a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from .clean import clean
from .dictation import Edit
from .errors import UsageError

PLACE = "{}"  # the argument, or the part of one, that the words take
MAX_WAITING = 100  # finals that wait for slow programs
END_SECONDS = 5.0  # for what waits when the session is over

Run = tuple[list[str], bytes]  # arguments, and what goes to standard input

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


def typing_edit(command: Sequence[str], edit: Edit) -> list[list[str]]:
    """What to run, with a command of `typing_command`, so that a window's text follows the edit."""
    runs = []
    if edit.erased and command[0] == "wtype":
        runs.append(["wtype", *["-k", "BackSpace"] * len(edit.erased)])
    elif edit.erased:
        runs.append(["xdotool", "key", "--clearmodifiers", "--repeat", str(len(edit.erased)), "BackSpace"])
    if edit.added:
        runs.append([*command[:-1], edit.added])
    return runs


def with_words(command: Sequence[str], text: str) -> Run:
    """The arguments, and what goes to standard input: the words take the place of ``{}``, or else are the input."""
    if any(PLACE in argument for argument in command[1:]):
        return [command[0], *(argument.replace(PLACE, text) for argument in command[1:])], b""
    return list(command), f"{text}\n".encode()


class Hook:
    """Hands what becomes of the text to a command, never making the caller wait.

    `types`: the command is one that types, and follows each edit; others get each final's words, and cannot be undone.
    `notice` is told, in words, what went wrong. `output`: the descriptor that gets what the command prints.
    """

    def __init__(
        self, command: Sequence[str], notice: Callable[[str], None], *, types: bool = False, output: int = 2
    ) -> None:
        self._command = command
        self._types = types
        self._output = output
        self._notice = notice
        self._waiting: asyncio.Queue[Run] = asyncio.Queue(MAX_WAITING)

    def accept(self, edit: Edit) -> None:
        """Queues what the command is to do; nothing when the final left no words."""
        for run in self._runs(edit):
            try:
                self._waiting.put_nowait(run)
            except asyncio.QueueFull:
                self._notice(f"{self._command[0]} is too slow: left out for one utterance")

    def _runs(self, edit: Edit) -> list[Run]:
        if self._types:
            return [(arguments, b"") for arguments in typing_edit(self._command, edit)]
        text = clean(edit.final.written)
        return [with_words(self._command, text)] if text else []

    async def _run_all(self) -> None:
        while True:
            arguments, words = await self._waiting.get()
            try:
                await self._run(arguments, words)
            finally:
                self._waiting.task_done()

    async def _run(self, arguments: list[str], words: bytes) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,  # the Ctrl-C that ends the recording is not meant for it
            )
        except OSError as failure:
            self._notice(f"cannot run {arguments[0]}: {failure.strerror}")
            return
        try:
            await process.communicate(words)
        except asyncio.CancelledError:
            _kill(process)
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


def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends a program, and what it has started in turn (where there are process groups)."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
