from pathlib import Path

import pytest
from websockets.datastructures import Headers

from streaming_asr.errors import ClientError
from streaming_asr.gate import Gate, Visitor, http_headers, http_status
from streaming_asr.keys import Key, KeyRing, add_key


def admit(gate: Gate, headers: Headers, query: str, address: str) -> Visitor:
    visitor = gate.identify(headers, query, address)
    gate.check(visitor)
    return visitor


def refusal(gate: Gate, headers: Headers | None = None, query: str = "", address: str = "192.0.2.1") -> ClientError:
    with pytest.raises(ClientError) as caught:
        admit(gate, headers or Headers(), query, address)
    return caught.value


def test_without_keys_only_addresses_count() -> None:
    gate = Gate(max_sessions_per_address=1)
    visitor = admit(gate, Headers(), "", "192.0.2.1")
    late = admit(gate, Headers(), "", "192.0.2.1")
    with gate.session(visitor):
        assert refusal(gate).code == "address_sessions"
        admit(gate, Headers(), "", "192.0.2.2")
        with pytest.raises(ClientError, match="1 sessions"):
            gate.check(late)
    with gate.session(late):
        gate.spend(late, 1e9)
    assert not gate._sessions


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    gate = Gate(max_sessions_per_address=1)
    with gate.session(admit(gate, Headers(), "", "2001:db8:0:1::1")):
        assert refusal(gate, address="2001:db8:0:1:ffff::2").code == "address_sessions"
        admit(gate, Headers(), "", "2001:db8:0:2::1")
        admit(gate, Headers(), "", "::1")
    with gate.session(admit(gate, Headers(), "", "::ffff:192.0.2.1")):
        assert refusal(gate, address="192.0.2.1").code == "address_sessions"
        admit(gate, Headers(), "", "::ffff:192.0.2.2")
    with gate.session(admit(gate, Headers(), "", "")):
        assert refusal(gate, address="").code == "address_sessions"
    assert not gate._sessions


def test_sessions_beyond_the_limits_of_key_or_network_are_told_apart() -> None:
    gate = Gate(max_sessions_per_address=3)
    anna, berta = (Key(name, 64 * name[0], "", most) for name, most in (("anna", 1), ("berta", None)))
    whose = [("192.0.2.1", anna), ("192.0.2.2", anna), *[("192.0.2.1", berta)] * 3, ("192.0.2.2", berta)]
    visitors = [Visitor(address, key) for address, key in whose]
    assert gate.too_many(visitors) == [False, True, False, False, True, False]
    assert not any(Gate().too_many([Visitor("192.0.2.1")] * 9))


def test_with_keys_nobody_comes_in_without_one(tmp_path: Path) -> None:
    text = add_key(tmp_path / "keys", "anna", max_sessions=1, audio_seconds_per_hour=10)
    gate = Gate(KeyRing(tmp_path / "keys", lambda: 0.0))
    assert refusal(gate).code == "unauthorized"
    wrong = refusal(gate, Headers(Authorization=f"Bearer {text[:-1]}"))
    assert (wrong.code, text[:-1] in wrong.message) == ("unauthorized", False)
    visitor = admit(gate, Headers(), f"token={text}", "192.0.2.1")
    assert text not in repr(visitor)
    with gate.session(visitor):
        assert refusal(gate, Headers(Authorization=f"Token {text}")).code == "key_sessions"
        gate.spend(visitor, 10)
        with pytest.raises(ClientError, match="budget"):
            gate.spend(visitor, 0.1)
    assert refusal(gate, Headers(Authorization=f"Token {text}")).code == "key_audio"
    assert gate.identify(Headers(Authorization=f"Token {text}"), "", "192.0.2.1") == visitor


@pytest.mark.parametrize(
    ("code", "status", "headers"),
    [
        ("unauthorized", 401, {"WWW-Authenticate": "Bearer"}),
        ("key_audio", 429, {"Retry-After": "5"}),
        ("server_full", 503, {"Retry-After": "5"}),
        ("bad_query", 400, {}),
    ],
)
def test_refusals_in_http(code: str, status: int, headers: dict[str, str]) -> None:
    error = ClientError(code, "")
    assert (http_status(error), http_headers(error)) == (status, headers)
