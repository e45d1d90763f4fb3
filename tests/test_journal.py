import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from streaming_asr.errors import InputError
from streaming_asr.journal import Journal
from streaming_asr.messages import Final
from tests.fakes import words
from tests.test_server import START, STOP, client, eventually, receive_all, receive_until, run, serving


def final(utterance: int, text: str) -> Final:
    return Final(utterance, text, 0.5, 1.25, 0.875, "endpoint", [], [])


def entries(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("finals-*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def append(journal: Journal, *finals: Final) -> None:
    async def go() -> None:
        for each in finals:
            await journal.append("s1", "native", each)

    asyncio.run(go())


def test_finals_stay_in_order_and_their_owners(tmp_path: Path) -> None:
    append(Journal(tmp_path / "j"), final(0, "so it is"))
    append(Journal(tmp_path / "j"), final(1, "naïve"))  # a server that was started again
    first, second = entries(tmp_path / "j")
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "session": "s1",
        "protocol": "native",
        "utterance": 0,
        "start": 0.5,
        "end": 1.25,
        "text": "so it is",
        "confidence": 0.875,
        "reason": "endpoint",
    }
    assert second["text"] == "naïve"
    (file,) = (tmp_path / "j").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_said_once_and_spoils_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path)
    append(journal, final(0, "kept"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))  # half a line fits
    append(journal, final(1, "lost"), final(2, "lost"))
    monkeypatch.setattr(os, "write", write)
    append(journal, final(3, "kept"))
    assert [entry["text"] for entry in entries(tmp_path)] == ["kept", "kept"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert os.strerror(errno.ENOSPC) in caplog.text
    assert "lost" not in caplog.text


def test_a_folder_that_cannot_be_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write a journal"):
        Journal(tmp_path / "file" / "j")


def test_a_final_is_on_disk_when_its_client_hears_of_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(journal=tmp_path) as server, client(server) as connection:
            await connection.send(START)
            await connection.send(words(1, 2, 0, 0))
            heard = await receive_until(connection, "final")
            assert [entry["text"] for entry in entries(tmp_path)] == [heard[-1]["text"]] == ["w1 w2"]
            await connection.send(words(3))
            await connection.send(STOP)
            await receive_all(connection)
        assert [(e["utterance"], e["text"], e["reason"]) for e in entries(tmp_path)] == [
            (0, "w1 w2", "endpoint"),
            (1, "w3", "stop"),
        ]

    run(test)


@pytest.mark.parametrize(
    ("path", "opening"),
    [
        ("/v1/stream", START),
        ("/vosk", '{"config": {"sample_rate": 16000}}'),
        ("/v1/listen?encoding=linear16&sample_rate=16000", '{"type": "KeepAlive"}'),
    ],
)
def test_what_was_said_is_kept_also_if_its_client_stops_reading(
    path: str, opening: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_into_full_buffers(connection: ServerConnection, data: str) -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        async with serving(journal=tmp_path) as server, connect(server.url + path, proxy=None) as connection:
            await connection.send(opening)
            await connection.send(words(1, 2, 0, 0, 3, 0, 0))
            await eventually(lambda: [each._session.utterances for each in server._conversations] == [2])
            connection.transport.abort()

    monkeypatch.setattr(ServerConnection, "send", send_into_full_buffers)
    run(test)
    assert [(entry["utterance"], entry["text"]) for entry in entries(tmp_path)] == [(0, "w1 w2"), (1, "w3")]


def test_without_being_asked_to_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            await connection.send(words(1))
            await connection.send(STOP)
            await receive_all(connection)

    run(test)
    assert list(tmp_path.iterdir()) == []
