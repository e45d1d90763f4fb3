"""Owns one stream's way from samples to the frames of its next step, asleep or awake.

Asleep nothing is due, until any sign of speech in a new frame wakes the stream: it then goes back by `PREROLL_FRAMES`
from there, also over frames that it had stepped before it slept, since a network that starts anew at the first sound
of a word hears it badly. Frames count from 0, 10 ms each, and know what signs of speech were in those that are past.

Must not know networks, decoders or words: who has it says when it may sleep.
"""

from __future__ import annotations

import numpy as np

from .features import (
    FRAME_LENGTH_SAMPLES,
    FRAME_SHIFT_SAMPLES,
    FRAME_SHIFT_SECONDS,
    NUM_MEL_BINS,
    Features,
    FeatureStream,
    Samples,
)
from .level import SpeechLevel
from .speech_network import SpeechNetwork
from .tones import SpeechChanges
from .vad import CHANGING, MAYBE_SPEECH, VOICED, VoiceActivityDetector

PREROLL_FRAMES = 48  # 480 ms that a waking stream hears again


class FrontEnd:
    """Of audio from its start to a flush. Awake at first."""

    def __init__(self, frames_per_step: int, level: SpeechLevel, network: SpeechNetwork) -> None:
        """``level``: the stream's, that goes on from one front end to the next. ``network`` tells music from speech."""
        self._level = level
        self._frames_per_step = frames_per_step
        self._features = FeatureStream()
        self._vad = VoiceActivityDetector()
        self._frames = np.zeros((0, NUM_MEL_BINS), np.float32)  # the last before the cursor, and all behind it
        self._signs = self._vad.accept(self._frames[:0, 0], self._frames)  # of each of _frames
        self._num_past = 0  # of _frames, that are before the cursor
        self.is_asleep = False
        self.num_samples = 0  # accepted, but for the silence of a flush
        self.cursor = 0  # the next frame to be stepped
        self.awake_since = 0  # the sign that woke it, a frame as all these; -1: none
        self.last_sign = self.last_voiced = self.voice_onset = -1  # of those before the cursor
        self._changes = SpeechChanges(network)
        self._looked_until = 0  # a frame; changes of those before it are known

    # --- what comes in ----------------------------------------------------------------------------------------------

    def accept(self, samples: Samples) -> bool:
        """Audio, float32 [N]. Whether it woke the stream."""
        self.num_samples += len(samples)
        return self.accept_silence(samples)

    def accept_silence(self, samples: Samples) -> bool:
        """What follows the last sample, float32 [N], and is none of the audio. Whether it woke the stream."""
        frames = self._features.accept(samples)
        signs = self._vad.accept(samples, frames)
        self._level.lift(frames, signs)
        self._frames = np.concatenate((self._frames, frames))
        self._signs = np.concatenate((self._signs, signs))
        return self.is_asleep and self._listen()

    def fall_asleep(self) -> bool:
        """Nothing is due from now on; whether what is there already woke the stream again."""
        self.is_asleep = True
        return self._listen()

    def _listen(self) -> bool:
        """Wakes at the first sign of speech behind the cursor, before which it goes back; else moves past all."""
        signs = np.flatnonzero(self._signs[self._num_past :, MAYBE_SPEECH])
        if not len(signs):
            self.skip()
            return False
        sign = self.cursor + int(signs[0])
        start = self._start_before(sign)
        self._num_past -= self.cursor - start
        self.cursor = start
        self.awake_since = sign
        self.is_asleep = False
        return True

    def _start_before(self, sign: int) -> int:
        """Where a stream that a sign wakes begins; steps end where they would have without sleep."""
        start = max(0, sign - PREROLL_FRAMES)
        return start - start % self._frames_per_step

    # --- steps ------------------------------------------------------------------------------------------------------

    @property
    def _num_due(self) -> int:
        return len(self._frames) - self._num_past

    @property
    def has_step(self) -> bool:
        """Whether a whole step is due."""
        return not self.is_asleep and self._num_due >= self._frames_per_step

    @property
    def has_frames(self) -> bool:
        """Whether any frame is due."""
        return not self.is_asleep and self._num_due > 0

    @property
    def missing_samples(self) -> int:
        """How much audio a whole step takes at least; asleep, any sound may make one."""
        if self.is_asleep:
            return 0
        last_frame = self.cursor + self._frames_per_step - 1
        return last_frame * FRAME_SHIFT_SAMPLES + FRAME_LENGTH_SAMPLES - self.num_samples

    def next_step(self) -> Features:
        """The next frames, float32 [frames_per_step, 80]; at a flush the last frame fills a short step up."""
        frames: Features = self._frames[self._num_past : self._num_past + self._frames_per_step]
        if len(frames) < self._frames_per_step:
            frames = np.concatenate((frames, np.repeat(frames[-1:], self._frames_per_step - len(frames), axis=0)))
        return frames

    def step(self) -> None:
        """Moves past `next_step`, and notes its signs of speech."""
        step = slice(self._num_past, self._num_past + self._frames_per_step)
        frames, signs = self._frames[step], self._signs[step]
        known = min(max(0, self._looked_until - self.cursor), len(frames))
        self._changes.accept(frames[known:], signs[known:, CHANGING], self.cursor + known)
        if signs[:, MAYBE_SPEECH].any():
            self.last_sign = self.cursor + int(np.flatnonzero(signs[:, MAYBE_SPEECH])[-1])
        for frame in (self.cursor + np.flatnonzero(signs[:, VOICED])).tolist():
            if frame - self.last_voiced > 1:
                self.voice_onset = frame
            self.last_voiced = frame
        end = self.cursor + self._frames_per_step
        self._move(len(frames))
        self.cursor = end
        self._looked_until = max(end, self._looked_until)

    def skip(self) -> None:
        """Moves past all that is there."""
        self._move(self._num_due)

    def _move(self, num_frames: int) -> None:
        """Moves on, and forgets what no sign can bring back."""
        self.cursor += num_frames
        self._num_past += num_frames
        forgotten = max(0, self._num_past - PREROLL_FRAMES - self._frames_per_step + 1)
        self._frames, self._signs = self._frames[forgotten:], self._signs[forgotten:]
        self._num_past -= forgotten

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> int:
        """The frame before which nothing is heard again, whatever comes."""
        return self._start_before(self.cursor)

    def since(self, frame: int) -> float:
        """Seconds awake since this frame."""
        return (self.cursor - max(frame, self.awake_since)) * FRAME_SHIFT_SECONDS

    @property
    def last_speech_change(self) -> int:
        """The last frame whose change may be speech, once the frames after it show no tone or music; -1: none."""
        return self._changes.last

    @property
    def nbytes(self) -> int:
        """Of the frames that are held."""
        return self._frames.nbytes + self._signs.nbytes
