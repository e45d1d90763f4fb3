"""What the recognizer makes of recordings that something happened to, of silence, and of noise alone.

    python -m benchmarks.robustness DIR [--limit 60] [--minutes 10] [--json]

One table: word error rate of the recordings as they are and distorted, at several speeds, and joined into one long
stream; of one or two words cut out of them, alone, and how many of these bring no text; words heard where nobody
speaks; how late a word is in the search's best guess after its end (on the audio's own clock, compute left out; word
ends by forced alignment); how far confidences lie from the share of right words.
Every distortion is drawn from the recording's number, so that two runs read the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from streaming_asr.evaluate import count_word_errors
from streaming_asr.features import SAMPLE_RATE, Samples
from streaming_asr.lexicon import Lexicon
from streaming_asr.manifest import LEXICON_FILE, SHIPPED_MODEL
from streaming_asr.messages import Final
from streaming_asr.model import load_model
from streaming_asr.partials import EVERY_GUESS
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import Recording, find_recordings, read_samples
from streaming_asr.training.distort import (
    add_noise,
    at_level,
    babble_noise,
    coloured_noise,
    faded,
    in_room,
    over_telephone,
    through_mp3,
)

from .align import Aligner
from .calibrate import calibration_error, right_words
from .compute import play_in_process
from .material import load_recognizer, spread
from .noises import ROOM_DBFS, Noise, without_speech
from .replay import Clip
from .timeline import TimedWord, percentile, word_latencies

PAUSE_SECONDS = 0.5  # between joined recordings
LONE_WORD_PAUSE_SECONDS = 1.0  # before and after a lone word
LONE_WORD_MARGIN_SECONDS = 0.06  # cut out with it: an alignment tells where its sounds were named

Distortion = Callable[[Samples, np.random.Generator], Samples]


def conditions(recordings: Sequence[Recording]) -> dict[str, Distortion]:
    """Name and what is done to a recording, float32 [N] at 16 kHz, with a generator of its own."""

    def noisy(snr_db: float) -> Distortion:
        return lambda x, rng: add_noise(x, coloured_noise(len(x), 1.0, rng), snr_db)

    def babble(x: Samples, rng: np.random.Generator) -> Samples:
        def voice() -> Samples:
            return read_samples(recordings[int(rng.integers(len(recordings)))].path)

        return add_noise(x, babble_noise(len(x), rng, voice), 10)

    def faster(factor: float) -> Distortion:
        return lambda x, rng: soxr.resample(x, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)

    return {
        "as recorded": lambda x, rng: x,
        "pink noise, SNR 20 dB": noisy(20),
        "pink noise, SNR 10 dB": noisy(10),
        "pink noise, SNR 5 dB": noisy(5),
        "other voices, SNR 10 dB": babble,
        "room, 0.4 s reverberation": lambda x, rng: in_room(x, reverberation_seconds=0.4, direct_db=3, rng=rng),
        "telephone, 8 kHz mu-law": lambda x, rng: over_telephone(x),
        "MP3, 24 kbit/s": lambda x, rng: through_mp3(x, 0.9),
        "0.8 x speed": faster(0.8),
        "1.2 x speed": faster(1.2),
        "20 dB quieter": lambda x, rng: 0.1 * x,
    }


def transcribe(recognizer: Recognizer, blocks: Iterator[Samples]) -> list[Final]:
    """Finals of one stream."""
    stream = recognizer.stream()
    events = [event for block in blocks for event in stream.accept(block)] + stream.finish()
    return [event for event in events if isinstance(event, Final)]


def text_of(finals: Sequence[Final]) -> str:
    """Their words in one line."""
    return " ".join(final.text for final in finals if final.text)


def joined(recordings: Sequence[Recording]) -> Iterator[Samples]:
    """All of them in one stream, with pauses of digital silence."""
    for recording in recordings:
        yield read_samples(recording.path)
        yield np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)


def words_a_minute(recognizer: Recognizer, noise: Noise, minutes: float) -> float:
    """Words heard in a stream of ``noise``, where there is no speech."""
    rng = np.random.default_rng(0)
    finals = transcribe(recognizer, (noise(SAMPLE_RATE * 10, rng) for _ in range(round(minutes * 6))))
    return len(text_of(finals).split()) / minutes


def lone_words(
    samples: Samples, words: Sequence[TimedWord], rng: np.random.Generator
) -> list[tuple[list[str], Samples]]:
    """A word, and two in a row, cut out of float32 [N] and put into a quiet room: what was said, float32 [M]."""
    pieces = []
    for count in (1, 2):
        if len(words) >= count:
            first = int(rng.integers(len(words) - count + 1))
            chosen = words[first : first + count]
            start = round((chosen[0].start - LONE_WORD_MARGIN_SECONDS) * SAMPLE_RATE)
            end = round((chosen[-1].end + LONE_WORD_MARGIN_SECONDS) * SAMPLE_RATE)
            cut = faded(samples[max(0, start) : end])
            around = round(LONE_WORD_PAUSE_SECONDS * SAMPLE_RATE)
            heard = at_level(coloured_noise(len(cut) + 2 * around, 1.0, rng), ROOM_DBFS)
            heard[around : around + len(cut)] += cut
            pieces.append(([word.word for word in chosen], heard))
    return pieces


def correctness(reference: Sequence[str], finals: Sequence[Final]) -> list[tuple[float, bool]]:
    """Confidence of each recognized word, and whether the transcript has it there."""
    words = [word for final in finals for word in final.words]
    right = right_words(reference, [word.word for word in words])
    return [(word.confidence, ok) for word, ok in zip(words, right, strict=True)]


def measure(
    recognizer: Recognizer, aligner: Aligner, recordings: Sequence[Recording], minutes: float
) -> dict[str, Any]:
    """All figures: WER by condition, joined and of lone words; words a minute without speech, latency, calibration."""
    wer: dict[str, float] = {}
    confidences: list[tuple[float, bool]] = []
    for name, distortion in conditions(recordings).items():
        pairs = []
        for number, recording in enumerate(recordings):
            heard = distortion(read_samples(recording.path), np.random.default_rng(number))
            finals = transcribe(recognizer, iter([heard]))
            reference = " ".join(recording.words)
            pairs.append((reference, text_of(finals)))
            if name == "as recorded":
                confidences += correctness(recording.words, finals)
        wer[name] = round(count_word_errors(pairs).wer, 4)
    whole = " ".join(word for recording in recordings for word in recording.words)
    long = count_word_errors([(whole, text_of(transcribe(recognizer, joined(recordings))))]).wer
    timed = {}
    lone: list[tuple[str, str]] = []
    for number, recording in enumerate(recordings):
        samples = read_samples(recording.path)
        timed[recording.utterance] = aligner.align(samples, recording.words)
        for words, heard in lone_words(samples, timed[recording.utterance], np.random.default_rng(number)):
            lone.append((" ".join(words), text_of(transcribe(recognizer, iter([heard])))))
    heard_alone = {
        name: round(words_a_minute(recognizer, noise, minutes), 2) for name, noise in without_speech().items()
    }
    latencies = []
    recognizer.partial_rule = EVERY_GUESS
    for recording in recordings:
        samples = read_samples(recording.path)
        clip = Clip(recording.utterance, samples, timed[recording.utterance], recording.words)
        latencies += [word.seconds for word in word_latencies(play_in_process(recognizer, clip).timeline)]
    return {
        "model": recognizer.name,
        "recordings": len(recordings),
        "words": len(whole.split()),
        "wer": wer,
        "long_form_wer": round(long, 4),
        "lone_words": {
            "count": len(lone),
            "lost": sum(not text for _, text in lone),
            "wer": round(count_word_errors(lone).wer, 4),
        },
        "words_a_minute": heard_alone,
        "minutes_without_speech": minutes,
        "emission_ms": {f"p{p}": round(1000 * percentile(latencies, p)) for p in (50, 90)} if latencies else {},
        "calibration_error": round(calibration_error(confidences), 4),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    minutes = figures["minutes_without_speech"]
    rows = [("what is heard", "WER"), ("---", "---")]
    rows += [(name, f"{100 * value:.1f} %") for name, value in figures["wer"].items()]
    rows += [("joined into one stream", f"{100 * figures['long_form_wer']:.1f} %")]
    lone = figures["lone_words"]
    rows += [("one or two words alone", f"{100 * lone['wer']:.1f} %")]
    rows += [(f"of {lone['count']} of these, without any text", f"{lone['lost']}"), ("", "")]
    rows += [(f"{minutes:g} min without speech", "words a minute"), ("---", "---")]
    rows += [(name, f"{value:g}") for name, value in figures["words_a_minute"].items()]
    lines = [f"| {left} | {right} |" if left else "" for left, right in rows]
    lines += ["", f"Word emitted after its end, compute left out: {figures['emission_ms']} ms."]
    lines += [f"Expected calibration error of word confidences: {figures['calibration_error']:.3f}."]
    return "\n".join([f"{figures['recordings']} recordings, {figures['words']} words, {figures['model']}", "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each sound without speech")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recordings = spread(find_recordings([options.folder]), options.limit)
    aligner = Aligner(load_model(options.model), Lexicon.from_file(options.model / LEXICON_FILE))
    figures = measure(load_recognizer(options.model), aligner, recordings, options.minutes)
    print(json.dumps(figures) if options.json else table(figures))


if __name__ == "__main__":
    main()
