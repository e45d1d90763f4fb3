"""Sessions that outlive their connections, on real sockets with a fake recognizer."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus

from streaming_asr import conversation as conversation_module
from streaming_asr import outbox, waiting
from streaming_asr import server as server_module
from streaming_asr.conversation import Conversation
from streaming_asr.keys import add_key
from streaming_asr.limits import Limits
from streaming_asr.messages import Ready
from streaming_asr.server import Server
from streaming_asr.session import State
from tests.fakes import FakeRecognizer, words
from tests.test_server import Message, client, eventually, receive, receive_all, receive_until, run, serving

START = '{"type": "start", "resumable": true}'
AUDIO = words(1, 2, 0, 3, 4, 5, 0, 0, 6)
SPOKEN = ["w1 w2", "w3 w4 w5", "w6"]
PACKET = 1001  # bytes: cuts samples in two
SENTENCE, NUM_SENTENCES = words(1, 0, 0), 40


def resume(ready: Message, utterance: int, **changed: str) -> str:
    wanted = {"session_id": ready["session_id"], "token": ready["token"], "utterance": utterance} | changed
    return json.dumps({"type": "start", "resume": wanted})


async def finish(server: Server, ready: Message, finals: list[Message], **options: Any) -> list[Message]:
    """Resumes, sends what is left and returns all finals, with those from before."""
    async with client(server, **options) as connection:
        await connection.send(resume(ready, len(finals)))
        again = await receive(connection)
        assert (again["type"], again["session_id"]) == ("ready", ready["session_id"])
        if not again.get("received_requests"):
            await connection.send(AUDIO[2 * again.get("received_samples", 0) :])
            await connection.send('{"type": "stop"}')
        received, code, _ = await receive_all(connection)
        assert (received[-1]["type"], received[-1]["audio_seconds"], code) == ("done", len(AUDIO) / 32000, 1000)
        return finals + [message for message in received if message["type"] == "final"]


@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize("way", ["reset", "silence"])
def test_a_connection_cut_anywhere_loses_and_repeats_nothing(way: str, saves: bool, tmp_path: Path) -> None:
    async def cut(server: Server, num_packets: int) -> None:
        connection: ClientConnection
        async with client(server, close_timeout=0) as connection:
            await connection.send(START)
            ready = await receive(connection)
            for at in range(0, num_packets * PACKET, PACKET):
                await connection.send(AUDIO[at : at + PACKET])
            finals = []
            if num_packets * PACKET > 2 * 3 * 1280:  # the first utterance is over
                finals = (await receive_until(connection, "final"))[-1:]
            if way == "reset":
                connection.transport.abort()
            finals = await finish(server, ready, finals)  # or while the server takes the old connection for good
            assert [final["text"] for final in finals] == SPOKEN
            assert [final["utterance"] for final in finals] == [0, 1, 2]

    async def test() -> None:
        async with serving(state_dir=tmp_path if saves else None) as server:
            total = -(-len(AUDIO) // PACKET)
            for num_packets in range(total + 1):
                await cut(server, num_packets)

    run(test)


async def stop_and_vanish(server: Server, recognizer: FakeRecognizer) -> Message:
    """Says all and stops, but hears no final of it before the connection is gone; returns `ready`."""
    async with client(server) as connection:
        await connection.send(START)
        ready = await receive(connection)
        recognizer.gate.clear()
        await connection.send(AUDIO)
        await connection.send('{"type": "stop"}')
        await eventually(lambda: [each._session.state for each in server._conversations] == [State.STOPPING])
        connection.transport.abort()
    await eventually(lambda: server.num_sessions == 0)
    recognizer.gate.set()
    return ready


def test_a_session_that_was_stopped_says_the_rest_to_who_comes_back() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer) as server:
            ready = await stop_and_vanish(server, recognizer)
            assert [final["text"] for final in await finish(server, ready, [])] == SPOKEN

    run(test)


def test_acks_say_what_is_settled() -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            await connection.send(AUDIO[: 2 * 3 * 1280])
            acks = [(await receive_until(connection, "ack"))[-1]]
            assert (await receive(connection))["type"] == "final"
            await connection.send('{"type": "finalize"}')
            acks.append((await receive_until(connection, "ack"))[-1])
            assert acks == [
                {"type": "ack", "received_samples": 3 * 1280, "received_requests": 0},
                {"type": "ack", "received_samples": 3 * 1280, "received_requests": 1},
            ]
            await connection.close()

    run(test)


@pytest.mark.parametrize("changed", [{"token": "wrong"}, {"token": "é"}, {"session_id": "none"}])
def test_nobody_gets_another_ones_session(changed: dict[str, str]) -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            ready = await receive(connection)
            async with client(server) as other:
                await other.send(resume(ready, 0, **changed))
                received, code, reason = await receive_all(other)
                assert ([message["code"] for message in received], code) == (["unknown_session"], 1008)
                assert reason == "unknown_session"
            await connection.send(AUDIO + b"")  # the one whose it is goes on
            assert (await receive_until(connection, "final"))[-1]["text"] == "w1 w2"
            await connection.close()

    run(test)


def test_of_two_that_want_a_session_at_once_the_later_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    claims: list[Conversation] = []
    abort = Conversation.abort

    def abort_for_two(conversation: Conversation) -> None:
        claims.append(conversation)
        if len(claims) >= 2:
            abort(conversation)

    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            ready = await receive(connection)
            async with client(server) as first:
                await first.send(resume(ready, 0))
                await eventually(lambda: len(claims) == 1)
                assert [final["text"] for final in await finish(server, ready, [])] == SPOKEN
                assert (await receive_all(first))[1] == 1006

    monkeypatch.setattr(Conversation, "abort", abort_for_two)
    run(test)


def test_a_session_goes_to_no_connection_that_has_closed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    claims: list[Conversation] = []
    abort = Conversation.abort

    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            ready = await receive(connection)
            async with client(server) as impatient:  # which waits for the old connection's end, and closes with 1000
                await impatient.send(resume(ready, 0))
                await eventually(lambda: bool(claims))
            abort(claims[0])
            monkeypatch.undo()
            assert [final["text"] for final in await finish(server, ready, [])] == SPOKEN

    monkeypatch.setattr(Conversation, "abort", lambda conversation: claims.append(conversation))
    run(test)


FULL: list[tuple[dict[str, Any], int | None, str]] = [
    ({"max_sessions": 1}, None, "server_full"),
    ({"limits": Limits(max_sessions_per_address=1)}, None, "address_sessions"),
    ({}, 1, "key_sessions"),
]


@pytest.mark.parametrize(("options", "max_of_key", "code"), FULL)
def test_a_broken_connection_does_not_keep_its_client_out(
    options: dict[str, Any], max_of_key: int | None, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add_key(tmp_path / "keys", "anna", max_of_key)
    authorized: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {key}"}}

    async def test() -> None:
        async with serving(keys=tmp_path / "keys", **options) as server, client(server, **authorized) as connection:
            await connection.send(START)
            ready = await receive(connection)
            await connection.send(AUDIO[: len(AUDIO) // 2])
            final = (await receive_until(connection, "final"))[-1]
            for opening in ('{"type": "start"}', resume(ready, 0, token="wrong"), b"\0\0"):
                async with client(server, **authorized) as other:
                    await other.send(opening)
                    received, closed_with, reason = await receive_all(other)
                    assert [message["code"] for message in received] == [code]
                    assert (closed_with, reason) == (1013, code)
            assert [final["text"] for final in await finish(server, ready, [final], **authorized)] == SPOKEN
            await eventually(lambda: server.num_sessions == 0)
            assert not server._gate._sessions

    monkeypatch.setattr(conversation_module, "LOST_SECONDS", 0.0)
    run(test)


@pytest.mark.parametrize(("lost_seconds", "resumable"), [(math.inf, "true"), (0.0, "false")])
def test_nobody_is_let_in_for_a_session_that_is_alive_or_cannot_be_resumed(
    lost_seconds: float, resumable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with serving(max_sessions=1) as server, client(server) as connection:
            await connection.send(f'{{"type": "start", "resumable": {resumable}}}')
            await receive(connection)
            with pytest.raises(InvalidStatus, match="503"):
                await client(server)

    monkeypatch.setattr(conversation_module, "LOST_SECONDS", lost_seconds)
    run(test)


def test_of_those_beyond_the_limits_few_may_wait_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        limits = Limits(max_handshakes=1, handshake_timeout_seconds=3.0)
        async with serving(max_sessions=1, limits=limits) as server, client(server) as connection:
            await connection.send(START)
            await receive(connection)
            async with client(server) as first, client(server) as second:
                assert (await receive_all(first))[1] == 1006
                received, code, _ = await receive_all(second)
                assert ([message["code"] for message in received], code) == (["server_full"], 1013)
            assert server.num_sessions == 1
            assert not server._returning

    monkeypatch.setattr(conversation_module, "LOST_SECONDS", 0.0)
    run(test)


def test_a_session_waits_no_longer_than_said_and_not_for_who_left() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer, resume_seconds=0.01) as server:
            async with client(server) as connection:
                await connection.send(START)
                await receive(connection)
                connection.transport.abort()
            await eventually(lambda: server.num_streams == recognizer.open_streams == 0)
        async with serving(recognizer) as server:
            async with client(server) as connection:
                await connection.send(START)
                await receive(connection)
                await connection.close()
            await eventually(lambda: server.num_streams == recognizer.open_streams == 0)
        async with serving(recognizer, resume_seconds=0.0) as server, client(server) as connection:
            await connection.send(START)
            assert "token" not in await receive(connection)

    run(test)


def test_of_too_many_that_wait_the_first_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_SUSPENDED", 1)

    async def test() -> None:
        async with serving() as server:
            readies = []
            for _ in range(2):
                async with client(server) as connection:
                    await connection.send(START)
                    readies.append(await receive(connection))
                    connection.transport.abort()
                await eventually(lambda: server.num_sessions == 0)
            async with client(server) as connection:
                await connection.send(resume(readies[0], 0))
                assert (await receive(connection))["code"] == "unknown_session"
            assert [final["text"] for final in await finish(server, readies[1], [])] == SPOKEN

    run(test)


def test_a_server_that_is_full_keeps_the_places_of_those_that_wait() -> None:
    async def test() -> None:
        async with serving(max_sessions=2) as server:
            async with client(server) as connection:
                await connection.send(START)
                ready = await receive(connection)
                connection.transport.abort()
            await eventually(lambda: server.num_sessions == 0)
            async with client(server) as other:
                await other.send(START)
                await receive(other)
                async with client(server) as one_too_many:
                    await one_too_many.send(START)
                    received, code, _ = await receive_all(one_too_many)
                    assert (received[-1]["code"], code) == ("server_full", 1013)
                assert [final["text"] for final in await finish(server, ready, [])] == SPOKEN
                async with client(server) as newcomer:
                    await newcomer.send(START)
                    assert (await receive(newcomer))["type"] == "ready"

    run(test)


def test_a_session_that_waits_comes_back_only_within_its_keys_limit(tmp_path: Path) -> None:
    bearer = {"Authorization": f"Bearer {add_key(tmp_path / 'keys', 'anna', max_sessions=1)}"}

    async def test() -> None:
        async with serving(keys=tmp_path / "keys") as server:
            async with client(server, additional_headers=bearer) as connection:
                await connection.send(START)
                ready = await receive(connection)
                connection.transport.abort()
            await eventually(lambda: server.num_sessions == 0)
            async with (
                client(server, additional_headers=bearer),
                client(server, additional_headers=bearer) as again,
            ):
                await again.send(resume(ready, 0))
                received, code, _ = await receive_all(again)
                assert (received[-1]["code"], code) == ("key_sessions", 1013)

    run(test)


@pytest.mark.parametrize("of_key", [True, False])
def test_who_is_at_a_limit_with_sessions_that_wait_begins_another_in_place_of_the_oldest(
    of_key: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    bearer = {"Authorization": f"Bearer {add_key(keys, 'anna', max_sessions=2 if of_key else None)}"}
    limits = Limits() if of_key else Limits(max_sessions_per_address=2)
    rounds = 0
    supervise = Server._supervise

    def counted(server: Server) -> None:
        nonlocal rounds
        rounds += 1
        supervise(server)

    async def test() -> None:
        async with serving(keys=keys, limits=limits) as server:
            readies = []
            for _ in range(2):
                async with client(server, additional_headers=bearer) as connection:
                    await connection.send(START)
                    readies.append(await receive(connection))
                    connection.transport.abort()
                await eventually(lambda: server.num_sessions == 0)
            async with client(server, additional_headers=bearer) as newcomer:
                before = rounds
                await eventually(lambda: rounds >= before + 2)
                assert server.num_streams == 2  # it may be one of theirs
                await newcomer.send(START)
                await receive(newcomer)
                await eventually(lambda: server.num_streams == 2)
                got = await finish(server, readies[1], [], additional_headers=bearer)
                assert [final["text"] for final in got] == SPOKEN
                async with client(server, additional_headers=bearer) as late:
                    await late.send(resume(readies[0], 0))
                    assert (await receive(late))["code"] == "unknown_session"

    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.01)
    monkeypatch.setattr(Server, "_supervise", counted)
    run(test)


def test_who_lets_many_wait_makes_room_before_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(waiting, "MAX_SUSPENDED", 3)
    keys = tmp_path / "keys"
    first, other = ({"Authorization": f"Bearer {add_key(keys, name)}"} for name in ("first", "other"))

    async def test() -> None:
        async with serving(keys=keys) as server:
            readies = []
            for bearer in [first, *[other] * 5]:
                async with client(server, additional_headers=bearer) as connection:
                    await connection.send(START)
                    readies.append(await receive(connection))
                    connection.transport.abort()
                await eventually(lambda: server.num_sessions == 0)
            await eventually(lambda: server.num_streams == 3)
            for ready, bearer in [(readies[0], first), *[(ready, other) for ready in readies[4:]]]:
                got = await finish(server, ready, [], additional_headers=bearer)
                assert [final["text"] for final in got] == SPOKEN

    run(test)


def test_what_cannot_be_delivered_any_more_is_refused_not_left_out() -> None:
    async def test() -> None:
        async with serving() as server:
            async with client(server) as connection:
                await connection.send(START)
                ready = await receive(connection)
                connection.transport.abort()
            async with client(server) as connection:
                await connection.send(resume(ready, 7))
                received, code, _ = await receive_all(connection)
                assert (received[-1]["code"], code) == ("bad_resume", 1008)

    run(test)


def test_so_it_is_refused_when_the_session_has_ended_meanwhile() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer) as server:
            ready = await stop_and_vanish(server, recognizer)
            [waiting] = server._waiting._suspended.values()
            await eventually(lambda: waiting._session.state is State.CLOSED)
            async with client(server) as connection:
                await connection.send(resume(ready, 7))
                received, code, _ = await receive_all(connection)
                assert (received[-1]["code"], code) == ("bad_resume", 1008)
            await eventually(lambda: server.num_sessions == 0)

    run(test)


def test_the_journal_holds_each_final_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(journal=tmp_path) as server:
            async with client(server) as connection:
                await connection.send(START)
                ready = await receive(connection)
                await connection.send(AUDIO[: len(AUDIO) // 2])
                final = (await receive_until(connection, "final"))[-1]
                connection.transport.abort()
            await finish(server, ready, [final])

    run(test)
    lines = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == SPOKEN


def test_the_journal_holds_what_was_settled_after_the_client_had_gone(tmp_path: Path) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer, journal=tmp_path) as server:
            async with client(server) as connection:
                await connection.send(START)
                await receive(connection)
                recognizer.gate.clear()
                await connection.send(AUDIO)
                await eventually(
                    lambda: [each._session.audio_seconds for each in server._conversations] == [len(AUDIO) / 32000]
                )
                connection.transport.abort()
            await eventually(lambda: server.num_sessions == 0)
            recognizer.gate.set()
            [waiting] = server._waiting._suspended.values()
            await eventually(lambda: waiting._session.utterances == 2)

    run(test)
    lines = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == SPOKEN[:2]


@pytest.mark.parametrize("saves", [False, True])
def test_who_does_not_read_is_suspended_and_loses_nothing(
    saves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_room = asyncio.Event()  # where the socket's buffers end
    has_room.set()
    send = ServerConnection.send

    async def send_into_full_buffers(connection: ServerConnection, data: str) -> None:
        await has_room.wait()
        await send(connection, data)

    async def test() -> None:
        state_dir = tmp_path if saves else None
        async with serving(limits=Limits(idle_timeout_seconds=0.3), state_dir=state_dir) as server:
            async with client(server) as connection:
                await connection.send(START)
                ready = await receive(connection)
                has_room.clear()
                for _ in range(NUM_SENTENCES):
                    await connection.send(SENTENCE)
                await eventually(lambda: server.num_sessions == 0)
                connection.transport.abort()
            has_room.set()
            async with client(server) as connection:
                await connection.send(resume(ready, 0))
                received_samples = (await receive(connection)).get("received_samples", 0)
                await connection.send((NUM_SENTENCES * SENTENCE)[2 * received_samples :])
                await connection.send('{"type": "stop"}')
                received, code, _ = await receive_all(connection)
                finals = [message["text"] for message in received if message["type"] == "final" and message["text"]]
                assert (finals, code) == (["w1"] * NUM_SENTENCES, 1000)

    monkeypatch.setattr(outbox, "MAX_QUEUED_MESSAGES", 4)
    monkeypatch.setattr(ServerConnection, "send", send_into_full_buffers)
    run(test)


def test_without_asking_nothing_is_kept() -> None:
    async def test() -> None:
        async with serving() as server:
            async with client(server) as connection:
                await connection.send('{"type": "start"}')
                kept = {"token", "received_samples", "received_requests"}
                assert set(await receive(connection)) == {"type", *Ready.__struct_fields__} - kept
                connection.transport.abort()
            await eventually(lambda: server.num_streams == 0)
            await asyncio.sleep(0)

    run(test)
