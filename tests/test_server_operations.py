"""A server seen by who runs it: health, readiness, metrics, logs, and a worker that fails under it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streaming_asr import engine as engine_module
from streaming_asr.keys import add_key
from streaming_asr.limits import Limits
from streaming_asr.server import Server
from streaming_asr.worker import StepReport
from tests.fakes import DEATH, SECRET, STALL, FakeRecognizer, word, words
from tests.test_server import START, STOP, client, eventually, receive_all, receive_until, run, serving, transcribe
from tests.test_worker import num_abandoned

DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana-dashboard.json"


async def get(server: Server, path: str, **headers: str) -> tuple[int, str]:
    host, port = server.url.removeprefix("ws://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def metrics(server: Server) -> dict[tuple[str, ...], float]:
    status, text = await get(server, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_nobody_more_is_let_in_while_those_who_are_in_are_served_late() -> None:
    async def test() -> None:
        async with serving() as server:
            assert (await metrics(server))["streaming_asr_max_sessions",] > 1
            async with client(server) as first:
                server._on_step(StepReport([0.0] * 50, 0.01, [0.2] * 50))
                with pytest.raises(InvalidStatus) as refused:
                    await client(server)
                assert refused.value.response.status_code == 503
                assert b"late" in refused.value.response.body
                assert await get(server, "/readyz") == (503, "the sessions that are open are served late already\n")
                assert (await get(server, "/healthz"))[0] == 200
                server._on_step(StepReport([0.0] * 9950, 0.01, [0.01] * 9950))
                async with client(server) as second:
                    for connection in (first, second):
                        await connection.send(START)
                        await connection.send(STOP)
                        await receive_all(connection)

    run(test)


def test_metrics_count_what_happened() -> None:
    async def test() -> None:
        async with serving(max_sessions=1) as server:
            async with client(server) as connection:
                await connection.send(START)
                await connection.send(words(1, 2))
                await receive_until(connection, "partial")
                during = await metrics(server)
                assert during["streaming_asr_sessions", "native"] == 1
                assert during["streaming_asr_streams",] == 1
                with pytest.raises(InvalidStatus):
                    await client(server)
                await connection.send(STOP)
                await receive_all(connection)
            await eventually(lambda: server.num_sessions == 0)
            async with client(server) as connection:
                await connection.send("{")
                await receive_all(connection)
            with pytest.raises(InvalidStatus):
                await client(server, origin="https://evil.example")
            await eventually(lambda: server.num_sessions == 0)
            after = await metrics(server)
            assert after["streaming_asr_sessions", "native"] == 0
            assert after["streaming_asr_sessions_ended_total", "native", "none"] == 1
            assert after["streaming_asr_sessions_ended_total", "bad_json", "native"] == 1
            assert after["streaming_asr_refusals_total", "server_full"] == 1
            assert after["streaming_asr_refusals_total", "bad_origin"] == 1
            assert after["streaming_asr_audio_seconds_total", "native"] == pytest.approx(0.16)
            assert after["streaming_asr_steps_total",] == 3  # two chunks and the flush
            assert after["streaming_asr_queue_seconds_count",] == 3
            assert after["streaming_asr_compute_seconds_total",] > 0
            assert after["streaming_asr_word_latency_seconds_count",] >= 1
            assert after["streaming_asr_ready",] == 1

    run(test)


def test_metrics_ask_for_a_key_where_sessions_do(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(keys=tmp_path / "keys.json") as server:
            assert (await get(server, "/metrics"))[0] == 401
            status, text = await get(server, "/metrics", Authorization=f"Bearer {key}")
            assert (status, 'refusals_total{reason="unauthorized"} 1.0' in text) == (200, True)
            assert (await get(server, "/healthz"))[0] == (await get(server, "/readyz"))[0] == 200

    key = add_key(tmp_path / "keys.json", "prometheus")
    run(test)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    async def test() -> set[str]:
        async with serving() as server:
            await transcribe(server, words(1, 2))
            text = (await get(server, "/metrics"))[1]
            return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | {name for name, *_ in await metrics(server)}

    dashboard = json.loads(DASHBOARD.read_text())
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    names = {name for expr in asked for name in re.findall(r"\b(?:streaming_asr|process)_\w+", expr)}
    assert len(names) > 10
    assert names <= asyncio.run(test())


# --- a worker that fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [STALL, DEATH])
def test_when_the_worker_fails_its_sessions_hear_of_it_and_others_go_on(fault: int) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer, max_batch=1, stall_seconds=0.25) as server:
            assert await transcribe(server, words(1, 2, 3)) == ["w1 w2 w3"]  # the worker is warm
            async with client(server) as good, client(server) as bad:
                for connection in (good, bad):
                    await connection.send(START)
                    await receive_until(connection, "ready")
                await good.send(words(1, 2))
                await receive_until(good, "partial")
                assert (await get(server, "/readyz")) == (200, "ok\n")
                await bad.send(word(fault))
                received, code, _ = await receive_all(bad)
                assert (received[-1]["code"], code) == ("internal", 1011)
                status, words_ = await get(server, "/readyz")
                assert (status, "restarted" in words_) == (503, True)
                assert (await get(server, "/healthz"))[0] == 200
                await good.send(word(3))
                await good.send(STOP)
                assert [m["text"] for m in (await receive_all(good))[0] if m["type"] == "final"] == ["w1 w2 w3"]
                server._unready_until = time.monotonic()  # as after a while
                assert (await get(server, "/readyz"))[0] == 200
                assert (await metrics(server))["streaming_asr_worker_restarts_total",] == 1
            recognizer.released.set()
            await eventually(lambda: num_abandoned(server._engine) == 0)

    run(test)


def test_a_server_whose_workers_all_stand_still_asks_to_be_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(engine_module, "MAX_ABANDONED", 1)
        recognizer = FakeRecognizer()
        async with serving(recognizer, stall_seconds=0.1) as server:
            assert await transcribe(server, words(1, 2, 3)) == ["w1 w2 w3"]
            async with client(server) as bad:
                await bad.send(START)
                await bad.send(word(STALL))
                assert (await receive_all(bad))[1] == 1011
            assert (await get(server, "/healthz"))[0] == (await get(server, "/readyz"))[0] == 503
            recognizer.released.set()
            await eventually(lambda: num_abandoned(server._engine) == 0)

    run(test)


def test_a_housekeeping_that_fails_is_told_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    def fail() -> bool:  # as where the system has no thread left
        nonlocal rounds
        rounds += 1
        raise RuntimeError(SECRET)

    async def test() -> None:
        async with serving(limits=Limits(idle_timeout_seconds=0.05)) as server:
            with monkeypatch.context() as patch:
                patch.setattr(server._engine, "supervise", fail)
                await eventually(lambda: rounds == 2)
                assert (await get(server, "/readyz"))[0] == 503
                async with client(server) as idle:
                    assert [message["code"] for message in (await receive_all(idle))[0]] == ["idle"]
            server._unready_until = time.monotonic()  # as after a while
            assert await transcribe(server, words(1, 2)) == ["w1 w2"]
            assert (await metrics(server))["streaming_asr_worker_restarts_total",] == 0

    run(test)
    assert caplog.text.count("Server._supervise failed with RuntimeError") == 1
    assert SECRET not in caplog.text


# --- nothing kept --------------------------------------------------------------------------------------------------

SERVE = """
import sys
from tests.fakes import FakeRecognizer
from streaming_asr.server import run_server
from streaming_asr.server_options import ServerOptions
sys.exit(run_server(FakeRecognizer, ServerOptions(port=0, drain_seconds=0), sys.argv[1], sys.argv[2]))
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_no_log_at_any_level_holds_a_word_of_a_session(level: str, form: str, tmp_path: Path) -> None:
    async def test(url: str) -> None:
        async with connect(url + "/v1/stream?token=my-secret-key", proxy=None) as connection:
            await connection.send(START)
            await connection.send(words(71, 72, 73, 0, 74))
            await connection.send(STOP)
            said = json.dumps((await receive_all(connection))[0])
            assert "w71 w72 w73" in said
        for mistake in ('{"type": "my-secret"}', "my-secret", '{"type": "start", "language": "my-secret"}', "\x00"):
            async with connect(url + "/v1/stream", proxy=None) as connection:
                await connection.send(mistake)
                await receive_all(connection)
        async with connect(url + "/v1/stream", proxy=None) as connection:
            await connection.send(START)
            await connection.send(word(99))  # breaks the recognizer, which quotes SECRET
            assert (await receive_all(connection))[1] == 1011
        listen = "/v1/listen?encoding=linear16&sample_rate=16000&keyterm=my-secret"
        async with connect(url + listen, proxy=None) as connection:
            await connection.send(b"")
            await receive_text(connection)

    async def receive_text(connection: Any) -> None:
        async for _ in connection:
            pass

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, level, form],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            run(lambda: test(url))
            process.send_signal(signal.SIGTERM)
            _, logged = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    assert not re.search(r"w7[1-4]|secret|somebody", logged), logged
    assert list(tmp_path.iterdir()) == []
    if level in ("debug", "info"):
        assert "closed with 1000 after 0.4 s of audio" in logged
    if level == "debug":
        assert "never its audio or text" in logged
    if level != "error":
        assert "failed with ValueError" in logged
    if form == "json":
        assert all(json.loads(line)["message"] for line in logged.splitlines())
