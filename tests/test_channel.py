"""The way between two processes, with both ends in this one."""

import asyncio
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.channel import HEADER, Channel

Message = tuple[int, int, bytes]

messages = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=40)), max_size=20)


class End:
    """What came out of one end."""

    def __init__(self, end: socket.socket) -> None:
        self.came: list[Message] = []
        self.news = asyncio.Event()
        self.has_ended = asyncio.Event()
        self.channel = Channel(end, self._receive, self.has_ended.set)

    def _receive(self, kind: int, stream: int, payload: bytes) -> None:
        self.came.append((kind, stream, payload))
        self.news.set()

    async def received(self, number: int) -> list[Message]:
        async with asyncio.timeout(20):
            while len(self.came) < number:
                self.news.clear()
                await self.news.wait()
        return self.came


@given(messages, st.lists(st.integers(1, 60), min_size=1, max_size=5))
@settings(deadline=None)
def test_messages_come_whole_and_in_order_however_their_bytes_come(sent: list[Message], pieces: list[int]) -> None:
    async def test() -> None:
        near, far = socket.socketpair()
        end = End(far)
        data = b"".join(HEADER.pack(len(payload), kind, stream) + payload for kind, stream, payload in sent)
        at, turn = 0, 0
        while at < len(data):
            near.sendall(data[at : at + pieces[turn % len(pieces)]])
            at += pieces[turn % len(pieces)]
            turn += 1
            await asyncio.sleep(0)
        assert await end.received(len(sent)) == sent
        near.close()
        await end.has_ended.wait()

    asyncio.run(test())


def test_more_than_the_socket_holds_waits_and_comes_in_order() -> None:
    async def test() -> None:
        near, far = socket.socketpair()
        sender = End(near)
        for number in range(50):
            sender.channel.send(1, number, bytes([number]) * 100_000)
        await asyncio.sleep(0)  # nobody reads yet: it is full
        sender.channel.send(2, 50)
        receiver = End(far)
        came = await receiver.received(51)
        assert came == [(1, number, bytes([number]) * 100_000) for number in range(50)] + [(2, 50, b"")]
        receiver.channel.send(3, 0, b"back")
        assert await sender.received(1) == [(3, 0, b"back")]
        sender.channel.close()
        await receiver.has_ended.wait()
        receiver.channel.send(1, 1)  # to nobody, and harmless

    asyncio.run(test())


def test_an_end_that_is_gone_is_told_once_whoever_notices_first() -> None:
    async def test() -> None:
        near, far = socket.socketpair()
        end = End(near)
        far.close()
        for _ in range(3):
            end.channel.send(1, 1, bytes(1_000_000))
            await asyncio.sleep(0)
        await end.has_ended.wait()
        end.channel.close()
        assert end.came == []

    asyncio.run(test())
