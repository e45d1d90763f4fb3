"""Owns push-to-talk: the space bar of a terminal, and a gate that lets sound through while it is on.

A terminal tells of keys that are pressed, not of keys that are released; but it repeats those that are held. So a tap
turns on until the next tap, and when repeats followed, their end is the release.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from enum import Enum, auto
from typing import Any

from .errors import UsageError
from .protocol import Request

REPEAT_DELAY_SECONDS = 0.75  # the first repeat of a held key comes within this (X11: 0.66; others: 0.25 to 0.5)
RELEASE_SECONDS = 0.25  # without a repeat, of which there are 10 to 30 a second: the key was released
KEEPALIVE_SECONDS = 20.0  # of sound that is not sent; servers give up after 60

HINT = "hold the space bar to talk, or press it to begin and to end"


class _State(Enum):
    OFF = auto()
    TAPPED = auto()
    HELD = auto()


class Switch:
    """What presses of the space bar mean. Pure: `now` is in seconds on any clock."""

    def __init__(self) -> None:
        self._state = _State.OFF
        self._pressed = 0.0

    @property
    def is_on(self) -> bool:
        """Whether one talks."""
        return self._state is not _State.OFF

    @property
    def release(self) -> float | None:
        """When the key counts as released unless `press` comes first; `None`: never."""
        return self._pressed + RELEASE_SECONDS if self._state is _State.HELD else None

    def press(self, now: float) -> None:
        """The space bar, pressed or repeated."""
        match self._state:
            case _State.OFF:
                self._state = _State.TAPPED
            case _State.TAPPED if now - self._pressed > REPEAT_DELAY_SECONDS:
                self._state = _State.OFF
            case _:
                self._state = _State.HELD
        self._pressed = now

    def wait(self, now: float) -> None:
        """Time went by."""
        if self.release is not None and now >= self.release:
            self._state = _State.OFF


async def gated(
    sound: AsyncIterable[bytes], is_on: Callable[[], bool], seconds: float
) -> AsyncIterator[bytes | Request]:
    """The blocks of sound, each of `seconds`, while it is on; when it goes off, a request to finalize.

    While it is off no sound leaves, only a sign of life now and then.
    """
    was_on, off_seconds = False, 0.0
    async for block in sound:
        if is_on():
            was_on, off_seconds = True, 0.0
            yield block
        elif was_on:
            was_on = False
            yield Request.FINALIZE
        elif (off_seconds := off_seconds + seconds) >= KEEPALIVE_SECONDS:
            off_seconds = 0.0
            yield Request.KEEPALIVE


class SpaceBar:
    """The space bar of the terminal `descriptor`. `changed` is called when it goes on or off."""

    def __init__(self, descriptor: int, changed: Callable[[], None]) -> None:
        if not os.isatty(descriptor):
            raise UsageError("--push-to-talk needs a keyboard, but standard input is no terminal")
        try:
            import termios
        except ImportError:
            raise UsageError("--push-to-talk needs a POSIX terminal, which this system has not") from None
        self._termios = termios
        self._descriptor = descriptor
        self._changed = changed
        self._switch = Switch()
        self._timer: asyncio.TimerHandle | None = None

    def is_on(self) -> bool:
        """Whether one talks now."""
        return self._switch.is_on

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Reads keys as they are pressed, unseen; at the end, whatever it is, the terminal is as it was before."""
        loop = asyncio.get_running_loop()
        before = self._termios.tcgetattr(self._descriptor)

        def suspend() -> None:
            """Ctrl-Z: the shell gets its terminal as it was."""
            self._restore(before)
            os.kill(os.getpid(), signal.SIGSTOP)
            self._take(before)
            self._changed()

        def leave(number: int) -> None:
            """What would end us without a `finally`."""
            self._restore(before)
            loop.remove_signal_handler(number)
            os.kill(os.getpid(), number)

        self._take(before)
        try:
            loop.add_reader(self._descriptor, self._read)
            loop.add_signal_handler(signal.SIGTSTP, suspend)
            for number in (signal.SIGHUP, signal.SIGQUIT):
                loop.add_signal_handler(number, leave, number)
            yield
        finally:
            for number in (signal.SIGTSTP, signal.SIGHUP, signal.SIGQUIT):
                loop.remove_signal_handler(number)
            loop.remove_reader(self._descriptor)
            self._restore(before)
            if self._timer is not None:
                self._timer.cancel()

    def _take(self, before: list[Any]) -> None:
        ours = list(before)
        ours[3] &= ~(self._termios.ECHO | self._termios.ICANON)
        self._termios.tcsetattr(self._descriptor, self._termios.TCSADRAIN, ours)

    def _restore(self, before: list[Any]) -> None:
        with contextlib.suppress(self._termios.error):  # the terminal is gone
            self._termios.tcsetattr(self._descriptor, self._termios.TCSAFLUSH, before)

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            keys = os.read(self._descriptor, 1024)
        except OSError:
            keys = b""
        if not keys:  # the terminal is gone
            loop.remove_reader(self._descriptor)
            return
        was_on = self._switch.is_on
        for _ in range(keys.count(b" ")):
            self._switch.press(loop.time())
        self._follow(was_on)

    def _wait(self) -> None:
        was_on = self._switch.is_on
        self._switch.wait(asyncio.get_running_loop().time())
        self._follow(was_on)

    def _follow(self, was_on: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._switch.release is not None:
            self._timer = asyncio.get_running_loop().call_at(self._switch.release, self._wait)
        if self._switch.is_on != was_on:
            self._changed()
