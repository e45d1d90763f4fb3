"""Text on its way to a reader that may stand still."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from streaming_asr_client import printer
from streaming_asr_client.printer import Printer


class Reader:
    """Notes what is written, once `goes_on`; `began` when the first piece has come."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.began = threading.Event()
        self.goes_on = threading.Event()

    def write(self, piece: str) -> None:
        self.began.set()
        assert self.goes_on.wait(30)
        self.read.append(piece)


@pytest.mark.parametrize("stands_still", [False, True])
def test_what_passes_gives_way_while_the_reader_stands_still(
    stands_still: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printer, "STANDS_STILL_BYTES", 2 if stands_still else 100)
    pieces = ["p1", "p2", "p3", "FINAL", "p4", "p5", "FINAL", "FINAL", "p6", "p7"]
    reader = Reader()

    async def test() -> None:
        out = Printer()
        out.put(partial(reader.write, "ready"))
        assert reader.began.wait(30)  # and stands still
        for piece in pieces:
            out.put(partial(reader.write, piece), 2, is_passing=piece.startswith("p"))
        reader.goes_on.set()
        await out.flush()

    asyncio.run(test())
    kept = ["p1", "p3", "FINAL", "p5", "FINAL", "FINAL", "p7"] if stands_still else pieces
    assert reader.read == ["ready", *kept]


def test_who_writes_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printer, "MAX_WAITING_BYTES", 3)
    reader, out = Reader(), Printer()
    out.put(partial(reader.write, "ready"))
    assert reader.began.wait(30)
    done = threading.Event()

    def put() -> None:
        for piece in ("a", "b", "c", "d", "long"):
            out.put(partial(reader.write, piece), len(piece))
        out.put(done.set)

    threading.Thread(target=put).start()
    assert not done.wait(0.1)
    reader.goes_on.set()
    assert done.wait(30)
    assert reader.read == ["ready", "a", "b", "c", "d", "long"]


def test_waiting_for_a_reader_can_be_given_up() -> None:
    reader, out = Reader(), Printer()
    out.put(partial(reader.write, "ready"))

    async def test() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await out.flush()

    asyncio.run(test())
    reader.goes_on.set()
    done = threading.Event()
    out.put(done.set)  # the thread has outlived the loop that had been waiting
    assert done.wait(30)
