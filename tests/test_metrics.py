from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from streaming_asr.metrics import Metrics, WordLatency


def test_the_exposition_is_what_prometheus_reads() -> None:
    metrics = Metrics("1.0", "en-test", lambda: True, lambda: 3, lambda: (1.5, 7000))
    metrics.refusals.labels("unauthorized").inc()
    metrics.word_seconds.observe(0.12)
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    assert samples["streaming_asr_info", "1.0", "en-test"] == 1
    assert samples["streaming_asr_ready",] == 1
    assert samples["streaming_asr_streams",] == 3
    assert samples["streaming_asr_refusals_total", "unauthorized"] == 1
    assert samples["streaming_asr_word_latency_seconds_bucket", "0.1"] == 0
    assert samples["streaming_asr_word_latency_seconds_bucket", "0.15"] == 1
    assert samples["process_resident_memory_bytes",] > 0
    assert samples["streaming_asr_workers_cpu_seconds_total",] == 1.5
    assert samples["streaming_asr_workers_resident_memory_bytes",] == 7000


def test_a_word_is_late_from_when_its_end_was_heard() -> None:
    latency = WordLatency()
    for i in range(1, 6):
        latency.heard(i / 10, 100 + i / 10)
    assert latency.said(0.25, 100.4) == 100.4 - 100.3  # which came with the third packet
    assert latency.said(0.25, 100.5) is None  # the same word again
    assert latency.said(0.5, 101.0) == 0.5
    assert latency.said(0.6, 101.0) == 0.5  # an end beyond the audio: a rounding
    assert WordLatency().said(1.0, 5.0) is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2))))
def test_latencies_are_never_negative(steps: list[tuple[bool, float]]) -> None:
    latency = WordLatency()
    audio = now = 0.0
    for hears, seconds in steps:
        now += seconds
        if hears:
            audio += seconds
            latency.heard(audio, now)
        else:
            assert (latency.said(seconds * 10, now) or 0.0) >= 0.0
