"""Sessions that outlive the server's process, on real sockets with a fake recognizer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from streaming_asr_client import Final, connect
from websockets.asyncio.client import ClientConnection

from streaming_asr.conversation import Conversation
from streaming_asr.errors import InputError
from streaming_asr.messages import Start
from streaming_asr.server import Server
from streaming_asr.session import Snapshot
from streaming_asr.state import StateFolder
from streaming_asr.worker_process import WorkerProcess, can_fork
from tests.fakes import BROKEN, FakeRecognizer, word
from tests.test_resume import AUDIO, PACKET, SPOKEN, START, finish, resume
from tests.test_server import Message, client, eventually, receive, receive_all, receive_until, run, serving


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def talk(server: Server, num_packets: int) -> tuple[Message, list[Message]]:
    """Opens a session and sends so much; ``ready``, and the finals of what was settled."""
    async with client(server) as connection:
        begun = await begin(connection, num_packets)
        connection.transport.abort()
    return begun


async def begin(connection: ClientConnection, num_packets: int) -> tuple[Message, list[Message]]:
    """The same, on a connection that stays."""
    await connection.send(START)
    ready = await receive(connection)
    finals: list[Message] = []
    for at in range(0, num_packets * PACKET, PACKET):
        await connection.send(AUDIO[at : at + PACKET])
    if num_packets * PACKET > 2 * 3 * 1280:
        finals = (await receive_until(connection, "final"))[-1:]
    return ready, finals


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_restart_anywhere_loses_and_repeats_nothing(is_killed: bool, tmp_path: Path) -> None:
    async def restart(number: int) -> None:
        folder = tmp_path / f"{number}"
        async with serving(state_dir=folder) as server:
            ready, finals = await talk(server, number)
            if is_killed:  # what a process leaves that is ended at this moment
                unfinished = shutil.ignore_patterns("*.part")  # may be gone before it is copied
                folder = Path(shutil.copytree(folder, tmp_path / f"{number}-left", ignore=unfinished))
        async with serving(state_dir=folder) as server:
            finals = await finish(server, ready, finals)
            assert [final["text"] for final in finals] == SPOKEN
            assert [final["utterance"] for final in finals] == [0, 1, 2]
            await eventually(lambda: not files(folder))  # it is over: nothing is kept

    async def test() -> None:
        for number in range(-(-len(AUDIO) // PACKET) + 1):
            await restart(number)

    run(test)


def test_a_session_that_is_wanted_back_as_the_server_ends_is_there_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[Conversation] = []

    async def test() -> None:
        async with contextlib.AsyncExitStack() as clients:
            async with serving(state_dir=tmp_path) as server:
                connection = await clients.enter_async_context(client(server))
                await connection.send(START)
                ready = await receive(connection)
                other = await clients.enter_async_context(client(server))
                await other.send(resume(ready, 0))
                await eventually(lambda: bool(claims))
                monkeypatch.undo()
            assert (await receive_all(other))[1] == 1001
        async with serving(state_dir=tmp_path) as server:
            assert [final["text"] for final in await finish(server, ready, [])] == SPOKEN

    monkeypatch.setattr(Conversation, "abort", lambda conversation: claims.append(conversation))
    run(test)


def test_the_client_goes_on_by_itself_with_a_server_that_comes_back(tmp_path: Path) -> None:
    async def test() -> None:
        going, came_back = asyncio.Event(), asyncio.Event()
        notices: list[str] = []

        async def audio() -> AsyncIterator[bytes]:
            yield AUDIO[: len(AUDIO) // 2]
            going.set()
            await came_back.wait()
            yield AUDIO[len(AUDIO) // 2 :]

        async def talk(url: str) -> list[str]:
            async with connect(url, resume_seconds=30, notice=notices.append) as session:
                return [event.text async for event in session.transcribe(audio()) if isinstance(event, Final)]

        async with serving(state_dir=tmp_path, drain_seconds=0.1) as server:
            port = int(server.url.rsplit(":", 1)[1])
            talking = asyncio.create_task(talk(server.url))
            await going.wait()
        async with serving(state_dir=tmp_path, port=port):
            came_back.set()
            assert await talking == SPOKEN
        assert notices[0] == "the server shuts down in 0.1 s"
        assert "the server is restarting" in notices[1]

    run(test)


# Elsewhere workers are threads, which nobody can kill.
needs_fork = pytest.mark.skipif(not can_fork(), reason="no processes are forked here")


class ForkedRecognizer(FakeRecognizer):
    can_fork = True


def kill_worker(server: Server) -> None:
    [worker] = server._engine._workers
    assert isinstance(worker, WorkerProcess)
    os.kill(worker._pid, signal.SIGKILL)


@needs_fork
@pytest.mark.parametrize("saves", [True, False])
@pytest.mark.parametrize("is_connected", [True, False])
def test_a_worker_that_is_killed_anywhere_in_a_session_loses_and_repeats_nothing(
    is_connected: bool, saves: bool, tmp_path: Path
) -> None:
    async def kill(server: Server, num_packets: int) -> None:
        async with client(server) as connection:
            ready, finals = await begin(connection, num_packets)
            if is_connected:
                kill_worker(server)
                received, code, _ = await receive_all(connection)
                assert code == 1012
                finals += [message for message in received if message["type"] == "final"]
            else:
                connection.transport.abort()
                await eventually(lambda: server.num_sessions == 0)
                kill_worker(server)
                await eventually(lambda: server.num_streams == 0)
        finals = await finish(server, ready, finals)
        assert [final["text"] for final in finals] == SPOKEN
        assert [final["utterance"] for final in finals] == [0, 1, 2]
        await eventually(lambda: not files(tmp_path))

    async def test() -> None:
        async with serving(ForkedRecognizer(), workers=1, state_dir=tmp_path if saves else None) as server:
            for number in range(0, -(-len(AUDIO) // PACKET) + 1, 3):
                await kill(server, number)

    run(test)


@needs_fork
def test_the_client_goes_on_by_itself_when_a_worker_is_killed() -> None:
    async def test() -> None:
        notices: list[str] = []
        was_heard = asyncio.Event()

        async with serving(ForkedRecognizer(), workers=1) as server:

            async def audio() -> AsyncIterator[bytes]:
                yield AUDIO[: len(AUDIO) // 2]
                await was_heard.wait()
                kill_worker(server)
                yield AUDIO[len(AUDIO) // 2 :]

            finals = []
            async with connect(server.url, resume_seconds=30, notice=notices.append) as session:
                async for event in session.transcribe(audio()):
                    was_heard.set()
                    finals += [event.text] if isinstance(event, Final) else []
            assert finals == SPOKEN
            assert "the recognizer restarts" in notices[0]
            assert notices[1:] == ["goes on"]

    run(test)


def test_a_session_that_breaks_the_recognizer_again_and_again_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(state_dir=tmp_path) as server:
            async with client(server) as connection:
                await connection.send(START)
                ready = await receive(connection)
                await connection.send(word(BROKEN))
                assert (await receive_all(connection))[1] == 1012
            async with client(server) as connection:
                await connection.send(resume(ready, 0))
                await connection.send(word(BROKEN))
                received, code, _ = await receive_all(connection)
                assert (received[-1]["code"], code) == ("internal", 1011)
            await eventually(lambda: not files(tmp_path))

    run(test)


def test_acks_say_what_is_settled_and_saved(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(state_dir=tmp_path) as server, client(server) as connection:
            await connection.send(START)
            ready = await receive(connection)
            record = tmp_path / f"{ready['session_id']}.json"
            assert json.loads(record.read_text())["frames"] == 0
            assert ready["token"] not in record.read_text()
            assert permissions(record) == 0o600
            await connection.send(AUDIO[: 2 * 3 * 1280])
            ack = (await receive_until(connection, "ack"))[-1]
            assert ack == {"type": "ack", "received_samples": 3 * 1280, "received_requests": 0}
            saved = json.loads(record.read_text())
            assert (saved["frames"], [final["text"] for final in saved["finals"]]) == (3 * 1280, SPOKEN[:1])
            assert (await receive(connection))["type"] == "final"
            await connection.send('{"type": "finalize"}')
            assert (await receive_until(connection, "ack"))[-1]["received_requests"] == 1
            await connection.close()

    run(test)


def test_nobody_takes_up_another_ones_session_or_one_that_waited_too_long(tmp_path: Path) -> None:
    async def refused(server: Server, ready: Message, **changed: str) -> bool:
        async with client(server) as connection:
            await connection.send(resume(ready, 0, **changed))
            received, code, _ = await receive_all(connection)
            return ([message["code"] for message in received], code) == (["unknown_session"], 1008)

    async def test() -> None:
        async with serving(state_dir=tmp_path) as server:
            ready, _ = await talk(server, 2)
        async with serving(state_dir=tmp_path) as server:
            assert await refused(server, ready, token="wrong")
        async with serving(state_dir=tmp_path, resume_seconds=0.01) as server:
            await eventually(lambda: not files(tmp_path))
            assert await refused(server, ready)

    run(test)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"session_id": "other"}', b"[" * 100_000])
def test_what_is_no_session_is_told_and_removed(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        (tmp_path / "0123.json").write_bytes(content)
        async with serving(state_dir=tmp_path):
            assert "0123.json is no session" in caplog.text
            assert not files(tmp_path)

    run(test)


def test_what_was_being_written_when_the_server_was_killed_is_removed(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "0123.part").write_bytes(b'{"session_id": "0123", "finals": [{"text": "my secret')
        async with serving(state_dir=tmp_path):
            assert not files(tmp_path)

    run(test)


@pytest.mark.parametrize("name", ["0123.json", "0123.part"])
def test_what_cannot_be_removed_is_refused_at_start(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"cannot keep sessions in .*{name}"):
        StateFolder(tmp_path).load()


def test_what_is_over_while_it_is_being_saved_leaves_no_file(tmp_path: Path) -> None:
    async def test() -> None:
        state = StateFolder(tmp_path)
        saving = asyncio.ensure_future(state.save(Snapshot("0123", "", Start())))  # as who sends the next message does
        state.remove("0123")
        await saving
        state.close()
        assert not files(tmp_path)

    run(test)


def test_a_session_that_is_not_served_any_more_is_refused_and_removed(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(state_dir=tmp_path) as server, client(server) as connection:
            await connection.send('{"type": "start", "resumable": true, "language": "en"}')
            ready = await receive(connection)
            connection.transport.abort()
        recognizer = FakeRecognizer()
        recognizer.language = "de"
        async with serving(recognizer, state_dir=tmp_path) as server:
            async with client(server) as connection:
                await connection.send(resume(ready, 0))
                received, code, _ = await receive_all(connection)
                assert ([message["code"] for message in received], code) == (["bad_language"], 1003)
            server._waiting._saved_until = 0.0
            await eventually(lambda: not files(tmp_path))

    run(test)


def test_a_disk_that_fails_is_told_once_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        folder = tmp_path / "state"
        async with serving(state_dir=folder) as server:
            folder.rmdir()
            with caplog.at_level(logging.ERROR):
                async with client(server) as connection:
                    await connection.send(START)
                    await receive(connection)
                    await connection.send(AUDIO)
                    await connection.send('{"type": "stop"}')
                    received, code, _ = await receive_all(connection)
            assert [message["text"] for message in received if message["type"] == "final"] == SPOKEN
            assert code == 1000
            assert caplog.text.count("sessions cannot be kept in") == 1

    run(test)


def test_what_a_failing_disk_does_not_keep_is_settled_when_the_server_goes(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "state"
        async with serving(state_dir=folder) as server:
            folder.rmdir()
            connection = await client(server)
            await connection.send(START)
            await receive(connection)
            await connection.send(AUDIO)
            await receive_until(connection, "final")
        received, code, _ = await receive_all(connection)
        assert [message["text"] for message in received if message["type"] == "final"] == SPOKEN[1:]
        assert (received[-1]["type"], code) == ("done", 1001)

    run(test)
