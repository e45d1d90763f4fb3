"""Who gets into a server on real sockets: keys in every protocol's manner, web pages, TLS, and rotation under way."""

import asyncio
import logging
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from streaming_asr import server as server_module
from streaming_asr.errors import InputError
from streaming_asr.keys import add_key, revoke_key
from streaming_asr.protocols.vosk import VoskAdapter
from streaming_asr.server_options import ServerOptions
from tests.fakes import FakeRecognizer, word, words
from tests.test_server import FINALIZE, START, STOP, client, receive, receive_all, receive_until, run, serving


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


async def refused(url: str, **options: object) -> tuple[int, bytes, Headers]:
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, proxy=None, compression=None, **options)  # type: ignore[arg-type]
    response = caught.value.response
    return response.status_code, bytes(response.body or b""), response.headers


def test_each_door_asks_for_a_key_and_takes_it_as_its_clients_give_it(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(keys=keys, vosk_port=0) as server:
            deepgram = server.url + "/v1/listen?encoding=linear16&sample_rate=16000"
            openai = server.url + "/v1/realtime?intent=transcription"
            vosk = server.ports.url_of(VoskAdapter.name)
            for url in (server.url + "/v1/stream", server.url + "/vosk", vosk, deepgram, openai):
                status, body, headers = await refused(url)
                assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
                is_json = headers["Content-Type"] == "application/json"
                assert is_json == body.startswith(b"{") == (url in (deepgram, openai))
                assert b"a key is needed" in body
                joint = "&" if "?" in url else "?"
                status, body, _ = await refused(f"{url}{joint}token=sasr_wrong")
                assert (status, b"wrong" in body) == (401, False)
                async with connect(f"{url}{joint}token={key}", proxy=None):
                    pass
            assert b'"err_code":"INVALID_AUTH"' in (await refused(deepgram))[1]
            assert b'"code":"invalid_api_key"' in (await refused(openai))[1]
            for scheme in ("Bearer", "Token"):
                async with connect(deepgram, proxy=None, additional_headers={"Authorization": f"{scheme} {key}"}):
                    pass
            for url, offered, chosen in [
                (server.url + "/v1/stream", ("token", key), "token"),
                (deepgram, ("bearer", key), "bearer"),
                (openai, ("realtime", f"openai-insecure-api-key.{key}"), "realtime"),
            ]:
                subprotocols = [Subprotocol(word) for word in offered]
                async with connect(url, proxy=None, subprotocols=subprotocols) as connection:
                    assert connection.subprotocol == chosen

    key = add_key(keys, "anna")
    with (
        caplog.at_level(logging.WARNING, "websockets.client"),
        caplog.at_level(logging.WARNING, "asyncio"),
        caplog.at_level(logging.DEBUG),
    ):
        run(test)
    assert "closed with 1000" in caplog.text
    assert key not in caplog.text


def test_a_key_has_its_limits(keys: Path) -> None:
    async def test() -> None:
        async with serving(keys=keys) as server:
            headers = {"Authorization": f"Bearer {key}"}
            async with client(server, additional_headers=headers) as connection:
                await connection.send(START)
                await receive(connection)
                status, body, _ = await refused(server.url + "/v1/stream", additional_headers=headers)
                assert (status, b"1 sessions at once" in body) == (429, True)
                await connection.send(words(1, 2, 3))
                received, code, reason = await receive_all(connection)
                assert [message["type"] for message in received[-2:]] == ["final", "error"]
                assert (received[-2]["text"], received[-1]["code"]) == ("w1 w2 w3", "key_audio")
                assert (code, reason) == (1013, "key_audio")
            assert (await refused(server.url + "/v1/stream", additional_headers=headers))[0] == 429

    key = add_key(keys, "anna", max_sessions=1, audio_seconds_per_hour=0.2)
    run(test)


def test_a_revoked_key_ends_its_sessions_and_no_other(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.01)

        def session(key: str) -> connect:
            return client(server, additional_headers={"Authorization": f"Bearer {key}"})

        async with serving(keys=keys) as server:
            async with session(anna) as revoked, session(berta) as other:
                await revoked.send(START)
                await revoked.send(words(1, 2))
                await receive_until(revoked, "partial")
                revoke_key(keys, "anna")
                received, code, _ = await receive_all(revoked)
                assert [message["type"] for message in received[-2:]] == ["final", "error"]
                assert (received[-1]["code"], code) == ("key_revoked", 1008)
                await other.send(START)
                await other.send(words(3))
                await other.send(STOP)
                assert (await receive_all(other))[1] == 1000
            carla = add_key(keys, "carla")
            while not await opens(f"{server.url}/v1/stream?token={carla}"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def opens(url: str) -> bool:
        try:
            async with connect(url, proxy=None):
                return True
        except InvalidStatus:
            return False

    anna, berta = add_key(keys, "anna"), add_key(keys, "berta")
    run(test)


# --- TLS -----------------------------------------------------------------------------------------------------------


def write_certificate(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_from_handshake_to_done(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tls_cert=certificate, tls_key=key) as server:
            assert server.url.startswith("wss://")
            async with client(server, ssl=trusting(authority)) as connection:
                await connection.send(START)
                await connection.send(words(1, 2))
                await connection.send(STOP)
                assert (await receive_all(connection))[1] == 1000
            with pytest.raises(ssl.SSLCertVerificationError):
                await client(server, ssl=trusting(trustme.CA()))

    authority = trustme.CA()
    certificate, key = write_certificate(authority, tmp_path)
    run(test)


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate, key = write_certificate(trustme.CA(), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, wrong_key = write_certificate(trustme.CA(), other)
    for options, message in [
        ({"tls_cert": tmp_path / "missing.pem"}, r"cannot read .*missing\.pem"),
        ({"tls_cert": certificate, "tls_key": wrong_key}, r"server\.pem and .*server\.key: no certificate"),
        ({"tls_cert": key}, r"server\.key: no certificate"),
        ({"tls_key": key}, "needs its certificate"),
    ]:
        with pytest.raises(InputError, match=message):
            server_module.Server(FakeRecognizer(), ServerOptions(**options))  # type: ignore[arg-type]


SERVE = """
import sys
from pathlib import Path
from tests.fakes import FakeRecognizer
from streaming_asr.server import run_server
from streaming_asr.server_options import ServerOptions
folder = Path(sys.argv[1])
options = ServerOptions(
    port=0,
    drain_seconds=0,
    keys=folder / "keys.json",
    tls_cert=folder / "server.pem",
    tls_key=folder / "server.key",
)
sys.exit(run_server(FakeRecognizer, options))
"""


def test_sighup_brings_the_new_certificate_and_open_sessions_go_on(tmp_path: Path, keys: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    key = add_key(keys, "anna")
    write_certificate(first, tmp_path)

    async def test(process: subprocess.Popen[str], url: str) -> None:
        def session(authority: trustme.CA) -> connect:
            headers = {"Authorization": f"Bearer {key}"}
            return connect(url, ssl=trusting(authority), additional_headers=headers, proxy=None)

        async with session(first) as connection:
            await connection.send(START)
            await receive(connection)
            (tmp_path / "server.key").write_text("not a key")
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            assert "not reloaded" in await asyncio.to_thread(process.stderr.readline)
            async with session(first):
                pass
            write_certificate(second, tmp_path)
            process.send_signal(signal.SIGHUP)
            while not await is_served(session(second)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await connection.send(word(1))
            await connection.send(FINALIZE)
            assert (await receive_until(connection, "final"))[-1]["text"] == "w1"
            await connection.send(STOP)
            assert (await receive_all(connection))[1] == 1000

    async def is_served(session: connect) -> bool:
        try:
            async with session:
                return True
        except ssl.SSLCertVerificationError:
            return False

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[-1] + "/v1/stream"
            run(lambda: test(process, url))
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
