import json
from typing import Any

import pytest

from streaming_asr.errors import ClientError
from streaming_asr.session import parse_message

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
