"""Owns the arithmetic of latency: what was said when, what was shown when, and the figures that follow.

Pure: knows no socket, no clock, no file and no server. Every time is in seconds. `Timeline.origin` is the instant, on
the clock of the receiver, at which the first sample was spoken; the sample at audio time t was spoken at
``origin + t``, because recordings are replayed at the pace of speech. So a latency is what a listener would see on a
screen: capture block, network, queue, compute and emission together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rapidfuzz.distance import Levenshtein

Kind = Literal["partial", "final"]

PERCENTILES = (50, 90, 95, 99)
PAUSE_SECONDS = 0.5  # a final between words closer than this has cut an utterance; further apart, it found a pause


@dataclass(frozen=True)
class TimedWord:
    """One word of the reference; seconds of audio."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Shown:
    """One message of the server with text in it, as received."""

    received: float
    kind: Kind
    utterance: int
    words: tuple[str, ...]
    num_committed: int = 0  # of `words`, which the server promised to keep
    reason: str = ""  # of a final: endpoint, finalize, stop, or the server's own word


@dataclass(frozen=True)
class Timeline:
    """One session: one recording played to one server."""

    recording: str
    origin: float
    audio_seconds: float  # spoken; silence appended by the replay is not counted
    shown: tuple[Shown, ...]
    reference: tuple[TimedWord, ...] = ()  # empty when there is no alignment
    finalize_sent: float | None = None
    stop_sent: float | None = None
    done: float | None = None  # the session's orderly end; None: it broke, see `error`
    error: str = ""

    @property
    def finals(self) -> list[Shown]:
        """Finals in order of arrival."""
        return [message for message in self.shown if message.kind == "final"]

    @property
    def text(self) -> str:
        """What was recognized in the end."""
        return " ".join(word for final in self.finals for word in final.words)


# --- words ---------------------------------------------------------------------------------------------------------


def matches(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of words that a minimal edit from ``before`` to ``after`` keeps, in order."""
    first = 0
    while first < min(len(before), len(after)) and before[first] == after[first]:
        first += 1
    pairs = [(index, index) for index in range(first)]
    for step in Levenshtein.opcodes(list(before[first:]), list(after[first:])):
        if step.tag == "equal":
            starts = range(step.src_start, step.src_end), range(step.dest_start, step.dest_end)
            pairs += [(first + b, first + a) for b, a in zip(*starts, strict=True)]
    return pairs


def kept_since(messages: Sequence[Shown]) -> list[float]:
    """For each word of the last message, when it was first received in a message from which on it was always there.

    ``messages`` are those of one utterance in order, the final last.
    """
    if not messages:
        return []
    final = messages[-1]
    since = [final.received] * len(final.words)
    alive = set(range(len(final.words)))
    for message in reversed(messages[:-1]):
        # A partial is compared with as much of the final as it can stand for, so that a word that occurs twice is
        # not taken for its later self.
        ahead = final.words[: len(message.words) + 2]
        alive &= {index for _, index in matches(message.words, ahead)}
        for index in alive:
            since[index] = message.received
        if not alive:
            break
    return since


def utterances(shown: Iterable[Shown]) -> dict[int, list[Shown]]:
    """Messages by utterance; what comes after an utterance's final is dropped."""
    grouped: dict[int, list[Shown]] = {}
    for message in shown:
        group = grouped.setdefault(message.utterance, [])
        if not group or group[-1].kind != "final":
            group.append(message)
    return grouped


@dataclass(frozen=True)
class WordLatency:
    """From a word's end to its receipt in a message that keeps it. ``index`` counts the reference's words."""

    recording: str
    index: int
    seconds: float
    spoken_at: float  # on the receiver's clock


def word_latencies(timeline: Timeline) -> list[WordLatency]:
    """One for each word of the reference that was recognized in the end; others have none."""
    words: list[str] = []
    since: list[float] = []
    for messages in utterances(timeline.shown).values():
        if messages[-1].kind == "final":
            words += messages[-1].words
            since += kept_since(messages)
    return [
        WordLatency(
            timeline.recording,
            index,
            since[recognized] - (timeline.origin + timeline.reference[index].end),
            timeline.origin + timeline.reference[index].end,
        )
        for index, recognized in matches([word.word for word in timeline.reference], words)
    ]


def first_partial(timeline: Timeline) -> float | None:
    """From the start of the first word to the first text on the screen."""
    received = [message.received for message in timeline.shown if message.words]
    if not received or not timeline.reference:
        return None
    return min(received) - (timeline.origin + timeline.reference[0].start)


# --- retractions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retractions:
    """Words that were put on the screen, those of them that were taken back or changed, and broken promises."""

    shown: int = 0
    retracted: int = 0
    committed_retracted: int = 0

    @property
    def share(self) -> float:
        """Of the words shown."""
        return self.retracted / self.shown if self.shown else 0.0

    def __add__(self, other: Retractions) -> Retractions:
        return Retractions(
            self.shown + other.shown,
            self.retracted + other.retracted,
            self.committed_retracted + other.committed_retracted,
        )


def retractions(timeline: Timeline) -> Retractions:
    """Counts from message to message of each utterance, its final included.

    A word counts as shown when it appears, and as retracted when the next message drops or changes it; a word that
    merely moves because one before it changed is kept.
    """
    total = Retractions()
    for messages in utterances(timeline.shown).values():
        before = Shown(0.0, "partial", 0, ())
        for message in messages:
            kept = len(matches(before.words, message.words))
            promised = before.words[: before.num_committed]
            broken = len(promised) - _common_prefix(promised, message.words)
            total += Retractions(len(message.words) - kept, len(before.words) - kept, broken)
            before = message
    return total


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


# --- ends ----------------------------------------------------------------------------------------------------------


def finalize_latency(timeline: Timeline) -> float | None:
    """From sending ``finalize`` to the final that answers it; another may end by itself meanwhile."""
    if timeline.finalize_sent is None:
        return None
    return next((f.received - timeline.finalize_sent for f in timeline.finals if f.reason == "finalize"), None)


@dataclass(frozen=True)
class Endpoint:
    """How one recording ended under endpointing. ``latency`` is None when no endpoint came before the audio stopped."""

    latency: float | None
    cut_early: int  # finals that came although the next word was less than PAUSE_SECONDS away
    at_pauses: int  # finals in a real pause


def endpoint(timeline: Timeline, pause_seconds: float = PAUSE_SECONDS) -> Endpoint | None:
    """Speech end (the last reference word's) to the final that endpointing sent; None without a reference.

    Where a final stands in the reference is told by its words, not by the server's times.
    """
    reference = timeline.reference
    if not reference:
        return None
    endpoints = [f for f in timeline.finals if timeline.stop_sent is None or f.received <= timeline.stop_sent]
    endpoints = [final for final in endpoints if final.reason not in ("finalize", "stop") and final.words]
    recognized = [word for final in timeline.finals for word in final.words]
    position = {there: here for here, there in matches([word.word for word in reference], recognized)}
    early = at_pauses = num_words = 0
    for final in endpoints:
        num_words += len(final.words)
        before = max((here for there, here in position.items() if there < num_words), default=None)
        after = min((here for there, here in position.items() if there >= num_words), default=None)
        if before is None or after is None:
            continue  # nothing of the reference before or after it
        # Between the two matched words some may have been misheard; the widest gap is the one that was found.
        gaps = [reference[i + 1].start - reference[i].end for i in range(before, after)]
        if max(gaps) < pause_seconds:
            early += 1
        else:
            at_pauses += 1
    speech_end = timeline.origin + reference[-1].end
    last = endpoints[-1] if endpoints and num_words == len(recognized) else None
    return Endpoint(last.received - speech_end if last else None, early, at_pauses)


# --- streams side by side ------------------------------------------------------------------------------------------


def added_latencies(
    alone: Iterable[Timeline], loaded: Iterable[Timeline], window: tuple[float, float] = (-math.inf, math.inf)
) -> list[float]:
    """For each word of ``loaded`` that was also recognized alone: its latency minus the one it had alone.

    Only words spoken within ``window`` count, on the receiver's clock: while all streams were playing.
    A recording that was played alone more than once counts with its median.
    """
    baseline: dict[tuple[str, int], list[float]] = {}
    for timeline in alone:
        for word in word_latencies(timeline):
            baseline.setdefault((word.recording, word.index), []).append(word.seconds)
    return [
        word.seconds - percentile(baseline[word.recording, word.index], 50)
        for timeline in loaded
        for word in word_latencies(timeline)
        if (word.recording, word.index) in baseline and window[0] <= word.spoken_at <= window[1]
    ]


def recognized_seconds(timeline: Timeline, by: float) -> float:
    """How much of its audio had been recognized ``by`` then, on the receiver's clock.

    Up to the end of the last word received in a message that keeps it; all of it once the final that answers
    ``finalize`` is there, or else the session's end.
    """
    latency = finalize_latency(timeline)
    settled = timeline.done if latency is None else (timeline.finalize_sent or 0.0) + latency
    if settled is not None and settled <= by:
        return timeline.audio_seconds
    words = word_latencies(timeline)
    return max((timeline.reference[w.index].end for w in words if w.spoken_at + w.seconds <= by), default=0.0)


def throughput(timelines: Iterable[Timeline], window: tuple[float, float]) -> float:
    """Seconds of audio recognized within ``window`` for each of its seconds; 0 for an empty one."""
    begin, end = window
    if end <= begin:
        return 0.0
    return sum(recognized_seconds(t, end) - recognized_seconds(t, begin) for t in timelines) / (end - begin)


# --- distributions -------------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the closest ranks, as numpy's default. NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def cdf(values: Sequence[float], num_points: int = 101) -> list[tuple[float, float]]:
    """(value, share at or below it) at evenly spaced shares; for plots."""
    if not values:
        return []
    shares = [index / (num_points - 1) for index in range(num_points)]
    return [(percentile(values, 100 * share), share) for share in shares]


@dataclass(frozen=True)
class Distribution:
    """Latencies in milliseconds. ``percentiles`` by name: p50, p90, p95, p99, max."""

    count: int
    percentiles: Mapping[str, float]
    cdf: Sequence[tuple[float, float]] = field(default=())

    @classmethod
    def of_seconds(cls, values: Iterable[float]) -> Distribution:
        """Of values in seconds."""
        ms = [1000 * value for value in values]
        named = {f"p{percent}": round(percentile(ms, percent), 2) for percent in PERCENTILES} if ms else {}
        if ms:
            named["max"] = round(max(ms), 2)
        return cls(len(ms), named, [(round(x, 2), round(y, 4)) for x, y in cdf(ms)])


@dataclass(frozen=True)
class Summary:
    """The figures of a set of sessions; latencies in ms."""

    sessions: int
    failed: int
    words: Distribution
    words_used: float  # share of the reference's words that have a latency
    first_partial: Distribution
    finalize: Distribution
    endpoint: Distribution
    endpoint_missing: int  # sessions whose speech end was not found before the audio stopped
    cut_early: float  # share of sessions with a final between words less than PAUSE_SECONDS apart
    retracted: float  # share of the words shown
    committed_retracted: int


def summarize(timelines: Sequence[Timeline]) -> Summary:
    """All figures of a run. Endpoint figures are of sessions that sent no ``finalize``."""
    good = [timeline for timeline in timelines if timeline.done is not None]
    words = [word.seconds for timeline in good for word in word_latencies(timeline)]
    num_reference = sum(len(timeline.reference) for timeline in good)
    finalizes = [value for timeline in good if (value := finalize_latency(timeline)) is not None]
    partials = [value for timeline in good if (value := first_partial(timeline)) is not None]
    ends = [end for t in good if t.finalize_sent is None and (end := endpoint(t)) is not None]
    taken_back = sum((retractions(timeline) for timeline in good), Retractions())
    return Summary(
        sessions=len(timelines),
        failed=len(timelines) - len(good),
        words=Distribution.of_seconds(words),
        words_used=round(len(words) / num_reference, 4) if num_reference else 0.0,
        first_partial=Distribution.of_seconds(partials),
        finalize=Distribution.of_seconds(finalizes),
        endpoint=Distribution.of_seconds(end.latency for end in ends if end.latency is not None),
        endpoint_missing=sum(end.latency is None for end in ends),
        cut_early=round(sum(end.cut_early > 0 for end in ends) / len(ends), 4) if ends else 0.0,
        retracted=round(taken_back.share, 5),
        committed_retracted=taken_back.committed_retracted,
    )
