import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers

from streaming_asr.access import MAX_OFFERED_KEYS, credentials, is_loopback
from streaming_asr.errors import ClientError


@pytest.mark.parametrize(
    ("headers", "query", "keys"),
    [
        ([], "", []),
        ([("Authorization", "Bearer K")], "", ["K"]),
        ([("authorization", "bearer   K ")], "", ["K"]),
        ([("Authorization", "Token K")], "model=nova", ["K"]),
        ([("Authorization", "Basic SzpL")], "", []),
        ([("Authorization", "Bearer")], "", []),
        ([("Sec-WebSocket-Protocol", "token, K")], "", ["K"]),
        ([("Sec-WebSocket-Protocol", "bearer"), ("Sec-WebSocket-Protocol", "K")], "", ["K"]),
        ([("Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key.K, openai-beta")], "", ["K"]),
        ([("Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key.")], "", []),
        ([], "token=K", ["K"]),
        ([], "a=b&token=K%2B1&token=L", ["K+1", "L"]),
        ([], "token=", []),
        ([], "&".join(["token=K"] * 1001), []),
    ],
)
def test_keys_come_as_each_protocols_clients_give_them(
    headers: list[tuple[str, str]], query: str, keys: list[str]
) -> None:
    assert credentials(Headers(headers), query) == keys


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))  # websockets lets in no others


@given(st.lists(st.tuples(st.sampled_from(["Authorization", "Sec-WebSocket-Protocol"]), VALUES)), st.text())
def test_no_header_is_too_strange(headers: list[tuple[str, str]], query: str) -> None:
    with contextlib.suppress(ClientError):
        assert all(credentials(Headers(headers), query))


@pytest.mark.parametrize(
    ("header", "value", "query"),
    [
        ("Authorization", "Bearer K", "&".join(["token=K"] * MAX_OFFERED_KEYS)),
        ("Sec-WebSocket-Protocol", ",".join(["bearer"] * (MAX_OFFERED_KEYS + 2)), ""),
    ],
)
def test_who_offers_very_many_keys_offers_none(header: str, value: str, query: str) -> None:
    with pytest.raises(ClientError, match="8 keys, not 9") as caught:
        credentials(Headers([(header, value)]), query)
    assert caught.value.code == "unauthorized"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True), ("LOCALHOST", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org")],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
