"""Owns recognizers that run in this process, to be measured beside each other: ours, and PocketSphinx.

Each gives streams that take audio and return events, as `streaming_asr.Recognizer` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from streaming_asr.errors import InputError
from streaming_asr.features import SAMPLE_RATE, Samples
from streaming_asr.messages import Event, Final, Partial

from .material import load_recognizer
from .replay import pcm_blocks


class InProcessStream(Protocol):
    """One recording, in chunks."""

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Feeds float32 [N], 16 kHz; returns what that made known."""

    def finish(self) -> Sequence[Event]:
        """Ends the recording."""


class InProcessEngine(Protocol):
    """What is measured."""

    @property
    def name(self) -> str:
        """For the report."""

    def stream(self) -> InProcessStream:
        """A new recording."""


class PocketSphinx:
    """PocketSphinx with the model that its package brings (en-us); ``pip install pocketsphinx``."""

    name = "pocketsphinx en-us"

    def __init__(self) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise InputError("PocketSphinx is not installed: pip install pocketsphinx") from error
        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def stream(self) -> _PocketSphinxStream:
        return _PocketSphinxStream(self._decoder)


class _PocketSphinxStream:
    """Its hypothesis at any time is a partial, none of which it promises to keep; one at a time."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._said = ""
        decoder.start_utt()

    def accept(self, samples: Samples) -> list[Event]:
        for block in pcm_blocks(samples, SAMPLE_RATE):
            self._decoder.process_raw(block.tobytes(), False, False)
        said = self._hypothesis()
        if said == self._said:
            return []
        self._said = said
        return [Partial(0, "", said, 0.0, 0.0)]

    def finish(self) -> list[Event]:
        self._decoder.end_utt()
        return [Final(0, self._hypothesis(), 0.0, 0.0, 1.0, "stop")]

    def _hypothesis(self) -> str:
        found = self._decoder.hyp()
        return found.hypstr if found is not None else ""


ENGINES: dict[str, Callable[[], InProcessEngine]] = {"ours": load_recognizer, "pocketsphinx": PocketSphinx}
