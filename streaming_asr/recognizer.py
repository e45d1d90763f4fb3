"""Owns the path from samples to events: front end, network, decoder, sleep, endpoints, committed text.

A `Recognizer` holds what all streams share; a `Stream` holds everything about one. `Recognizer.step` moves many streams
on by one chunk in one network pass; `Stream.accept` and `Stream.finish` are the same for one stream. There is no
second path for recordings: offline is this, fed all at once. Knows nothing of sockets, messages on the wire or
threads.

A stream *sleeps* while there is no utterance and neither the model nor the VAD nor the energy shows speech: its audio
then costs no network pass. Any sign of speech wakes it, with the audio from before (`front_end`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from . import __version__, endpointing, messages
from .admission import StepCost
from .calibration import kept_cost, measure_step
from .decoder import Decoder, DecoderOptions, Guess, Hypothesis, Words
from .decoder_state import Overlay
from .errors import InputError, ModelError
from .features import (
    FRAME_LENGTH_SAMPLES,
    FRAME_SHIFT_SAMPLES,
    FRAME_SHIFT_SECONDS,
    SAMPLE_RATE,
    Features,
    Samples,
)
from .formatting.punctuation import Punctuator
from .formatting.writer import Formatter, open_after, open_sentence
from .front_end import PREROLL_FRAMES, FrontEnd
from .g2p import G2P
from .hotwords import BONUS, UNKNOWN_LOG_PROB, pronounced, unknown_words, word_bonus
from .lexicon import Lexicon
from .manifest import (
    G2P_FILE,
    LEXICON_FILE,
    MANIFEST_FILE,
    NEURAL_LM_FILE,
    PUNCTUATION_FILE,
    SHIPPED_MODEL,
    Manifest,
    read_manifest,
    read_verified,
)
from .messages import Checkpoint, Event, Final, Partial, Reason, SpeechStarted, StreamOptions
from .model import ModelConfig, load_model
from .network import Device, Network, Precision, StepFunction, best_precision, find_device
from .neural_lm import NeuralLM
from .partials import PartialRule, PartialText
from .search_graph import SearchGraph, read_graph
from .slots import Slot, StateSlots
from .tokens import BLANK

PREROLL_SECONDS = PREROLL_FRAMES * FRAME_SHIFT_SECONDS
OVERLAP_MS = 1000 * (FRAME_LENGTH_SAMPLES - FRAME_SHIFT_SAMPLES) // SAMPLE_RATE  # of a step's last frame with the next
CHECKPOINT_SAMPLES = SAMPLE_RATE  # of silence from one checkpoint to the next
SLEEP_AFTER_SECONDS = 0.5  # of silence, by every measure, outside an utterance
FLUSH_FRAMES = 15  # of silence after the last sample, beside the look-ahead, so that its sounds can be emitted
ONSET_REACH_FRAMES = 30  # how long before the model names a sound it may have begun
CUT_BEFORE_FRAMES = 100  # an utterance that must end amid speech ends behind words that have ended so long ago
LONE_WORD_FRAMES = 15  # from the first sound of a word to its last, at least, if the best guess has none
BLANK_WITH_TOKEN = math.log(0.5)  # log probability of blank below which a frame counts as a token
OVERLAYS_KEPT = 32  # lists of hotwords, so that who opens a session for each command pays for them once
NOTHING_SAID = Guess(Words([], [], []), 0.0, 0, [], Words([], [], []), [])


T = TypeVar("T")


def flush_silence(config: ModelConfig) -> Samples:
    """What follows the last sample of a stream, so that all its sounds are named."""
    num_frames = FLUSH_FRAMES + config.delay_frames
    return np.zeros(FRAME_LENGTH_SAMPLES + num_frames * FRAME_SHIFT_SAMPLES, np.float32)


class _LastStep(threading.local):
    search_seconds = 0.0


class Recognizer:
    """A loaded model with its lexicon and LM, shared by all its streams.

    The decoder and the network are pure functions of explicit states, so one recognizer serves any number of streams;
    several threads may call `step` at once, each for streams of its own.
    """

    def __init__(
        self,
        name: str,
        model: StepFunction,
        lexicon: Lexicon,
        decoder: Decoder,
        formatter: Formatter | None = None,
        g2p: G2P | None = None,
        version: str = "",
        can_fork: bool = True,
    ) -> None:
        """``version`` tells models of one name apart, as for a calibration that is kept; ``can_fork`` says whether a
        process that is forked can use them, as none can what is on a GPU.
        """
        self.name = name
        self._subject = f"{name} {version}, {model.config}, {decoder.options}, streaming_asr {__version__}"
        self.can_fork = can_fork
        self.g2p = g2p  # says how hotwords sound that the lexicon lacks
        self.formatter = formatter or Formatter()
        self.language = "en"
        self.model = model
        self.slots = StateSlots(model.initial_state)
        self.words = lexicon.words
        self.word_id = lexicon.word_id
        self.decoder = decoder
        self.partial_rule = PartialRule()  # of streams' next utterances
        self.hotword_nats = BONUS  # of streams to come
        self._overlay = functools.lru_cache(OVERLAYS_KEPT)(self._make_overlay)
        self._last_step = _LastStep()
        self.chunk_ms = round(1000 * model.config.step_seconds)
        self.first_chunk_ms = self.chunk_ms + OVERLAP_MS
        self.frames_per_step = model.config.frames_per_step
        self.frames_per_output = model.config.frames_per_output
        self.delay_frames = model.config.delay_frames

    @classmethod
    def load(
        cls,
        folder: str | Path = SHIPPED_MODEL,
        decoder_options: dict[str, Any] | None = None,
        precision: Precision | None = None,
        device: Device = "cpu",
        graph: SearchGraph | None = None,
    ) -> Recognizer:
        """Reads a model folder (the shipped one by default).

        ``decoder_options`` override fields of `DecoderOptions` in the folder's manifest; ``precision`` of the network
        is what suits the device if None; ``graph`` is what `read_graph` gave for the folder, if it was read before.
        The search and its language models run on the CPU whatever the network's ``device``. Raises `ModelError`, naming
        the file, when something is missing, damaged or does not fit, and `InputError` for what this machine lacks.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if not manifest.name:
            raise ModelError(f"{folder / MANIFEST_FILE} gives the model no name")
        try:
            options = DecoderOptions(**manifest.decoder)
        except (InputError, TypeError) as error:
            raise ModelError(f"{folder / MANIFEST_FILE}: a decoder option cannot be used: {error}") from error
        try:
            options = dataclasses.replace(options, **(decoder_options or {}))
        except TypeError as error:
            raise InputError(f"unknown decoder option: {error}") from error
        precision = precision or best_precision(device)
        with ThreadPoolExecutor(1) as pool:
            on_cpu = precision if device == "cpu" else best_precision()
            load_neural_lm = functools.partial(NeuralLM.load, precision=on_cpu)
            reading = pool.submit(_read_if_any, folder, manifest, NEURAL_LM_FILE, load_neural_lm)  # leaves us the GIL
            lexicon, tree, ngram = graph or read_graph(folder)
            network = Network(load_model(folder).to(find_device(device)), precision)
            formatter = Formatter(_read_if_any(folder, manifest, PUNCTUATION_FILE, Punctuator.load))
            g2p = _read_if_any(folder, manifest, G2P_FILE, G2P.load)
            neural_lm = reading.result()
        try:
            decoder = Decoder(tree, ngram, options, neural_lm)
        except InputError as error:
            raise ModelError(f"{folder / LEXICON_FILE} does not fit the language models: {error}") from error
        weights = manifest.sha256[:12], manifest.files.get(NEURAL_LM_FILE, "")[:12]
        version = f"{' '.join(weights)}, {network.precision} on {device},"
        recognizer = cls(manifest.name, network, lexicon, decoder, formatter, g2p, version, can_fork=device == "cpu")
        recognizer.warm_up()
        return recognizer

    def warm_up(self) -> None:
        """Compiles what is compiled at first use, so that no stream waits for it.

        Takes up to a minute the first time on a machine; from then on the search comes from a cache beside its source,
        or in the user's cache folder where that cannot be written to.
        """
        self.decoder.warm_up()
        stream = self.stream()
        stream.accept(np.zeros(self.chunk_ms * SAMPLE_RATE // 1000, np.float32))
        stream.finish()
        self.formatter.write(("a",))
        if self.g2p:
            self.g2p.pronounce("a")

    @property
    def search_seconds(self) -> float:
        """What the search took of the calling thread's last step, on the wall clock."""
        return self._last_step.search_seconds

    def step_cost(self, kept_in: Path | None = None) -> StepCost:
        """What steps cost on this machine, measured in a fraction of a second, or before and ``kept_in`` a file.

        Raises `InputError` for a file that cannot be used.
        """
        if kept_in is None:
            return measure_step(self.model, self.decoder)
        return kept_cost(kept_in, self._subject, lambda: measure_step(self.model, self.decoder))

    def overlay(self, phrases: Sequence[str]) -> Overlay | None:
        """The words of ``phrases`` that the lexicon lacks, as `g2p` says them; None if there are none."""
        return self._overlay(tuple(unknown_words(phrases, self.word_id)), self.hotword_nats)

    def _make_overlay(self, words: tuple[str, ...], nats: float) -> Overlay | None:
        lexicon = pronounced(words, self.g2p) if self.g2p else None
        if not lexicon:
            return None
        score = self.decoder.options.lm_weight * UNKNOWN_LOG_PROB + nats
        return Overlay(lexicon, np.full(len(lexicon), score, np.float32))

    def stream(self, options: StreamOptions | None = None) -> Stream:
        """A new stream. Raises `InputError` for options out of range."""
        return Stream(self, options or StreamOptions())

    def step(self, streams: Sequence[Stream]) -> list[list[Event] | Exception]:
        """Moves each of ``streams`` (all `Stream.ready`) on by one chunk; returns the events of each, in order.

        Where what follows the search raised for one stream, this stands in place of its events, and it is not to be
        stepped any more. Nothing has moved when the network raises.
        """
        self._last_step.search_seconds = 0.0
        running = [stream for stream in streams if stream.has_audio]
        if running:
            with torch.inference_mode():
                frames = torch.from_numpy(
                    np.stack([stream.next_chunk() for stream in running])
                )  # [B, frames_per_step, 80]
                rows = self.slots.rows([stream.slot for stream in running if stream.slot])
                log_probs, state = self.model(frames, self.slots.read(rows))
                scores = log_probs.cpu().numpy()
                if not np.isfinite(scores).all():
                    raise FloatingPointError("the network's outputs are infinite or no numbers")
                self.slots.write(rows, state)
            for stream, own in zip(running, scores, strict=True):
                stream.commit_chunk(own)
            states = [stream.decoder_state for stream in running]
            began = time.perf_counter()
            self.decoder.step_many(states, scores)
            for stream, guess in zip(running, self.decoder.best_many(states), strict=True):
                stream.guess = guess
            self._last_step.search_seconds = time.perf_counter() - began
        return [_advanced(stream) for stream in streams]


def _advanced(stream: Stream) -> list[Event] | Exception:
    """One's trouble is not the others'."""
    try:
        return stream.advance()
    except Exception as error:
        return error


def _read_if_any(folder: Path, manifest: Manifest, name: str, load: Callable[[Path], T]) -> T | None:
    """What ``load`` makes of a file that the manifest vouches for; None in a folder without one."""
    if name not in manifest.files:
        return None
    read_verified(folder / name, manifest.files[name])
    return load(folder / name)


class Stream:
    """All state of one stream. One owner at a time; not thread-safe."""

    def __init__(self, recognizer: Recognizer, options: StreamOptions) -> None:
        if not 1 <= options.nbest <= messages.MAX_NBEST:
            raise InputError(f"nbest must be 1 to {messages.MAX_NBEST}, not {options.nbest}")
        self._recognizer = recognizer
        self._options = options
        self._rules = endpointing.session_rules(options.endpointing)
        unigrams = recognizer.decoder.ngram.unigram_log_probs
        self._bonus = word_bonus(options.hotwords, recognizer.word_id, unigrams, recognizer.hotword_nats)
        self._overlay = recognizer.overlay(options.hotwords)
        self._own_words = self._overlay.words if self._overlay else []
        self._inbox: deque[Samples | Reason] = deque()
        self._utterance = options.first_utterance
        self._open_sentence: list[str] = []  # what finals have said of the sentence that the next one goes on with
        for final in options.finals_before:
            self._open_sentence = open_after(final, self._open_sentence)
        self._context = options.context  # what was said before, as the decoder says it
        self._samples_before = options.first_sample  # of the session before the present front end's first
        self._checkpoint_at = options.first_sample  # the last that was said
        self._flushing: Reason | None = None
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
        self._front.skip()
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
                woke = self._front.accept_silence(flush_silence(self._recognizer.model.config))
            else:
                woke = self._front.accept(item)
            if woke:
                self._wake()

    def _restart_front(self) -> None:
        self._front = FrontEnd(self._recognizer.frames_per_step)
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
        self._shown: tuple[list[int], int] = ([], 0)  # word ids in the last partial, and how many of them are settled

    # --- one step, called by Recognizer.step ------------------------------------------------------------------------

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
            self._say_checkpoint(events, self._front.cursor - PREROLL_FRAMES)
        if self._flushing is not None and not self.has_audio:
            self._front.skip()  # asleep: with what it still holds all is over
            final = self._final(self._flushing, self._hypotheses())
            self._say_checkpoint(events, self._front.cursor)
            events.append(final)
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
        if self._options.partials and shown[0] and shown != self._shown and self._heard_speech:
            self._shown = shown
            texts = [self._word(word_id) for word_id in partial.shown.ids]
            committed, rest = texts[: partial.num_committed], texts[partial.num_committed :]
            start, end = self._span(partial.shown.starts[0], partial.shown.ends[-1])
            events.append(Partial(self._utterance, " ".join(committed), " ".join(rest), start, end))
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
            self._part_utterance(events)
        elif rule:
            hypotheses = self._hypotheses()
            said = hypotheses[0].words if hypotheses else []
            if said or self._shown[0]:
                end = self._output_frame(said[-1].end_frame + 1) if said else 0
                final = self._final("endpoint", hypotheses)
                self._say_checkpoint(events, max(end, self._front.cursor - ONSET_REACH_FRAMES))
                events.append(final)
            self._restart_utterance()
        elif not words.ids and not self._holds_word and self._is_quiet:
            # The best guess may be amid a longer word, which will not go on, while a path beside it has heard one.
            is_told = bool(partial.shown.ids) or self._lasts(self._hypotheses())
            self._holds_word = self._in_speech and is_told
            if not self._holds_word:
                self._fall_asleep()

    def _part_utterance(self, events: list[Event]) -> None:
        """Ends it behind a word amid speech: the search goes on, and what it has heard since opens the next one.

        Later, if that word has not its score by the neural language model yet.
        """
        decoder, words = self._recognizer.decoder, self.guess.words
        long_ago = sum(self._output_frame(end + 1) <= self._front.cursor - CUT_BEFORE_FRAMES for end in words.ends)
        stable = decoder.commit(self.decoder_state, max(self._partial.num_committed, long_ago))
        if stable and stable >= self._partial.num_committed:
            taken = decoder.take(self.decoder_state)
            end = self._output_frame(taken.words[-1].end_frame + 1)
            final = self._final("endpoint", [taken])
            self._say_checkpoint(events, end)
            events.append(final)
            self._open_utterance(end)
            self._in_speech, self._onset = True, end
            events.append(SpeechStarted(self._seconds(end)))

    @property
    def _owes_checkpoint(self) -> bool:
        """Whether it is time to say that nothing was said for a while."""
        is_open = self._in_speech or bool(self.guess.words.ids)
        if not self._options.checkpoints or is_open or self._front.since(self._last_token) < PREROLL_SECONDS:
            return False
        settled = self._samples_before + (self._front.cursor - PREROLL_FRAMES) * FRAME_SHIFT_SAMPLES
        return settled - self._checkpoint_at >= CHECKPOINT_SAMPLES

    def _say_checkpoint(self, events: list[Event], frame: int) -> None:
        """Before ``frame`` of the present front end all is silence, or in finals so far and one that follows now."""
        inside = min(max(0, frame) * FRAME_SHIFT_SAMPLES, self._front.num_samples)
        if self._options.checkpoints and self._samples_before + inside > self._checkpoint_at:
            self._checkpoint_at = self._samples_before + inside
            events.append(Checkpoint(self._checkpoint_at, self._context))

    @property
    def _is_quiet(self) -> bool:
        """Whether neither the model nor the VAD has heard speech for a while."""
        return self._front.since(max(self._last_token, self._front.last_voiced)) >= SLEEP_AFTER_SECONDS

    @property
    def _heard_speech(self) -> bool:
        """Whether this utterance holds more than steady noise, in which the model hears words too."""
        return self._front.last_changing >= max(0, self._opened - ONSET_REACH_FRAMES)

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
        return self._recognizer.decoder.finish(self.decoder_state, self._options.nbest)

    def _final(self, reason: Reason, hypotheses: Sequence[Hypothesis]) -> Final:
        best = hypotheses[0] if hypotheses else None
        start = end = self._now()
        if best and best.words:
            self._context = best.context
            start, end = self._span(best.words[0].start_frame, best.words[-1].end_frame)
        words = self._words(best) if best else []
        written: list[str] = []
        if self._options.formatted and words:
            texts = [word.word for word in words]
            written = self._recognizer.formatter.write(texts, self._open_sentence)
            words = [structs.replace(word, written=text) for word, text in zip(words, written, strict=True)]
            self._open_sentence = open_sentence(texts, written, self._open_sentence)
        final = Final(
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
        self._utterance += 1
        return final

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
