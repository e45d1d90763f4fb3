"""A session that wants its hotwords alone: whole phrases are told, in order and for good, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from streaming_asr.decoder import Guess
from streaming_asr.decoder_state import DecoderState
from streaming_asr.hotwords import Phrases
from streaming_asr.messages import Checkpoint, Endpointing, Final, Partial, SpeechStarted, StreamOptions, Word
from streaming_asr.partials import PartialRule
from streaming_asr.recognizer import Recognizer
from tests.recognizing import SPEECH, check_committed, finals, noise, random_recognizer, run, texts


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return random_recognizer(tmp_path)


def alone(*phrases: str, max_utterance_ms: int | None = None, nbest: int = 1) -> StreamOptions:
    endpointing = Endpointing(max_utterance_ms=max_utterance_ms)
    return StreamOptions(nbest=nbest, endpointing=endpointing, hotwords=phrases, only_hotwords=True, checkpoints=True)


def told_of(final: Final, *phrases: str) -> list[Word]:
    return [final.words[place] for place in Phrases(phrases).places(final.text.split())]


def test_only_hotwords_are_told_where_nothing_else_is_wanted(recognizer: Recognizer) -> None:
    heard = run(recognizer, SPEECH, 960)  # whose words are all so likely that none is preferred
    said = finals(heard)[0].text.split()
    phrases = (" ".join(said[1:3]), " ".join(said[1:3] * 100), "never said")
    events = run(recognizer, SPEECH, 960, alone(*phrases))
    told = [told_of(final, *phrases) for final in finals(heard)]
    assert [final.words for final in finals(events) if final.text] == [words for words in told if words]
    assert texts(events)[0].startswith(phrases[0])  # not with the first word
    check_committed(events)
    whole = Phrases(phrases)
    for event in events:
        if isinstance(event, Partial):
            shown = f"{event.committed} {event.unstable}".split()
            assert whole.places(shown) == list(range(len(shown)))
    silent = run(recognizer, SPEECH, 960, alone("never said"))
    assert not any(isinstance(event, Partial) for event in silent)
    assert [(final.text, final.reason, final.utterance) for final in finals(silent)] == [("", "stop", 0)]
    assert sum(isinstance(event, Checkpoint) for event in silent) >= 3  # what was said and not told is done with


def test_alternatives_differ_in_what_is_told(recognizer: Recognizer) -> None:
    said = finals(run(recognizer, SPEECH, 960))[0].text.split()
    for final in finals(run(recognizer, SPEECH, 960, alone(*said[:3], nbest=4))):
        others = [alternative.text for alternative in final.alternatives]
        assert len({final.text, *others}) == 1 + len(others) <= 4
        assert all(others)


def test_what_is_no_hotword_any_more_is_taken_back(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer.partial_rule = PartialRule(0, 0, 1, 1)  # each guess is shown
    best_many, said = recognizer.decoder.best_many, finals(run(recognizer, SPEECH, 960))[0].text.split()
    other = next(word for word in recognizer.words if word not in said)
    at_first = iter(range(10))

    def mistaken_at_first(states: Sequence[DecoderState]) -> list[Guess]:
        guesses = best_many(states)
        if guesses[0].likely.ids and next(at_first, None) is not None:
            wrong = guesses[0].likely._replace(ids=[recognizer.word_id[other]] * len(guesses[0].likely.ids))
            guesses[0] = guesses[0]._replace(likely=wrong, words=wrong, stable_words=0, agreement=[])
        return guesses

    monkeypatch.setattr(recognizer.decoder, "best_many", mistaken_at_first)
    events = [event for event in run(recognizer, SPEECH, 960, alone(other)) if isinstance(event, Partial | Final)]
    first, *_, last, final = events
    assert isinstance(first, Partial)
    assert set(first.unstable.split()) == {other}
    assert isinstance(last, Partial)
    assert last.committed == last.unstable == ""
    assert isinstance(final, Final)
    assert (final.text, final.reason, final.utterance) == ("", "stop", 0)  # nothing is left to be told before


def test_speech_is_not_parted_amid_a_hotword(recognizer: Recognizer) -> None:
    samples = noise(20, 1)
    (whole,) = finals(run(recognizer, samples, 960))
    said = whole.text.split()
    triples = [said[first : first + 3] for first in range(0, len(said) - 3, 5)]
    phrases = [" ".join(triple) for triple in triples if len(set(triple)) == 3][::9]
    events = run(recognizer, samples, 960, alone(*phrases, max_utterance_ms=1000))
    told = [word.word for final in finals(events) for word in final.words]
    assert told == [word.word for word in told_of(whole, *phrases)]
    check_committed(events)
    few = run(recognizer, samples, 960, alone(phrases[0], max_utterance_ms=1000))
    assert sum(isinstance(event, Checkpoint) for event in few) > 8
    assert [(final.reason, bool(final.text)) for final in finals(few)] == [("endpoint", True), ("stop", False)]
    assert [final.utterance for final in finals(few)] == [0, 1]


def test_no_hotword_keeps_an_utterance_open_for_ever(recognizer: Recognizer) -> None:
    samples = noise(26, 1)
    (whole,) = finals(run(recognizer, samples, 960))
    said = whole.text.split()
    phrases = [" ".join(said[first : first + 40]) + " never" for first in range(len(said))]  # each may go on
    events = run(recognizer, samples, 960, alone(said[0], *phrases, max_utterance_ms=1000))
    first, second, *_ = [event.time for event in events if isinstance(event, SpeechStarted)]
    assert 9 < second - first < 12
