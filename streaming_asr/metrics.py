"""Owns what the server tells Prometheus: names, labels, buckets. Counts and durations only; nothing of what was said.

Labels have few values: protocols, error codes, reasons. Methods may be called from any thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 2.0, 5.0, 10.0)
MAX_ARRIVALS = 1024  # remembered of one stream; at most so many frames can be in the server and not yet answered


class _Workers(Collector):
    """`ProcessCollector` tells what the server's own process uses; this, its children."""

    def __init__(self, usage: Callable[[], tuple[float, int]]) -> None:
        self._usage = usage

    def collect(self) -> Iterator[Metric]:
        cpu_seconds, resident_bytes = self._usage()
        name = "streaming_asr_workers"
        yield CounterMetricFamily(f"{name}_cpu_seconds", "Processor time of the workers' processes", cpu_seconds)
        words = "Their memory, with what each shares with the server"
        yield GaugeMetricFamily(f"{name}_resident_memory_bytes", words, resident_bytes)


class Metrics:
    """One server's."""

    def __init__(
        self,
        version: str,
        model: str,
        is_ready: Callable[[], bool],
        num_streams: Callable[[], int],
        workers: Callable[[], tuple[float, int]],
    ) -> None:
        """``workers``: processor seconds so far and resident bytes of the workers' processes."""
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time, file descriptors
        registry.register(_Workers(workers))

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"streaming_asr_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, *labels: str) -> Gauge:
            return Gauge(f"streaming_asr_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str) -> Histogram:
            return Histogram(f"streaming_asr_{name}_seconds", words, buckets=SECONDS, registry=registry)

        Info("streaming_asr", "What serves", registry=registry).info({"version": version, "model": model})
        gauge("ready", "Whether sessions are taken and recognized").set_function(is_ready)
        gauge("streams", "Recognizer streams that are held").set_function(num_streams)
        self.max_sessions = gauge("max_sessions", "Sessions that are carried at once")
        self.sessions = gauge("sessions", "Sessions that are open", "protocol")
        self.sessions_ended = counter(
            "sessions_ended", "Sessions by the error that ended them, or none", "protocol", "error"
        )
        self.refusals = counter("refusals", "Sessions refused before they began", "reason")
        self.audio_seconds = counter("audio_seconds", "Audio received", "protocol")
        self.compute_seconds = counter("compute_seconds", "Time the worker spent in steps")
        self.step_streams = counter("step_streams", "Streams moved on by steps")
        self.steps = counter("steps", "Steps of the worker")
        self.queue_seconds = histogram("queue", "From a stream being ready for a step to the step")
        self.word_seconds = histogram(
            "word_latency", "From the audio in which a partial's last word ends to that partial"
        )
        self.lag_seconds = histogram("event_loop_lag", "How much later than asked the event loop came round")
        self.worker_restarts = counter("worker_restarts", "Workers that died or stood still and were replaced")

    def exposition(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self._registry)


class WordLatency:
    """How long after a word was heard its stream says it first. Times are on the caller's clock."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=MAX_ARRIVALS)  # (seconds of audio so far, when)
        self._told_seconds = 0.0

    def heard(self, audio_seconds: float, now: float) -> None:
        """The first `audio_seconds` of the session's audio have come."""
        self._arrivals.append((audio_seconds, now))

    def said(self, end_seconds: float, now: float) -> float | None:
        """A partial's last word ends at `end_seconds`: since when it could be known; `None` if it was told before."""
        if end_seconds <= self._told_seconds:
            return None
        self._told_seconds = end_seconds
        while len(self._arrivals) > 1 and self._arrivals[0][0] < end_seconds:
            self._arrivals.popleft()
        return max(0.0, now - self._arrivals[0][1]) if self._arrivals else None
