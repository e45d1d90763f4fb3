"""Drives an adapter without sockets."""

import json
from typing import Any

from hypothesis import strategies as st

from streaming_asr.limits import Limits
from streaming_asr.messages import Final, Partial, Reason, Word
from streaming_asr.protocols.adapter import Adapter, Handshake, Output, Write
from streaming_asr.session import Close, Flush, ModelInfo, Open, Session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


def new(adapter: type[Adapter], query: str = "", **limits: Any) -> Adapter:
    return adapter(Session("s1", ModelInfo("en-test", 80, 95, "en"), Limits(**limits), lambda: 100.0), Handshake(query))


def sent(outputs: list[Output]) -> list[Any]:
    """The text frames among these, parsed."""
    return [json.loads(output.data) for output in outputs if isinstance(output, Write)]


def opened(outputs: list[Output]) -> Open:
    [found] = [output for output in outputs if isinstance(output, Open)]
    return found


def close_code(outputs: list[Output]) -> int:
    [found] = [output for output in outputs if isinstance(output, Close)]
    assert outputs[-1] is found
    return found.code


def settled(adapter: Adapter, outputs: list[Output]) -> list[Output]:
    """What follows the last final, which these outputs ask for, as nobody said anything."""
    assert outputs[-1] == Flush("stop")
    return adapter.receive_events([final("", "stop")])


def partial(committed: str, unstable: str, utterance: int = 0) -> Partial:
    return Partial(utterance, committed, unstable, 0.5, 1.0)


def final(text: str, reason: Reason = "endpoint", utterance: int = 0) -> Final:
    """One word each half second."""
    words = [Word(word, i / 2, i / 2 + 0.4, 0.9) for i, word in enumerate(text.split())]
    return Final(utterance, text, 0.5, 1.5, 0.8, reason, words)
