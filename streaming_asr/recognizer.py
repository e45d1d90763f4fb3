"""Owns a recognizer: what all streams share, and the step that moves many of them on in one network pass.

All else about a stream is the `Stream`'s own. Knows nothing of sockets, or of messages on the wire.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from . import __version__
from .admission import StepCost
from .calibration import kept_cost, measure_step
from .decoder import Decoder, DecoderOptions
from .decoder_state import Overlay
from .errors import InputError, ModelError
from .features import FRAME_LENGTH_SAMPLES, FRAME_SHIFT_SAMPLES, SAMPLE_RATE
from .formatting.punctuation import Punctuator
from .formatting.writer import Formatter
from .g2p import G2P
from .hotwords import BONUS, UNKNOWN_LOG_PROB, pronounced, unknown_words, word_bonus, word_bonus_alone
from .lexicon import Lexicon
from .manifest import (
    G2P_FILE,
    LEXICON_FILE,
    MANIFEST_FILE,
    NEURAL_LM_FILE,
    PUNCTUATION_FILE,
    SHIPPED_MODEL,
    SPEECH_FILE,
    Manifest,
    read_manifest,
    read_verified,
)
from .messages import Event, StreamOptions
from .model import load_model
from .network import Device, Network, Precision, StepFunction, best_precision, find_device
from .neural_lm import NeuralLM
from .partials import PartialRule
from .search_graph import SearchGraph, read_graph
from .slots import StateSlots
from .speech_network import DEAF, SpeechNetwork
from .stream import Stream

OVERLAP_MS = 1000 * (FRAME_LENGTH_SAMPLES - FRAME_SHIFT_SAMPLES) // SAMPLE_RATE  # of a step's last frame with the next
OVERLAYS_KEPT = 32  # lists of hotwords, so that who opens a session for each command pays for them once

T = TypeVar("T")


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
        speech_network: SpeechNetwork = DEAF,
    ) -> None:
        """``version`` tells models of one name apart, as for a calibration that is kept; ``can_fork`` says whether a
        process that is forked can use them, as none can what is on a GPU; ``speech_network`` tells music from speech.
        """
        self.name = name
        self._subject = f"{name} {version}, {model.config}, {decoder.options}, streaming_asr {__version__}"
        self.can_fork = can_fork
        self.g2p = g2p  # says how hotwords sound that the lexicon lacks
        self.formatter = formatter or Formatter()
        self.speech_network = speech_network
        self.language = "en"
        self.model = model
        self.slots = StateSlots(model.initial_state)
        self.words = lexicon.words
        self.word_id = lexicon.word_id
        self._fewest_phones = lexicon.fewest_phones()
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
            speech_network = _read_if_any(folder, manifest, SPEECH_FILE, SpeechNetwork.load) or DEAF
            neural_lm = reading.result()
        try:
            decoder = Decoder(tree, ngram, options, neural_lm)
        except InputError as error:
            raise ModelError(f"{folder / LEXICON_FILE} does not fit the language models: {error}") from error
        weights = manifest.sha256[:12], manifest.files.get(NEURAL_LM_FILE, "")[:12]
        version = f"{' '.join(weights)}, {network.precision} on {device},"
        can_fork = device == "cpu"
        recognizer = cls(manifest.name, network, lexicon, decoder, formatter, g2p, version, can_fork, speech_network)
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

    def _make_overlay(self, words: tuple[str, ...], nats: float) -> Overlay | None:
        """Of words that the lexicon lacks, as `g2p` says them; None if it says none of them."""
        lexicon = pronounced(words, self.g2p) if self.g2p else None
        if not lexicon:
            return None
        score = self.decoder.options.lm_weight * UNKNOWN_LOG_PROB + nats
        return Overlay(lexicon, np.full(len(lexicon), score, np.float32))

    def stream(self, options: StreamOptions | None = None) -> Stream:
        """A new stream. Raises `InputError` for options out of range."""
        options = options or StreamOptions()
        unigrams = self.decoder.ngram.unigram_log_probs
        if options.only_hotwords:
            num_phones = self._fewest_phones
            bonus = word_bonus_alone(options.hotwords, self.word_id, unigrams, num_phones, self.hotword_nats)
        else:
            bonus = word_bonus(options.hotwords, self.word_id, unigrams, self.hotword_nats)
        overlay = self._overlay(tuple(unknown_words(options.hotwords, self.word_id)), self.hotword_nats)
        return Stream(self, options, bonus, overlay)

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
