"""Owns a stream: the path from samples to events, with sleep, endpoints and committed text.

What streams share, and their steps, many in one network pass, are their recognizer's; all else is a `Stream`'s own.
There is no second path for recordings: offline is this, fed all at once. Knows nothing of sockets, messages on the wire
or threads.

A stream *sleeps* while there is no utterance and neither the model nor the VAD nor the energy shows speech: its audio
then costs no network pass. Any sign of speech wakes it, with the audio from before (`front_end`).
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from . import endpointing, messages
from .decoder import Decoder, Guess, Hypothesis, Words
from .decoder_state import Overlay
from .errors import InputError
from .features import (
    FRAME_LENGTH_SAMPLES,
    FRAME_SHIFT_SAMPLES,
    FRAME_SHIFT_SECONDS,
    SAMPLE_RATE,
    Features,
    Samples,
)
from .formatting.writer import Formatter, open_after, open_sentence
from .front_end import PREROLL_FRAMES, FrontEnd
from .hotwords import Phrases, words_of
from .level import SpeechLevel
from .messages import Checkpoint, Event, Final, Partial, Reason, SpeechStarted, StreamOptions
from .partials import PartialRule, PartialText
from .slots import Slot, StateSlots
from .speech_network import SpeechNetwork
from .tokens import BLANK

PREROLL_SECONDS = PREROLL_FRAMES * FRAME_SHIFT_SECONDS
CHECKPOINT_SAMPLES = SAMPLE_RATE  # of silence from one checkpoint to the next
SLEEP_AFTER_SECONDS = 0.5  # of silence, by every measure, outside an utterance
FLUSH_FRAMES = 15  # of silence after the last sample, beside the look-ahead, so that its sounds can be emitted
ONSET_REACH_FRAMES = 30  # how long before the model names a sound it may have begun
CUT_BEFORE_FRAMES = 100  # an utterance that must end amid speech ends behind words that have ended so long ago
HOTWORD_SECONDS = 10.0  # for which such an end waits for that of a hotword, where nothing else is wanted
LONE_WORD_FRAMES = 15  # from the first sound of a word to its last, at least, if the best guess has none
BLANK_WITH_TOKEN = math.log(0.5)  # log probability of blank below which a frame counts as a token
NOTHING_SHOWN: tuple[list[int], int] = ([], 0)  # word ids, and how many of them are settled
NOTHING_SAID = Guess(Words([], [], []), 0.0, 0, [], Words([], [], []), [])


class StreamRecognizer(Protocol):
    """What a stream needs of `recognizer.Recognizer`."""

    frames_per_step: int
    frames_per_output: int
    delay_frames: int  # by which outputs come after what they name
    slots: StateSlots  # of the network's state
    decoder: Decoder
    words: list[str]  # of the lexicon, by number
    partial_rule: PartialRule  # of the next utterance
    formatter: Formatter
    speech_network: SpeechNetwork

    def step(self, streams: Sequence[Stream], /) -> list[list[Event] | Exception]:
        """Moves each of the streams on by one chunk: the events of each, or what ended it."""


def flush_silence(delay_frames: int) -> Samples:
    """What follows the last sample of a stream, so that all its sounds are named."""
    num_frames = FLUSH_FRAMES + delay_frames
    return np.zeros(FRAME_LENGTH_SAMPLES + num_frames * FRAME_SHIFT_SAMPLES, np.float32)


class Stream:
    """All state of one stream. One owner at a time; not thread-safe."""

    def __init__(
        self,
        recognizer: StreamRecognizer,
        options: StreamOptions,
        bonus: NDArray[np.float32] | None,
        overlay: Overlay | None,
    ) -> None:
        """``bonus`` [W] and ``overlay`` are what the session's hotwords do to the search.

        :raises InputError: an option is out of range.
        """
        if not 1 <= options.nbest <= messages.MAX_NBEST:
            raise InputError(f"nbest must be 1 to {messages.MAX_NBEST}, not {options.nbest}")
        self._recognizer = recognizer
        self._options = options
        self._rules = endpointing.session_rules(options.endpointing)
        self._bonus, self._overlay = bonus, overlay
        self._own_words = overlay.words if overlay else []
        self._hotwords = set(words_of(options.hotwords))
        self._only = Phrases(options.hotwords) if options.only_hotwords else None
        self._inbox: deque[Samples | Reason] = deque()
        self._utterance = options.first_utterance
        self._open_sentence: list[str] = []  # what finals have said of the sentence that the next one goes on with
        for final in options.finals_before:
            self._open_sentence = open_after(final, self._open_sentence)
        self._context = options.context  # what was said before, as the decoder says it
        self._samples_before = options.first_sample  # of the session before the present front end's first
        self._checkpoint_at = options.first_sample  # the last that was said
        self._flushing: Reason | None = None
        self._level = SpeechLevel()
        self.slot: Slot | None = None  # of the network's state, while awake
        self._restart_front()

    # --- what goes in ---------------------------------------------------------------------------------------------

    def push(self, samples: Samples) -> None:
        """Appends audio: float32 [N], 16 kHz mono, -1..1, cut off beyond. Features are computed here; the network runs
        in `step`. Raises `InputError` for a sample that is infinite or no number.
        """
        if not np.isfinite(samples).all():
            raise InputError("a sample is infinite or no number")
        self._inbox.append(np.clip(samples, -1, 1))
        self._drain_inbox()

    def flush(self, reason: Reason) -> None:
        """Ends what was pushed so far: exactly one `Final` with this reason follows, even when nothing was said."""
        self._inbox.append(reason)
        self._drain_inbox()

    def accept(self, samples: Samples) -> list[Event]:
        """Pushes audio and steps while there is a whole chunk; the simple way to use one stream."""
        self.push(samples)
        return self._run()

    def finish(self) -> list[Event]:
        """Ends the audio; returns the last events."""
        self.flush("stop")
        return self._run()

    def close(self) -> None:
        """Gives up the stream and its buffers."""
        self._inbox.clear()
        self._flushing = None
        self._front = self._new_front()
        self.slot = None

    def _run(self) -> list[Event]:
        events: list[Event] = []
        while self.ready:
            stepped = self._recognizer.step([self])[0]
            if isinstance(stepped, Exception):
                raise stepped
            events += stepped
        return events

    def _drain_inbox(self) -> None:
        while self._inbox and self._flushing is None:
            item = self._inbox.popleft()
            if isinstance(item, str):
                self._flushing = item
                woke = self._front.accept_silence(flush_silence(self._recognizer.delay_frames))
            else:
                woke = self._front.accept(item)
            if woke:
                self._wake()

    def _new_front(self) -> FrontEnd:
        return FrontEnd(self._recognizer.frames_per_step, self._level, self._recognizer.speech_network)

    def _restart_front(self) -> None:
        self._front = self._new_front()
        self._flushing = None
        self._last_token = -1  # frame
        self._wake()

    def _wake(self) -> None:
        self.slot = self._recognizer.slots.take()
        self._restart_utterance()

    def _fall_asleep(self) -> None:
        self._in_speech = False
        self.slot = None
        if self._front.fall_asleep():
            self._wake()

    def _restart_utterance(self) -> None:
        self.decoder_state = self._recognizer.decoder.start(self._bonus, self._overlay, self._context)
        self._decoder_origin = self._front.cursor - self._recognizer.delay_frames  # frame that its first output names
        self._open_utterance(self._decoder_origin)

    def _open_utterance(self, frame: int) -> None:
        self._opened = frame  # where it may begin
        self.guess = NOTHING_SAID  # the decoder's
        self._partial = PartialText(self._recognizer.partial_rule)
        self._in_speech = self._holds_word = False
        self._onset = self._front.cursor  # frame where speech began, while there is any
        self._shown = self._told = NOTHING_SHOWN  # when the last partial was due, and what it said

    # --- one step, called by `Recognizer.step` ----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether `Recognizer.step` has something to do: a whole chunk, a flush to answer, or a checkpoint to say."""
        if self._flushing is not None:
            return True
        if self._front.is_asleep:
            return self._owes_checkpoint
        return self._front.has_step

    @property
    def missing_samples(self) -> int:
        """How much audio it takes at least until it is `ready`; asleep, any sound may make it so."""
        return self._front.missing_samples

    @property
    def has_audio(self) -> bool:
        """Whether the next step needs the network."""
        return self._front.has_frames

    def next_chunk(self) -> Features:
        """The next frames, float32 [frames_per_step, 80]; at a flush the last frame fills a short chunk up."""
        return self._front.next_step()

    def commit_chunk(self, log_probs: NDArray[np.float32]) -> None:
        """Moves past `next_chunk`, given what the network made of it: float32 [outputs_per_step, V]."""
        self._front.step()
        end = self._front.cursor - self._recognizer.delay_frames
        for output, blank in enumerate(log_probs[:, BLANK].tolist(), -len(log_probs)):
            if blank < BLANK_WITH_TOKEN:
                self._last_token = end + self._recognizer.frames_per_output * output

    def advance(self) -> list[Event]:
        """Events of the step just taken; ends utterances, falls asleep, answers flushes."""
        events: list[Event] = []
        if not self._front.is_asleep:
            self._advance_utterance(events)
        if self._owes_checkpoint:
            self._say_checkpoint(events, self._front.settled)
        if self._flushing is not None and not self.has_audio:
            self._front.skip()  # asleep: with what it still holds all is over
            final = self._final(self._flushing, self._hypotheses())
            self._say_checkpoint(events, self._front.cursor)
            self._say_final(events, final)
            self._samples_before += self._front.num_samples
            self._restart_front()
            self._drain_inbox()
        return events

    def _advance_utterance(self, events: list[Event]) -> None:
        decoder = self._recognizer.decoder
        if self._last_token >= self._opened and self._heard_speech and not self._in_speech:
            self._in_speech = True
            self._onset = self._speech_onset()
            events.append(SpeechStarted(self._seconds(self._onset)))
        guess, partial = self.guess, self._partial
        settled = partial.update(guess)
        if settled > guess.stable_words:
            decoder.commit(self.decoder_state, settled)
        shown = partial.shown.ids, partial.num_committed
        if self._options.partials and shown != self._shown and self._heard_speech:
            self._shown = shown
            self._say_partial(events, *self._told_words(partial.shown, partial.num_committed))
        words = guess.words
        began = self._output_seconds(words.starts[0]) if words.ids else self._seconds(self._onset)
        silence = endpointing.Silence(
            has_begun=bool(words.ids) or self._holds_word,
            since_token=self._front.since(self._last_token),
            utterance=self._now() - began,
        )
        # Not yet in the silence that a flush appends.
        in_audio = self._front.cursor * FRAME_SHIFT_SAMPLES <= self._front.num_samples
        rule = endpointing.endpoint(self._rules, silence) if in_audio else None
        if rule and rule.is_amid_speech and words.ids and self._heard_speech:
            self._part_utterance(events, may_wait=silence.utterance < rule.utterance_seconds + HOTWORD_SECONDS)
        elif rule:
            hypotheses = self._hypotheses()
            said = hypotheses[0].words if hypotheses else []
            if said or self._told[0]:
                end = self._output_frame(said[-1].end_frame + 1) if said else 0
                self._end_utterance(events, hypotheses, max(end, self._front.cursor - ONSET_REACH_FRAMES))
            self._restart_utterance()
        elif not words.ids and not self._holds_word and self._is_quiet:
            # The best guess may be amid a longer word, which will not go on, while a path beside it has heard one.
            is_told = bool(partial.shown.ids) or self._lasts(self._hypotheses())
            self._holds_word = self._in_speech and is_told
            if not self._holds_word:
                self._fall_asleep()

    def _part_utterance(self, events: list[Event], may_wait: bool) -> None:
        """Ends it behind a word amid speech: the search goes on, and what it has heard since opens the next one.

        Later, if that word has not its score by the neural language model yet, or if a hotword may go on behind it and
        there ``may_wait`` for its end.
        """
        decoder, words = self._recognizer.decoder, self.guess.words
        long_ago = sum(self._output_frame(end + 1) <= self._front.cursor - CUT_BEFORE_FRAMES for end in words.ends)
        stable = decoder.commit(self.decoder_state, max(self._partial.num_committed, long_ago))
        texts = [self._word(word_id) for word_id in words.ids[:stable]]
        waits = may_wait and self._only is not None and self._only.may_go_on(texts)
        if stable and stable >= self._partial.num_committed and not waits:
            taken = decoder.take(self.decoder_state)
            end = self._output_frame(taken.words[-1].end_frame + 1)
            self._end_utterance(events, [taken], end, goes_on=True)
            self._open_utterance(end)
            self._in_speech, self._onset = True, end
            events.append(SpeechStarted(self._seconds(end)))

    def _end_utterance(
        self, events: list[Event], hypotheses: Sequence[Hypothesis], settled: int, goes_on: bool = False
    ) -> None:
        """Says its final, if there is anything to tell, and that all before the frame ``settled`` is in finals."""
        final = self._final("endpoint", hypotheses, goes_on)
        self._say_checkpoint(events, settled)
        if final.text or self._told[0]:
            self._say_final(events, final)

    @property
    def _owes_checkpoint(self) -> bool:
        """Whether it is time to say that nothing was said for a while."""
        is_open = self._in_speech or bool(self.guess.words.ids)
        if not self._options.checkpoints or is_open or self._front.since(self._last_token) < PREROLL_SECONDS:
            return False
        settled = self._samples_before + self._front.settled * FRAME_SHIFT_SAMPLES
        return settled - self._checkpoint_at >= CHECKPOINT_SAMPLES

    def _say_checkpoint(self, events: list[Event], frame: int) -> None:
        """Before ``frame`` of the present front end all is silence, or in finals so far and one that follows now."""
        inside = min(max(0, frame) * FRAME_SHIFT_SAMPLES, self._front.num_samples)
        if self._options.checkpoints and self._samples_before + inside > self._checkpoint_at:
            self._checkpoint_at = self._samples_before + inside
            events.append(Checkpoint(self._checkpoint_at, self._context))

    @property
    def _is_quiet(self) -> bool:
        """Whether neither the model nor the VAD has heard speech for a while, nor any sign of it."""
        last = max(self._last_token, self._front.last_voiced, self._front.last_sign)
        return self._front.since(last) >= SLEEP_AFTER_SECONDS

    @property
    def _heard_speech(self) -> bool:
        """Whether this utterance holds more than steady noise, tones and music, in which the model hears words too."""
        return self._front.last_speech_change >= max(0, self._opened - ONSET_REACH_FRAMES)

    def _lasts(self, hypotheses: Sequence[Hypothesis]) -> bool:
        """Whether the best of them is more than a cough, or a knock."""
        if not hypotheses or not hypotheses[0].words:
            return False
        first, last = hypotheses[0].words[0].start_frame, hypotheses[0].words[-1].end_frame
        return self._recognizer.frames_per_output * (last - first) >= LONE_WORD_FRAMES

    def _hypotheses(self) -> list[Hypothesis]:
        """Of the utterance that ends here, best first; none where no speech was heard."""
        if self._front.is_asleep or not self._heard_speech:
            return []
        is_cut = self._only is not None and self._options.nbest > 1  # some of them may be alike in what is told
        return self._recognizer.decoder.finish(
            self.decoder_state, messages.MAX_NBEST if is_cut else self._options.nbest
        )

    def _told_words(self, words: Words, num_settled: int) -> tuple[Words, int]:
        """The words that a session wants told, and how many of them are settled."""
        if self._only is None:
            return words, num_settled
        texts = [self._word(word_id) for word_id in words.ids]
        places = self._only.places(texts)
        settled = self._only.places(texts[:num_settled], is_over=False)
        return Words(*([details[place] for place in places] for details in words)), len(settled)

    def _told_hypotheses(self, hypotheses: Sequence[Hypothesis]) -> Sequence[Hypothesis]:
        """Hypotheses with the words that a session wants told; the best, and others with any that are not alike."""
        if self._only is None or not hypotheses:
            return hypotheses
        distinct: dict[tuple[int, ...], Hypothesis] = {}
        for hypothesis in hypotheses:
            places = self._only.places([self._word(word_id) for word_id in hypothesis.word_ids])
            told = dataclasses.replace(hypothesis, words=[hypothesis.words[place] for place in places])
            distinct.setdefault(tuple(told.word_ids), told)
        best, *others = distinct.values()
        return [best, *(other for other in others if other.words)][: self._options.nbest]

    def _final(self, reason: Reason, hypotheses: Sequence[Hypothesis], goes_on: bool = False) -> Final:
        if hypotheses and hypotheses[0].words:
            self._context = hypotheses[0].context
        hypotheses = self._told_hypotheses(hypotheses)
        best = hypotheses[0] if hypotheses else None
        start = end = self._now()
        if best and best.words:
            start, end = self._span(best.words[0].start_frame, best.words[-1].end_frame)
        words = self._words(best) if best else []
        written: list[str] = []
        if self._options.formatted and words:
            texts = [word.word for word in words]
            written = self._recognizer.formatter.write(texts, self._open_sentence, goes_on, self._hotwords)
            words = [structs.replace(word, written=text) for word, text in zip(words, written, strict=True)]
            self._open_sentence = open_sentence(texts, written, self._open_sentence)
        return Final(
            utterance=self._utterance,
            text=" ".join(word.word for word in words),
            start=start,
            end=end,
            confidence=round(sum(word.confidence for word in words) / len(words), 3) if words else 0.0,
            reason=reason,
            words=words if self._options.words else [],
            alternatives=[self._alternative(h) for h in hypotheses[1:]],
            formatted=" ".join(filter(None, written)),
        )

    def _say_final(self, events: list[Event], final: Final) -> None:
        events.append(final)
        self._utterance += 1

    def _say_partial(self, events: list[Event], words: Words, num_settled: int) -> None:
        """Unless it is known; also that nothing is left of what was told."""
        if (words.ids, num_settled) == self._told:
            return
        self._told = words.ids, num_settled
        texts = [self._word(word_id) for word_id in words.ids]
        start, end = self._span(words.starts[0], words.ends[-1]) if texts else (self._now(), self._now())
        committed, rest = " ".join(texts[:num_settled]), " ".join(texts[num_settled:])
        events.append(Partial(self._utterance, committed, rest, start, end))

    def _word(self, word_id: int) -> str:
        known = self._recognizer.words
        return known[word_id] if word_id < len(known) else self._own_words[word_id - len(known)]

    def _words(self, hypothesis: Hypothesis) -> list[messages.Word]:
        return [
            messages.Word(
                self._word(word.word_id),
                self._output_seconds(word.start_frame),
                self._output_seconds(word.end_frame + 1),
                round(word.confidence, 3),
            )
            for word in hypothesis.words
        ]

    def _alternative(self, hypothesis: Hypothesis) -> messages.Alternative:
        words = self._words(hypothesis)
        confidence = round(sum(word.confidence for word in words) / len(words), 3) if words else 0.0
        return messages.Alternative(" ".join(word.word for word in words), confidence)

    def _speech_onset(self) -> int:
        """Frame where speech began: the VAD often hears it before the model can name a sound."""
        if self._last_token - ONSET_REACH_FRAMES <= self._front.voice_onset <= self._last_token:
            return max(self._opened, self._front.voice_onset)
        return self._last_token

    # --- time -------------------------------------------------------------------------------------------------------

    def _seconds(self, frame: int) -> float:
        """Session time of a frame of the present front end, within the audio that was pushed."""
        inside = min(max(0, frame) * FRAME_SHIFT_SECONDS, self._front.num_samples / SAMPLE_RATE)
        return round(self._samples_before / SAMPLE_RATE + inside, 3)

    def _output_frame(self, output: int) -> int:
        return self._decoder_origin + output * self._recognizer.frames_per_output

    def _output_seconds(self, output: int) -> float:
        return self._seconds(self._output_frame(output))

    def _now(self) -> float:
        return self._seconds(self._front.cursor)

    def _span(self, first: int, last: int) -> tuple[float, float]:
        """From the first output of a word to the last of another."""
        return self._output_seconds(first), self._output_seconds(last + 1)
