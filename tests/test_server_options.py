"""What does not go together is refused before the model is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from streaming_asr.errors import InputError
from streaming_asr.server_options import ServerOptions


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "asr.example.org"])
def test_beyond_this_machine_somebody_must_have_said_who_may_come_in(host: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"keys add.*--insecure"):
        ServerOptions(host=host)
    assert ServerOptions(host=host, insecure=True).host == host
    assert ServerOptions(host=host, keys=tmp_path / "keys.json").host == host


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 65536}, "a port must be 0 to 65535, not 65536"),
        ({"wyoming_port": -1}, "a port must be 0 to 65535, not -1"),
        ({"drain_seconds": -1.0}, "drain_seconds must be 0 or more"),
        ({"resume_seconds": math.nan}, "resume_seconds must be 0 or more"),
    ],
)
def test_what_no_server_can_do_is_refused_before_the_model_is_read(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ServerOptions(**options)


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"host": "0.0.0.0", "keys": "k"}, {"keys": "k"}])
def test_wyomings_port_needs_leave_where_others_ask_for_keys(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--insecure"):
        ServerOptions(wyoming_port=0, **options)
    ServerOptions(wyoming_port=0, insecure=True, **options)
