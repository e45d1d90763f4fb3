"""What streams share: the step that moves many of them on, hotwords, and what is known of what steps cost."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streaming_asr import hotwords
from streaming_asr.admission import StepCost
from streaming_asr.messages import Event, Final, Partial, StreamOptions
from streaming_asr.recognizer import Recognizer
from streaming_asr.stream import Stream
from streaming_asr.tokens import PHONES
from tests.recognizing import SPEECH, check_committed, finals, noise, random_recognizer, run, silence


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return random_recognizer(tmp_path)


def test_batched_streams_get_what_each_gets_alone(recognizer: Recognizer) -> None:
    parts = [SPEECH, SPEECH[8000:], noise(2, 1), np.concatenate((silence(3), noise(1, 2)))]
    alone = [finals(run(recognizer, part, 960)) for part in parts]
    streams: list[Stream] = [recognizer.stream() for _ in parts]
    together: list[list[Event]] = [[] for _ in parts]
    for stream, part in zip(streams, parts, strict=True):
        stream.push(part)
        stream.flush("stop")
    while ready := [i for i, stream in enumerate(streams) if stream.ready]:
        for i, events in zip(ready, recognizer.step([streams[i] for i in ready]), strict=True):
            assert isinstance(events, list)
            together[i] += events
    assert [[f.text for f in finals(events)] for events in together] == [[f.text for f in fs] for fs in alone]


def test_the_search_is_timed_for_the_thread_that_steps(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.accept(silence(3))
    assert recognizer.search_seconds > 0
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: recognizer.search_seconds).result() == 0
    stream.finish()  # asleep
    assert recognizer.search_seconds == 0


def test_a_hotword_is_heard_where_it_was_not_and_only_in_its_session(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotwords, "COMMON_LOG_PROB", 0.0)  # the tiny model has no rare words
    monkeypatch.setattr(recognizer, "hotword_nats", 40.0)

    def heard(*phrases: str) -> list[str]:
        events = run(recognizer, SPEECH, 960, StreamOptions(hotwords=phrases))
        return [word for event in events if isinstance(event, Final) for word in event.text.split()]

    before = heard()
    unheard = [phone.lower() for phone in PHONES if phone.lower() not in before]
    assert any(word in heard(word.upper()) for word in unheard)
    assert heard() == before


def test_where_nothing_else_is_wanted_common_hotwords_are_preferred_too(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer, "hotword_nats", 40.0)
    monkeypatch.setattr(hotwords, "ALONE_LOG_PROB", 40.0)
    monkeypatch.setattr(hotwords, "ALONE_NATS_A_PHONE", 40.0)

    def heard(*phrases: str, only: bool) -> set[str]:
        events = run(recognizer, SPEECH, 960, StreamOptions(hotwords=phrases, only_hotwords=only))
        return {word for final in finals(events) for word in final.text.split()}

    unheard = [phone.lower() for phone in PHONES if phone.lower() not in heard(only=False)]
    assert all(not heard(word, only=False) & {word} for word in unheard)
    assert any(heard(word, only=True) == {word} for word in unheard)


class _AlwaysSays:
    def __init__(self, *phones: str) -> None:
        self.phones = phones
        self.num_asked = 0

    def pronounce(self, word: str, variants: int) -> list[tuple[str, ...]]:
        self.num_asked += 1
        return [self.phones]


def test_a_hotword_that_the_lexicon_lacks_is_heard_and_only_in_its_session(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heard(*hotwords: str) -> list[Event]:
        return run(recognizer, SPEECH, 960, StreamOptions(nbest=3, hotwords=hotwords))

    plain = heard()
    assert heard("Krzyz") == plain  # nobody knows how it sounds
    phones = [word.upper() for word in finals(plain)[0].text.split() if word.upper() in PHONES]
    g2p = _AlwaysSays(*phones[1:3])
    monkeypatch.setattr(recognizer, "g2p", g2p)
    monkeypatch.setattr(recognizer, "hotword_nats", 40.0)
    events = heard("Krzyz")
    check_committed(events)
    words = [word for final in finals(events) for word in final.words]
    assert "krzyz" in {word.word for word in words}
    assert [word.word for word in words] == " ".join(final.text for final in finals(events)).split()
    assert all(0 <= word.confidence <= 1 for word in words)
    assert any("krzyz" in alternative.text for final in finals(events) for alternative in final.alternatives)
    assert any("krzyz" in event.committed for event in events if isinstance(event, Partial))
    assert heard() == plain
    assert heard("krzyz") == events
    assert g2p.num_asked == 1  # a list that comes again costs nothing


def test_what_its_steps_cost_can_be_kept(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    cost = recognizer.step_cost(path)
    assert recognizer.step_cost(path) == cost  # two measurements never agree to the last digit
    assert "tiny" in path.read_text()
    assert "beam=200" in path.read_text()


def test_a_calibration_is_kept_for_one_network(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = random_recognizer(tmp_path, phases=2)
    measured: list[object] = []

    def measure(model: object, decoder: object) -> StepCost:
        measured.append(model)
        return StepCost(0.001, 0.001, 0.06)

    monkeypatch.setattr("streaming_asr.recognizer.measure_step", measure)
    for each in (recognizer, recognizer, twice, twice):
        each.step_cost(tmp_path / "calibration.json")
    assert measured == [recognizer.model, twice.model]


def test_what_breaks_one_stream_leaves_the_others_their_events(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = recognizer.stream(), recognizer.stream()
    for stream in (good, bad):
        stream.push(SPEECH)
        stream.flush("stop")
    monkeypatch.setattr(bad, "advance", lambda: 1 / 0)
    assert isinstance(recognizer.step([good, bad])[1], ZeroDivisionError)
    assert finals(good._run())[-1].reason == "stop"
    with pytest.raises(ZeroDivisionError):
        bad.finish()


def test_when_the_network_says_what_is_no_number_nobody_moves(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finals(run(recognizer, SPEECH, 960))
    good, bad = recognizer.stream(), recognizer.stream()
    for stream in (good, bad):
        stream.accept(SPEECH[:19200])  # amid speech
        stream.push(SPEECH[19200:])
        stream.flush("stop")
    model = recognizer.model

    def spoilt(frames: torch.Tensor, state: Any) -> Any:
        log_probs, state = model(frames, state)
        log_probs[1:] = math.nan
        return log_probs, state

    monkeypatch.setattr(recognizer, "model", spoilt)
    with pytest.raises(FloatingPointError):
        recognizer.step([good, bad])
    assert finals(good._run()) == expected
