import pytest

from streaming_asr.endpointing import Silence, endpoint, rules, session_rules
from streaming_asr.errors import InputError
from streaming_asr.messages import Endpointing


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (Silence(has_begun=True, since_token=0.6, utterance=2.0), True),
        (Silence(has_begun=True, since_token=0.54, utterance=2.0), False),
        (Silence(has_begun=False, since_token=9.0, utterance=0.0), False),
        (Silence(has_begun=True, since_token=0.24, utterance=20.0), True),  # a long utterance
        (Silence(has_begun=True, since_token=0.24, utterance=19.9), False),
        (Silence(has_begun=True, since_token=0.0, utterance=30.0), True),  # too long
    ],
)
def test_default_rules(silence: Silence, expected: bool) -> None:
    assert (endpoint(rules(), silence) is not None) is expected


def test_a_session_may_move_the_bounds() -> None:
    silence = Silence(has_begun=True, since_token=0.3, utterance=2.0)
    assert endpoint(session_rules(Endpointing(trailing_silence_ms=300)), silence)
    assert not endpoint(session_rules(Endpointing()), silence)


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (Silence(has_begun=True, since_token=100.0, utterance=110.0), False),
        (Silence(has_begun=True, since_token=0.24, utterance=120.0), True),
        (Silence(has_begun=True, since_token=0.0, utterance=180.0), True),
    ],
)
def test_without_endpointing_only_length_ends_an_utterance(silence: Silence, expected: bool) -> None:
    assert (endpoint(session_rules(Endpointing(enabled=False)), silence) is not None) is expected


@pytest.mark.parametrize(("since_token", "expected"), [(0.6, False), (0.24, False), (0.2, True)])
def test_only_where_no_pause_comes_an_utterance_ends_amid_speech(since_token: float, expected: bool) -> None:
    rule = endpoint(rules(), Silence(has_begun=True, since_token=since_token, utterance=30.0))
    assert rule is not None
    assert rule.is_amid_speech is expected


@pytest.mark.parametrize(
    "overrides",
    [Endpointing(trailing_silence_ms=99), Endpointing(max_utterance_ms=0), Endpointing(max_utterance_ms=10**6)],
)
def test_bad_bounds_are_refused(overrides: Endpointing) -> None:
    with pytest.raises(InputError, match="must be"):
        session_rules(overrides)
