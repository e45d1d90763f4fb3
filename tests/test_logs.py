import asyncio
import json
import logging
import socket
import sys
from collections.abc import Iterator

import pytest

from streaming_asr.logs import JsonFormatter, TextFormatter, configure, log_loop_error, session_logger

SECRET = "words that somebody said"
logger = logging.getLogger("streaming_asr.server")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield root
    root.level, root.handlers[:] = before


def record(session: str | None = None) -> logging.LogRecord:
    try:
        raise ValueError(SECRET)
    except ValueError:
        made = logging.LogRecord("streaming_asr.server", logging.INFO, "", 0, "closed with %d", (1000,), sys.exc_info())
    if session is not None:
        made.session = session
    return made


def test_json_lines_hold_the_session_and_not_the_exceptions_words() -> None:
    row = json.loads(JsonFormatter().format(record("s1")))
    assert row["message"] == "closed with 1000"
    assert (row["level"], row["logger"], row["session"]) == ("info", "streaming_asr.server", "s1")
    assert row["time"].endswith("+00:00")
    assert row["error"].endswith("ValueError")
    assert "test_logs.py" in row["error"]
    assert SECRET not in row["error"]
    assert "session" not in json.loads(JsonFormatter().format(record()))


def test_text_holds_the_same() -> None:
    text = TextFormatter().format(record("s1"))
    assert "INFO streaming_asr.server: session s1: closed with 1000\n" in text
    assert text.endswith("ValueError")
    assert SECRET not in text
    assert "streaming_asr.server: closed with 1000\n" in TextFormatter().format(record())


@pytest.mark.parametrize("form", ["text", "json"])
def test_debug_says_what_it_writes_and_other_levels_say_nothing(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure("info", "json" if form == "json" else "text")
    session_logger(logger, "s7").info("connected")
    assert "s7" in capsys.readouterr().err
    configure("warning", "json" if form == "json" else "text")
    session_logger(logger, "s7").info("connected")
    assert capsys.readouterr().err == ""
    configure("debug", "json" if form == "json" else "text")
    assert "never its audio or text" in capsys.readouterr().err


def test_writes_to_a_broken_connection_fill_no_log(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        for _ in range(100):
            writer.write(b"pong")
        logging.getLogger("asyncio").warning("something else")
        writer.transport.abort()
        answered.set()

    async def test() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write_eof()
            await answered.wait()
            writer.transport.abort()

    answered = asyncio.Event()
    configure("warning", "text")
    asyncio.run(test())
    told = capsys.readouterr().err
    assert "something else" in told
    assert "socket.send()" not in told


def test_the_event_loops_own_errors_are_not_quoted(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        asyncio.get_running_loop().set_exception_handler(log_loop_error)
        asyncio.get_running_loop().call_soon(lambda: [][int(SECRET)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    configure("warning", "text")
    asyncio.run(fail())
    logged = capsys.readouterr().err
    assert "ValueError" in logged
    assert SECRET not in logged
