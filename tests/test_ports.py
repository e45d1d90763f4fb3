"""Each port has a URL that its clients can take as it stands; one that cannot be had is named."""

from __future__ import annotations

import socket

import pytest

from streaming_asr.errors import InputError
from streaming_asr.server import Server
from streaming_asr.server_options import ServerOptions
from tests.fakes import FakeRecognizer
from tests.test_server import run, serving


def test_each_port_says_where_it_is_and_what_is_spoken_there() -> None:
    async def test() -> None:
        async with serving(vosk_port=0, wyoming_port=0) as server:
            ports = server.ports
            assert ports.protocols == ["native", "vosk", "wyoming"]
            assert server.url == ports.url_of("native")
            schemes, numbers = zip(
                *(ports.url_of(name).split("://127.0.0.1:") for name in ports.protocols), strict=True
            )
            assert schemes == ("ws", "ws", "tcp")
            assert len(set(numbers)) == 3

    run(test)


def test_an_address_with_colons_stands_in_brackets() -> None:
    async def test() -> None:
        async with serving(host="::1") as server:
            assert server.url.startswith("ws://[::1]:")

    run(test)


@pytest.mark.parametrize("option", ["port", "vosk_port", "wyoming_port"])
def test_an_address_in_use_is_named_and_no_other_stays_open(option: str) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            server = Server(FakeRecognizer(), ServerOptions(**({"port": 0} | {option: number})))
            with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{number}"):
                await server.start()
            await server.ports.wait_closed()

    run(test)
