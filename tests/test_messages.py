import json
import tracemalloc
from typing import Any

import pytest

from streaming_asr.errors import ClientError
from streaming_asr.messages import parse_message

LONG = 10**400
RESUME = {"session_id": "s", "token": "t", "utterance": LONG}


@pytest.mark.parametrize(
    "fields",
    [
        {"sample_rate": LONG},
        {"channels": -LONG},
        {"nbest": LONG},
        {"endpointing": {"trailing_silence_ms": LONG}},
        {"endpointing": {"max_utterance_ms": LONG}},
        {"resume": RESUME},
    ],
)
def test_a_number_too_long_to_be_repeated_is_refused_at_once(fields: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as caught:
        parse_message(json.dumps({"type": "start"} | fields))
    assert caught.value.code == "bad_message"
    assert len(caught.value.message) <= 100


def test_what_stands_beside_an_unknown_type_is_not_kept() -> None:
    text = '{"type":"x","y":[' + "[]," * 300_000 + "[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(ClientError, match="unknown type 'x'"):
            parse_message(text)
        assert tracemalloc.get_traced_memory()[1] < 100_000  # bytes at most; a list for each would be 16 MB
    finally:
        tracemalloc.stop()
