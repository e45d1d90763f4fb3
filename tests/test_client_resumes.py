"""Client and server with a network between them that breaks: the transcript is as if it had not."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from streaming_asr_client import ConnectionFailed, ConnectionLost, Done, Event, Final, UsageError, client, connect
from streaming_asr_client.unacknowledged import Unacknowledged

from benchmarks.cuts import Network, Way
from tests.fakes import word, words
from tests.test_server import run, serving

AUDIO = words(1, 2, 0, 3, 4, 5, 0, 0, 6)
SPOKEN = ["w1 w2", "w3 w4 w5", "w6"]
PACKET = 1001  # bytes: cuts samples in two


async def transcribe(network: Network, way: Way, cut_at: int | None, spool: Path | None = None) -> list[Event]:
    async def audio() -> AsyncIterator[bytes]:
        for number, at in enumerate(range(0, len(AUDIO), PACKET)):
            if number == cut_at:
                network.cut(way)
            yield AUDIO[at : at + PACKET]
            await asyncio.sleep(0)

    async with connect(network.url, resume_seconds=20, spool=None if spool is None else str(spool)) as session:
        return [event async for event in session.transcribe(audio())]


@pytest.mark.parametrize(("way", "spools"), [("close", False), ("reset", False), ("freeze", False), ("freeze", True)])
def test_a_connection_cut_at_any_chunk_changes_no_final(
    way: Way, spools: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path if spools else None
    if spools:
        monkeypatch.setattr(client, "MAX_KEPT_BYTES", 1500)
    monkeypatch.setattr(client, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.01)

    async def test() -> None:
        async with serving() as server:
            cuts = range(-(-len(AUDIO) // PACKET))
            for events in await asyncio.gather(*(one(server.url, at) for at in cuts)):
                finals = [event for event in events if isinstance(event, Final)]
                assert [final.text for final in finals] == SPOKEN
                assert [final.utterance for final in finals] == [0, 1, 2]
                assert events[-1] == Done(len(AUDIO) / 32000, 3)

    async def one(url: str, at: int) -> list[Event]:
        async with Network(url) as network:
            events = await transcribe(network, way, at, spool)
            assert network.num_connections >= 2
            return events

    run(test)


@pytest.mark.parametrize("is_cut", [False, True])
def test_audio_that_cannot_be_read_again_ends_the_session_with_the_reason(
    is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.01)
    next_frame, num_read = Unacknowledged.next, 0

    def next_or_nothing(kept: Unacknowledged) -> bytes | str | None:
        nonlocal num_read
        num_read += 1
        if num_read == 8:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return next_frame(kept)

    monkeypatch.setattr(Unacknowledged, "next", next_or_nothing)

    async def test() -> None:
        async with serving() as server, Network(server.url) as network:
            with pytest.raises(UsageError, match="cannot be read again: Input/output error"):
                await transcribe(network, "reset", 3 if is_cut else None)
            assert num_read == 8

    run(test)


def test_a_server_that_shuts_down_for_good_is_no_happy_end() -> None:
    going = asyncio.Event()
    events: list[Event] = []

    async def audio() -> AsyncIterator[bytes]:
        yield word(1)
        await asyncio.Event().wait()

    async def talk(url: str) -> None:
        async with connect(url, resume_seconds=20) as session:
            async for event in session.transcribe(audio()):
                events.append(event)
                going.set()

    async def test() -> None:
        async with serving(drain_seconds=0.0) as server:
            talking = asyncio.create_task(talk(server.url))
            await going.wait()
        with pytest.raises(ConnectionLost, match=r"the server ended the session early, after 0\.08 s of audio"):
            await talking
        assert [event.text for event in events if isinstance(event, Final)] == ["w1"]
        assert events[-1] == Done(0.08, 1)

    run(test)


@pytest.fixture
def was_quiet(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when two pings were answered."""
    monkeypatch.setattr(client, "QUIET_SECONDS", 0.5)
    ping, num_pings, was_quiet = client.ResumingClient._ping, 0, asyncio.Event()

    async def counted(session: client.ResumingClient) -> None:
        nonlocal num_pings
        await ping(session)
        num_pings += 1
        if num_pings == 2:
            was_quiet.set()

    monkeypatch.setattr(client.ResumingClient, "_ping", counted)
    return was_quiet


def test_a_lost_connection_is_forgiven_when_the_next_one_answers_pings(was_quiet: asyncio.Event) -> None:
    async def test() -> None:
        async with (
            serving() as server,
            Network(server.url) as network,
            connect(network.url, resume_seconds=20) as session,
        ):
            assert isinstance(session, client.ResumingClient)

            async def audio() -> AsyncIterator[bytes]:
                network.cut("reset")
                await was_quiet.wait()
                assert session._give_up_at is None  # or it would be too late for a second one one day
                yield word(1)

            events = [event async for event in session.transcribe(audio())]
            assert [event.text for event in events if isinstance(event, Final)] == ["w1"]
            assert network.num_connections >= 2

    run(test)


def test_a_quiet_connection_is_kept_while_pings_are_answered(was_quiet: asyncio.Event) -> None:
    async def audio() -> AsyncIterator[bytes]:
        yield word(1)
        await was_quiet.wait()
        yield word(2)

    async def test() -> None:
        async with serving() as server, Network(server.url) as network:
            async with connect(network.url, resume_seconds=20) as session:
                events = [event async for event in session.transcribe(audio())]
            assert [event.text for event in events if isinstance(event, Final)] == ["w1 w2"]
            assert network.num_connections == 1

    run(test)


def test_what_breaks_every_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_MESSAGE_BYTES", 1000)
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(client, "LAST_RETRY_SECONDS", 0.01)
    notices: list[str] = []

    async def test() -> None:
        async with (
            serving() as server,
            connect(server.url, resume_seconds=0.1, partials=False, notice=notices.append) as session,
        ):
            await session.send_audio(word(1) * 500 + word(0))
            with pytest.raises(ConnectionLost, match="a message was too long"):
                async for _ in session:
                    pass
        assert "goes on" in notices

    run(test)


def test_the_client_says_what_happens_and_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.01)
    notices: list[str] = []

    async def test() -> None:
        async with (
            serving() as server,
            Network(server.url) as network,
            connect(network.url, resume_seconds=0.1, notice=notices.append) as session,
        ):
            await session.send_audio(word(1))
            network.close()
            network.cut("reset")
            with pytest.raises(ConnectionFailed, match="no server at"):
                async for _ in session:
                    pass
        assert [notice.partition(";")[2] for notice in notices] == [" trying to go on where it was"]

    run(test)
