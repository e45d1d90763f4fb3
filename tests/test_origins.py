import pytest

from streaming_asr.errors import InputError
from streaming_asr.origins import Origins

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
APP = "https://app.example"

CASES: list[tuple[str, tuple[str, ...], str, str | None, bool]] = [
    # programs
    (LOOPBACK, (), "127.0.0.1:8765", None, True),
    (LOOPBACK, (), "[::1]:8765", None, True),
    (LOOPBACK, (), "localhost:8765", None, True),
    (LOOPBACK, (), "LOCALHOST.:8765", None, True),
    (LOOPBACK, (), "evil.example:8765", None, False),
    (LOOPBACK, (), "", None, False),
    (LOOPBACK, (), "[", None, False),
    ("::1", (), "evil.example", None, False),
    ("localhost", (), "evil.example", None, False),
    (LOOPBACK, (APP,), "app.example", None, True),
    (EVERYWHERE, (), "asr.example", None, True),
    # our own page
    (LOOPBACK, (), "localhost:8765", "http://localhost:8765", True),
    (LOOPBACK, (), "asr.localhost:8765", "http://asr.localhost:8765", True),
    (LOOPBACK, (), "[::1]:8765", "http://[::1]:8765", True),
    (EVERYWHERE, (), "192.0.2.7:8765", "http://192.0.2.7:8765", True),
    (EVERYWHERE, (), "nas:8765", "http://nas:8765", True),
    (EVERYWHERE, (), "asr.example", "https://asr.example", True),
    ("asr.example", (), "asr.example:8765", "http://asr.example:8765", True),
    # hijacking: a page from elsewhere
    (LOOPBACK, (), "localhost:8765", "https://evil.example", False),
    (LOOPBACK, (), "localhost:8765", "http://localhost:9999", False),
    (LOOPBACK, (), "localhost:8765", "null", False),
    (EVERYWHERE, (), "192.0.2.7:8765", "http://192.0.2.8:8765", False),
    (EVERYWHERE, (), "", "null", False),
    (EVERYWHERE, (), "[", "http://[", False),
    # rebinding: a page from elsewhere whose name leads here
    (LOOPBACK, (), "evil.example:8765", "http://evil.example:8765", False),
    (LOOPBACK, (), "127.0.0.1.evil.example", "http://127.0.0.1.evil.example", False),
    (EVERYWHERE, (), "evil.example:8765", "http://evil.example:8765", False),
    # let in
    (LOOPBACK, (APP,), "localhost:8765", APP, True),
    (LOOPBACK, ("https://APP.example/",), "localhost:8765", APP, True),
    (LOOPBACK, (APP,), "localhost:8765", "http://app.example", False),
    (LOOPBACK, (APP,), "localhost:8765", f"{APP}.evil.example", False),
    (EVERYWHERE, ("http://asr.example:8765",), "asr.example:8765", "http://asr.example:8765", True),
    (LOOPBACK, ("*",), "evil.example", "http://evil.example", True),
]


@pytest.mark.parametrize(("listen_host", "allowed", "host", "origin", "is_allowed"), CASES)
def test_who_may_connect(
    listen_host: str, allowed: tuple[str, ...], host: str, origin: str | None, is_allowed: bool
) -> None:
    refusal = Origins(listen_host, allowed).refusal([host], [origin] if origin else [])
    assert (refusal is None) == is_allowed


def test_every_header_counts() -> None:
    origins = Origins(LOOPBACK)
    assert origins.refusal([], []) is None
    assert origins.refusal(["localhost", "evil.example"], [])
    assert origins.refusal(["localhost"], ["http://localhost", "http://evil.example"])


def test_a_refusal_says_what_to_do() -> None:
    assert Origins(LOOPBACK).refusal(["localhost"], [APP]) == (
        f"web pages of '{APP}' may not connect; --allow-origin {APP} lets them"
    )


@pytest.mark.parametrize("wrong", ["app.example", "https://app.example/page", "ftp://app.example", "null", ""])
def test_what_is_no_origin_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(InputError, match="no web origin"):
        Origins(LOOPBACK, [wrong])
