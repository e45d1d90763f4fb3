import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.outbox import MAX_QUEUED_MESSAGES, Outbox
from streaming_asr.protocols.adapter import Write
from streaming_asr.session import Close


def partial(number: int) -> Write:
    return Write(str(number), is_partial=True, replaces_partial=True)


def final(number: int) -> Write:
    return Write(str(number), replaces_partial=True)


def speech_started(number: int) -> Write:
    return Write(str(number))


OUTGOING = st.lists(st.tuples(st.sampled_from([partial, final, speech_started]), st.booleans()), max_size=60)


@settings(deadline=None)
@given(OUTGOING)
def test_only_partials_are_dropped_and_only_for_newer_ones(puts: list[tuple[Callable[[int], Write], bool]]) -> None:
    async def test() -> None:
        outbox = Outbox()
        put: list[Write] = []
        got: list[Any] = []
        for number, (make, read) in enumerate(puts):
            put.append(make(number))
            outbox.put(put[-1])
            if read:
                got.append(await outbox.get())
            assert sum(message.is_partial for message in outbox._messages) <= 1
        outbox.finish(Close(1000))
        while not got or got[-1] != Close(1000):
            got.append(await outbox.get())
        got.pop()
        assert [m for m in got if not m.is_partial] == [m for m in put if not m.is_partial]
        assert got == [message for message in put if message in got]  # in order
        if puts and puts[-1][0] is partial:
            assert got[-1] == put[-1]  # the newest always arrives

    asyncio.run(test())


def test_a_full_outbox_holds_the_session_back() -> None:
    async def test() -> None:
        outbox = Outbox()
        for number in range(MAX_QUEUED_MESSAGES):
            assert not await outbox.wait_capacity()
            outbox.put(final(number))
        waiting = asyncio.create_task(outbox.wait_capacity())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await outbox.get() == final(0)
        assert await waiting
        for number in range(5):
            outbox.put(partial(number))
        assert len(outbox) == MAX_QUEUED_MESSAGES
        waiting = asyncio.create_task(outbox.wait_capacity())
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.finish(Close(1000))
        assert await waiting  # nobody waits for what nobody will add to

    asyncio.run(test())
