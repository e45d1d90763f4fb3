"""A stream's way from samples to events: what must hold whatever the network says."""

from __future__ import annotations

import itertools
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming_asr.decoder import Decoder, Guess, Words
from streaming_asr.decoder_state import DecoderState
from streaming_asr.errors import InputError
from streaming_asr.features import Samples
from streaming_asr.formatting.writer import Formatter
from streaming_asr.front_end import PREROLL_FRAMES
from streaming_asr.lexicon import Lexicon
from streaming_asr.messages import Checkpoint, Endpointing, Event, Final, Partial, SpeechStarted, StreamOptions
from streaming_asr.model import ModelState
from streaming_asr.network import StepFunction
from streaming_asr.neural_lm import NeuralLM, Spelling
from streaming_asr.ngram import vocabulary_fingerprint
from streaming_asr.partials import PartialRule
from streaming_asr.recognizer import Recognizer
from streaming_asr.stream import FLUSH_FRAMES, LONE_WORD_FRAMES, NOTHING_SAID, ONSET_REACH_FRAMES
from streaming_asr.tokens import BLANK, NUM_TOKENS
from tests.neural import random_network
from tests.recognizing import (
    LEXICON,
    SPEECH,
    check_committed,
    finals,
    noise,
    random_recognizer,
    run,
    silence,
    steady,
    texts,
)


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return random_recognizer(tmp_path)


def random_neural_lm(words: list[str]) -> NeuralLM:
    spelling = Spelling(np.ones(len(words), np.uint8), np.arange(2, len(words) + 2, dtype=np.uint16))
    return NeuralLM(random_network(num_pieces=len(words) + 2), spelling, vocabulary_fingerprint(words))


def rescored(plain: Recognizer, neural_lm: NeuralLM) -> Recognizer:
    old = plain.decoder
    decoder = Decoder(old.tree, old.ngram, old.options, neural_lm)
    return Recognizer("tiny", plain.model, Lexicon.from_text(LEXICON), decoder)


class _Late:
    """A network that names each sound so many outputs later than another."""

    def __init__(self, model: StepFunction, num_outputs: int) -> None:
        self.model, self.config = model, model.config
        self.num_outputs = num_outputs

    def initial_state(self, batch_size: int) -> ModelState:
        held = torch.full((batch_size, self.num_outputs, NUM_TOKENS), -20.0)
        held[..., BLANK] = 0.0
        return self.model.initial_state(batch_size)._replace(held=held)

    def __call__(self, frames: torch.Tensor, state: ModelState) -> tuple[torch.Tensor, ModelState]:
        log_probs, after = self.model(frames, state._replace(held=state.held[:, :0]))
        named = torch.cat((state.held, log_probs), 1)
        return named[:, : log_probs.shape[1]], after._replace(held=named[:, log_probs.shape[1] :])


def late(recognizer: Recognizer, num_outputs: int) -> Recognizer:
    model = _Late(recognizer.model, num_outputs)
    return Recognizer("tiny", model, Lexicon.from_text(LEXICON), recognizer.decoder)


def test_the_random_network_says_something(recognizer: Recognizer) -> None:
    events = run(recognizer, SPEECH, 960)
    assert sum(len(final.words) for final in finals(events)) > 5
    assert sum(bool(final.text) for final in finals(events)) >= 2
    assert any(isinstance(event, SpeechStarted) for event in events)


def test_words_are_dated_back_by_the_look_ahead(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [word for final in finals(run(recognizer, SPEECH, 960)) for word in final.words]
    monkeypatch.setattr(recognizer, "delay_frames", 3)
    got = [word for final in finals(run(recognizer, SPEECH, 960)) for word in final.words]
    assert [word.word for word in got] == [word.word for word in expected]
    assert [word.start for word in got] == pytest.approx([word.start - 0.03 for word in expected])
    assert [word.end for word in got][:-1] == pytest.approx([word.end - 0.03 for word in expected][:-1])


@pytest.mark.parametrize("look_ahead", [0, 4])
def test_the_last_sounds_are_named_however_late_the_network_is(recognizer: Recognizer, look_ahead: int) -> None:
    speech = noise(1.0, 1)
    slow = late(recognizer, FLUSH_FRAMES // recognizer.frames_per_output + look_ahead)
    slow.delay_frames = recognizer.frames_per_output * look_ahead
    assert texts(run(slow, speech, 960)) == texts(run(recognizer, speech, 960))


@pytest.mark.parametrize("num_outputs", [2, 8, 24, 25])
def test_speech_begins_where_it_is_heard_unless_it_is_named_much_later(
    recognizer: Recognizer, num_outputs: int
) -> None:
    samples = np.concatenate((silence(1), noise(1.5, 1), silence(1)))
    events = run(late(recognizer, num_outputs), samples, 960)
    [started] = [event for event in events if isinstance(event, SpeechStarted)]
    named = finals(events)[0].start
    if num_outputs * recognizer.frames_per_output < ONSET_REACH_FRAMES:
        assert 1.0 <= started.time < 1.1
    else:
        assert 0.95 + 0.03 * num_outputs <= named <= started.time <= named + 0.031  # in the same step


def test_no_utterance_ends_in_the_silence_of_a_flush(recognizer: Recognizer) -> None:
    [final] = finals(run(recognizer, np.concatenate((noise(1, 1), silence(0.5))), 960))
    assert (final.reason, bool(final.text)) == ("stop", True)


@pytest.mark.parametrize("size", [1, 159, 160, 161, 320, 1200, len(SPEECH)])
def test_chunking_changes_nothing(recognizer: Recognizer, size: int) -> None:
    samples = SPEECH if size > 1 else SPEECH[8000:24000]
    expected = run(recognizer, samples, 960)
    assert finals(run(recognizer, samples, size)) == finals(expected)


@pytest.mark.parametrize("size", [161, 1200, len(SPEECH)])
def test_chunking_changes_nothing_where_streams_are_read_twice(tmp_path: Path, size: int) -> None:
    twice = random_recognizer(tmp_path, phases=2)
    expected = finals(run(twice, SPEECH, 960))
    assert sum(len(final.words) for final in expected) > 5
    assert finals(run(twice, SPEECH, size)) == expected


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, len(SPEECH)), max_size=6))
def test_any_chunking_changes_nothing(recognizer: Recognizer, cuts: list[int]) -> None:
    stream, edges = recognizer.stream(), [0, *sorted(cuts), len(SPEECH)]
    events = [e for a, b in itertools.pairwise(edges) for e in stream.accept(SPEECH[a:b])]
    assert finals(events + stream.finish()) == finals(run(recognizer, SPEECH, 960))


@pytest.mark.parametrize("seed", range(5))
def test_committed_text_is_never_taken_back(recognizer: Recognizer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds = rng.uniform(0.1, [1, 3] * 4)
    pieces = [noise(each, 10 * seed + i) if i % 2 else silence(each) for i, each in enumerate(seconds)]
    events = run(recognizer, np.concatenate(pieces), 960)
    check_committed(events)
    partials = [event for event in events if isinstance(event, Partial)]
    assert any(partial.committed for partial in partials)
    shown = [(partial.utterance, partial.committed, partial.unstable) for partial in partials]
    assert all(before != after for before, after in itertools.pairwise(shown))


@pytest.mark.parametrize("has_neural_lm", [False, True])
def test_what_is_settled_too_soon_stays_all_the_same(recognizer: Recognizer, has_neural_lm: bool) -> None:
    if has_neural_lm:
        recognizer = rescored(recognizer, random_neural_lm(recognizer.words))
    recognizer.partial_rule = PartialRule(commit_probability=0.51)
    options = StreamOptions(endpointing=Endpointing(max_utterance_ms=1000))
    check_committed(run(recognizer, noise(20, 1), 960, options))


def test_times_lie_in_the_audio_and_in_order(recognizer: Recognizer) -> None:
    last = 0.0
    for final in finals(run(recognizer, SPEECH, 960)):
        for word in final.words:
            assert last <= word.start + 1e-9
            assert word.start < word.end <= len(SPEECH) / 16000 + 1e-9
            assert 0 <= word.confidence <= 1
            last = word.start
        if final.words:
            assert (final.start, final.end) == (final.words[0].start, final.words[-1].end)


def test_every_flush_is_answered_by_one_final_in_order(recognizer: Recognizer) -> None:
    stream = recognizer.stream(StreamOptions(endpointing=Endpointing(enabled=False), checkpoints=True))
    stream.push(SPEECH[:24000])
    stream.flush("finalize")
    stream.push(SPEECH[24000:])
    stream.flush("finalize")
    stream.flush("stop")
    events: list[Event] = []
    while stream.ready:
        [heard] = recognizer.step([stream])
        assert isinstance(heard, list)
        events += heard
    got = finals(events)
    assert [final.reason for final in got] == ["finalize", "finalize", "stop"]
    assert [final.utterance for final in got] == [0, 1, 2]
    assert got[0].text
    assert got[1].text
    assert got[2].text == ""
    assert got[0].end <= 1.5 <= got[1].start
    checkpoints = [event.samples for event in events if isinstance(event, Checkpoint)]
    assert checkpoints == sorted({*checkpoints, 24000, len(SPEECH)})


def test_the_missing_samples_are_just_enough(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    for _ in range(5):
        stream.push(SPEECH[: stream.missing_samples - 1])
        assert not stream.ready
        assert stream.missing_samples == 1
        stream.push(SPEECH[:1])
        assert stream.ready
        recognizer.step([stream])


@pytest.mark.parametrize("asleep_seconds", [2.0, 2.013, 2.04])
def test_blocks_as_they_are_announced_complete_steps_even_after_sleep(
    recognizer: Recognizer, asleep_seconds: float
) -> None:
    first, each = recognizer.first_chunk_ms * 16, recognizer.chunk_ms * 16
    stream = recognizer.stream()
    asleep, missing = silence(asleep_seconds), []
    for sound in (np.concatenate((asleep, noise(0.5, 1), asleep, noise(0.5, 2))), noise(1, 3)):
        for block in np.split(sound, range(first, len(sound), each)):
            stream.accept(block)
            missing.append(stream.missing_samples)
        stream.flush("finalize")
        stream.accept(sound[:0])
        assert missing.pop() != each  # the last block is a short one
    assert {*missing} == {0, each}  # asleep, and awake


def test_asleep_any_sound_may_be_enough(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.accept(silence(3.0))
    assert stream.missing_samples == 0


def test_what_was_said_is_told_even_if_the_best_guess_is_amid_a_longer_word(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer.decoder, "best_many", lambda states: [NOTHING_SAID for _ in states])
    samples = np.concatenate((silence(0.7), noise(0.6, 1), silence(2), noise(0.04, 2), silence(2)))
    events = run(recognizer, samples, 960)
    said, nothing = finals(events)  # what lasts for 40 ms is a cough
    assert (said.reason, bool(said.words)) == ("endpoint", True)
    assert 0.6 < said.start < said.end < 1.5
    assert (nothing.reason, nothing.words) == ("stop", [])
    assert sum(isinstance(event, SpeechStarted) for event in events) == 2


def test_what_was_shown_is_told_however_short(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    best_many, nothing = recognizer.decoder.best_many, Words([], [], [])

    def amid_longer_words(states: Sequence[DecoderState]) -> list[Guess]:
        return [guess._replace(words=nothing, stable_words=0, agreement=[]) for guess in best_many(states)]

    monkeypatch.setattr(recognizer.decoder, "best_many", amid_longer_words)
    events = run(recognizer, np.concatenate((silence(0.7), noise(0.04, 1), silence(2))), 960)
    shown = [event for event in events if isinstance(event, Partial)]
    said, _ = finals(events)
    assert shown[-1].unstable
    assert (said.reason, bool(said.words)) == ("endpoint", True)
    # So short that it would be dropped if nobody had seen it.
    assert said.end - said.start < 0.01 * (LONE_WORD_FRAMES + recognizer.frames_per_output)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_and_too_loud_ones_cut_off(recognizer: Recognizer, bad: float) -> None:
    stream = recognizer.stream()
    with pytest.raises(InputError, match="infinite or no number"):
        stream.push(np.array([0, bad], np.float32))
    loud, cut_off = (np.where(np.arange(len(SPEECH)) % 1000, SPEECH, level).astype(np.float32) for level in (1e20, 1))
    assert stream.accept(loud) + stream.finish() == run(recognizer, cut_off, len(cut_off))


def test_nothing_is_lost_around_a_finalize(recognizer: Recognizer) -> None:
    """The part after a finalize is recognized as a session of its own would be."""
    alone = finals(run(recognizer, SPEECH[24000:], 960))
    stream = recognizer.stream()
    stream.push(SPEECH[:24000])
    stream.flush("finalize")
    events = stream.accept(SPEECH[24000:])
    after = [f for f in finals(events + stream.finish()) if f.start >= 1.5]
    assert [f.text for f in after if f.text] == [f.text for f in alone if f.text]


def test_silence_sleeps_and_costs_no_network_pass(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.accept(silence(2.0))
    stream.push(silence(30.0))
    assert not stream.ready
    assert recognizer.slots.num_taken == 0
    assert stream._front.nbytes < 400 * (PREROLL_FRAMES + recognizer.frames_per_step)


def test_silence_sleeps_also_after_a_flush(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.push(noise(3, 1))
    stream.flush("finalize")
    stream.accept(silence(2))
    assert stream.missing_samples == recognizer.slots.num_taken == 0


def test_a_closed_stream_holds_nothing_and_has_nothing_to_do(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    for _ in range(2):
        stream.push(noise(1, 1))
        stream.flush("finalize")
    assert stream.ready
    stream.close()
    assert not stream.ready
    assert not stream.has_audio
    assert (recognizer.slots.num_taken, len(stream._inbox), stream._front.nbytes) == (0, 0, 0)


@pytest.mark.parametrize("seconds", [3.0, 3.0401, 3.35])
def test_a_flush_in_sleep_counts_all_that_was_slept_through(recognizer: Recognizer, seconds: float) -> None:
    stream = recognizer.stream(StreamOptions(checkpoints=True))
    stream.accept(silence(seconds))
    stream.flush("finalize")
    checkpoint, answer = stream._run()[-2:]
    num_samples = int(16000 * seconds)
    assert isinstance(checkpoint, Checkpoint)
    assert isinstance(answer, Final)
    assert checkpoint.samples == num_samples
    assert answer.start == answer.end == round(num_samples / 16000, 3)


def test_speech_after_long_silence_is_whole(recognizer: Recognizer) -> None:
    speech = noise(1.0, 1)
    expected = finals(run(recognizer, np.concatenate((silence(0.48), speech)), 960))
    after = finals(run(recognizer, np.concatenate((silence(20.0), speech)), 960))
    assert expected[0].words
    assert after[0].words
    assert after[0].words[0].start == pytest.approx(20.0, abs=0.2)


def test_words_that_the_model_hears_in_steady_noise_are_dropped(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    events = stream.accept(steady(6))
    assert recognizer.decoder.best(stream.decoder_state).words.ids, (
        "the network must say something for this to mean much"
    )
    assert events + stream.finish() == [Final(0, "", 6.0, 6.0, 0.0, "stop")]


def buzz(seconds: float) -> Samples:
    return (0.2 * np.sign(np.sin(2 * np.pi * 100 * np.arange(int(16000 * seconds)) / 16000 + 0.1))).astype(np.float32)


def test_words_that_the_model_hears_in_a_tone_are_dropped_and_never_shown(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    events = stream.accept(np.concatenate((np.zeros(16_000, np.float32), buzz(2))))
    assert recognizer.decoder.best(stream.decoder_state).words.ids, (
        "the network must say something for this to mean much"
    )
    assert events + stream.finish() == [Final(0, "", 3.0, 3.0, 0.0, "stop")]


def test_words_in_steady_noise_do_not_begin_what_is_said_later(recognizer: Recognizer) -> None:
    options = StreamOptions(endpointing=Endpointing(max_utterance_ms=2000))
    events = run(recognizer, np.concatenate((steady(9.5), silence(0.3), noise(1, 1))), 960, options)
    assert all(word.start > 6 for final in finals(events) for word in final.words)
    assert finals(events)[0].words


def test_speech_before_a_tone_does_not_let_the_words_in_it_pass(recognizer: Recognizer) -> None:
    events = run(recognizer, np.concatenate((noise(1, 1), silence(1.5), buzz(2), silence(1))), 960)
    assert [event.time < 1 for event in events if isinstance(event, SpeechStarted)] == [True]
    assert len(texts(events)) == 1


def test_endpoints_split_utterances(recognizer: Recognizer) -> None:
    samples = np.concatenate((noise(1, 1), silence(2), noise(1, 2), silence(2)))
    got = [final for final in finals(run(recognizer, samples, 960)) if final.text]
    assert [final.reason for final in got] == ["endpoint", "endpoint"]
    whole = run(recognizer, samples, 960, StreamOptions(endpointing=Endpointing(enabled=False)))
    assert [final.reason for final in finals(whole)] == ["stop"]


def test_speech_without_a_pause_is_parted_between_words(recognizer: Recognizer) -> None:
    samples = noise(20, 1)
    whole = finals(run(recognizer, samples, 960))
    options = StreamOptions(endpointing=Endpointing(max_utterance_ms=1000), checkpoints=True)
    parted = run(recognizer, samples, 960, options)
    assert len(whole) == 1
    assert len(finals(parted)) > 8
    assert all(final.reason == "endpoint" for final in finals(parted)[:-1])
    assert [word.word for final in finals(parted) for word in final.words] == whole[0].text.split()
    check_committed(parted)
    for before, event in itertools.pairwise(parted):
        if isinstance(event, Final) and event.reason == "endpoint":
            assert isinstance(before, Checkpoint)
            assert before.samples == round(16000 * event.end)
        if isinstance(before, Final):
            assert event == SpeechStarted(before.end)


class _EndsSentences:
    """Takes the end of whatever it reads for the end of a sentence."""

    def punctuate(self, words: Sequence[str], before: Sequence[str]) -> tuple[list[str], list[bool]]:
        return [""] * (len(words) - 1) + ["."], [False] * len(words)


def test_where_speech_is_parted_no_sentence_ends(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "formatter", Formatter(_EndsSentences()))
    samples = np.concatenate((noise(5.7, 1), silence(2), noise(1, 2)))  # parted thrice, the last time far from its end
    options = StreamOptions(endpointing=Endpointing(max_utterance_ms=1000))
    written = " ".join(final.formatted for final in finals(run(recognizer, samples, 960, options)) if final.text)
    sentences = written.removesuffix(".").split(". ")
    assert len(sentences) == 2
    assert all(sentence[0].isupper() and sentence[1:].islower() for sentence in sentences)


def test_options_are_honoured(recognizer: Recognizer) -> None:
    events = run(recognizer, SPEECH, 960, StreamOptions(partials=False, words=False, nbest=3))
    assert not any(isinstance(event, Partial) for event in events)
    assert not any(final.words for final in finals(events))
    assert any(final.alternatives for final in finals(events))
    for final in finals(events):
        assert len({final.text, *(other.text for other in final.alternatives)}) == 1 + len(final.alternatives) <= 3
    with pytest.raises(InputError, match="nbest"):
        recognizer.stream(StreamOptions(nbest=11))


def test_finals_are_formatted_beside_the_raw_text(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stutters(Formatter):
        """Writes the first word only, in capitals, after all that the open sentence began with."""

        def write(
            self, words: Sequence[str], before: Sequence[str] = (), goes_on: bool = False, kept: Container[str] = ()
        ) -> list[str]:
            return ["".join(f"({word})" for word in before) + words[0].upper(), *([""] * (len(words) - 1))]

    monkeypatch.setattr(recognizer, "formatter", Stutters())
    heard = [final for final in finals(run(recognizer, SPEECH, 960)) if final.text]
    assert len(heard) > 1
    assert heard[0].formatted == heard[0].words[0].written == heard[0].text.split()[0].upper()
    before = "".join(f"({word})" for word in heard[0].text.split())  # it ended no sentence
    assert heard[1].formatted == before + heard[1].text.split()[0].upper()
    assert [[word.word for word in final.words] for final in heard] == [final.text.split() for final in heard]
    again = finals(run(recognizer, SPEECH, 960, StreamOptions(first_utterance=1, finals_before=tuple(heard[:1]))))
    assert again[0].formatted == before + heard[0].formatted  # in another process
    raw = finals(run(recognizer, SPEECH, 960, StreamOptions(formatted=False)))
    assert [final.text for final in raw if final.text] == [final.text for final in heard]
    assert not any(final.formatted or any(word.written is not None for word in final.words) for final in raw)


def test_checkpoints_say_from_where_another_stream_can_go_on(recognizer: Recognizer) -> None:
    stream = recognizer.stream(StreamOptions(checkpoints=True))
    samples = np.concatenate((SPEECH, np.zeros(5 * 16000, np.float32), SPEECH[:8000]))
    events = [e for first in range(0, len(samples), 960) for e in stream.accept(samples[first : first + 960])]
    events += stream.finish()
    checkpoints = [event.samples for event in events if isinstance(event, Checkpoint)]
    assert checkpoints == sorted(set(checkpoints))
    assert sum(len(SPEECH) < at < len(SPEECH) + 5 * 16000 for at in checkpoints) >= 3  # in silence, asleep
    assert checkpoints[-1] == len(samples)  # a flush settles all
    for before, event in itertools.pairwise(events):
        if isinstance(event, Final) and event.text:
            assert isinstance(before, Checkpoint)
            assert before.samples / 16000 >= event.words[-1].end - 0.03
    for at, event in enumerate(events):
        if isinstance(event, Checkpoint):  # of what comes later, only a final that follows now is from before
            later = [word for final in finals(events[at + 2 :]) for word in final.words]
            assert all(word.start >= event.samples / 16000 for word in later)
    plain = run(recognizer, samples, 960)
    assert [event for event in events if not isinstance(event, Checkpoint)] == plain

    at = checkpoints[len(checkpoints) // 2]
    again = run(recognizer, samples[at:], 960, StreamOptions(first_sample=at, first_utterance=7))
    assert [final.utterance for final in finals(again)] == list(range(7, 7 + len(finals(again))))
    assert all(word.start >= at / 16000 for final in finals(again) for word in final.words)
    assert finals(again)[-1].end == pytest.approx(len(samples) / 16000, abs=0.001)


def test_what_was_said_is_kept_in_mind_also_by_a_stream_that_goes_on_elsewhere(recognizer: Recognizer) -> None:
    neural_lm = random_neural_lm(recognizer.words)
    recognizer = rescored(recognizer, neural_lm)
    stream = recognizer.stream(StreamOptions(checkpoints=True))
    contexts = [b""]
    for first in range(0, len(SPEECH), 960):
        for event in stream.accept(SPEECH[first : first + 960]):
            if isinstance(event, Checkpoint) and event.context != contexts[-1]:
                contexts.append(event.context)
        start_row = stream.decoder_state.rows[0][0]  # of an utterance of which nothing was said yet
        if not stream.guess.words.ids:
            assert start_row.tobytes() == neural_lm.recall(contexts[-1]).tobytes()
    assert len(contexts) > 2
    elsewhere = recognizer.stream(StreamOptions(context=contexts[1]))
    assert elsewhere.decoder_state.rows[0][0].tobytes() == neural_lm.recall(contexts[1]).tobytes()


def test_an_empty_stream_ends_with_an_empty_final(recognizer: Recognizer) -> None:
    assert run(recognizer, np.zeros(0, np.float32), 960) == [Final(0, "", 0.0, 0.0, 0.0, "stop")]


def test_a_long_stream_does_not_grow(recognizer: Recognizer) -> None:
    stream = recognizer.stream(StreamOptions(endpointing=Endpointing(max_utterance_ms=5000)))
    piece = noise(2.0, 1)
    sizes = []
    for _ in range(20):
        stream.accept(piece)
        sizes.append(stream.decoder_state.nbytes + stream._front.nbytes)
    assert max(sizes[10:]) <= max(sizes[:10]) * 1.2
