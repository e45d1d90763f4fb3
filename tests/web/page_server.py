"""The server behind the page, with a fake recognizer, in a thread of its own: Playwright's loop has the test's."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from streaming_asr.audio import Samples
from streaming_asr.messages import Event, Partial, StreamOptions
from streaming_asr.server import Server
from streaming_asr.server_options import ServerOptions
from tests.fakes import FakeRecognizer, FakeStream


class _Stream(FakeStream):
    """A microphone may be as loud as it likes, and neither breaks nor holds up anything."""

    def next_level(self) -> int:
        return 0

    def holds_up(self, samples: Samples) -> bool:
        return False

    def advance(self) -> list[Event]:
        """A partial says where its last word ends: the page tells the delay by that."""
        events = super().advance()
        end = self.samples / 16000
        return [msgspec.structs.replace(e, end=end) if isinstance(e, Partial) else e for e in events]


class _Recognizer(FakeRecognizer):
    def stream(self, options: StreamOptions, /) -> FakeStream:
        self.open_streams += 1
        return _Stream(self, options)


class PageServer:
    """Runs from `start` to `stop`, on one port throughout."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.port = 0
        self.recognizer = _Recognizer()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = Server(self.recognizer, ServerOptions(port=self.port, **({"drain_seconds": 0.0} | self.options)))
        self._call(self._server.start)
        self.port = int(self._server.url.rpartition(":")[2])

    def stop(self) -> None:
        """Does nothing after another `stop`."""
        if not self._thread.is_alive():
            return
        self.cut()  # of what is cut nothing is settled
        self._call(self._server.drain)
        self._call(self._hang_up)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def cut(self) -> None:
        """Cuts every connection, as a network does."""

        async def abort() -> None:
            for conversation in list(self._server._conversations):
                conversation.abort()

        self._call(abort)

    @property
    def num_sessions(self) -> int:
        return self._server.num_sessions

    async def _hang_up(self) -> None:
        """Closes what a browser opened ahead of time and never used, as a process that ends does.

        Whose handshake was only cancelled would have a connection still, and wait for an answer.
        """
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for guest in list(self._server._lobby._guests):
                guest.transport.abort()
            await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)

    def _call(self, action: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(action(), self._loop).result(30)
