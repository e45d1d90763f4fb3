"""Bytes to samples: the same under any chunking, nothing lost, bad input named."""

from itertools import pairwise
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr import messages
from streaming_asr.audio import ALAW, ENCODINGS, MULAW, AudioDecoder, Samples
from streaming_asr.errors import ClientError

RATES = [8000, 8001, 11025, 16000, 22050, 24000, 44100, 47999, 48000]


def decode(decoder: AudioDecoder, chunks: list[bytes], flush: bool = True) -> Samples:
    parts = [decoder.accept(chunk) for chunk in chunks]
    return np.concatenate([*parts, decoder.flush()] if flush else parts)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(point, len(data)) for point in points), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def sine(frequency: float, sample_rate: int, seconds: float) -> npt.NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)


def test_the_encodings_are_those_of_the_protocol() -> None:
    assert {*ENCODINGS, "container"} == set(get_args(messages.Encoding))


@given(
    data=st.binary(max_size=4000),
    points=st.lists(st.integers(0, 4000), max_size=12),
    encoding=st.sampled_from(["pcm_s16le", "mulaw", "alaw"]),
    sample_rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2]),
)
@settings(deadline=None)
def test_output_does_not_depend_on_the_chunking(
    data: bytes, points: list[int], encoding: str, sample_rate: int, channels: int
) -> None:
    whole = decode(AudioDecoder(encoding, sample_rate, channels), [data])
    pieces = decode(AudioDecoder(encoding, sample_rate, channels), cut(data, points))
    np.testing.assert_array_equal(whole, pieces)
    assert whole.dtype == np.float32
    assert len(whole) == 0 or float(np.abs(whole).max()) <= 1.0


@settings(deadline=None)
@given(values=st.lists(st.floats(width=32), max_size=200), points=st.lists(st.integers(0, 800), max_size=6))
def test_floats_are_clipped_and_refused_when_not_finite(values: list[float], points: list[int]) -> None:
    data = np.array(values, dtype="<f4").tobytes()
    decoder = AudioDecoder("pcm_f32le", 16000, 1)
    if np.isfinite(values).all():
        expected = np.clip(np.array(values, dtype=np.float32), -1, 1)
        np.testing.assert_array_equal(decode(decoder, cut(data, points)), expected)
    else:
        with pytest.raises(ClientError) as caught:
            decode(decoder, cut(data, points))
        assert (caught.value.code, caught.value.close_code) == ("bad_audio", 1007)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_one_byte_at_a_time(encoding: str, channels: int) -> None:
    data = np.random.default_rng(0).uniform(-1, 1, 64).astype("<f4").tobytes()  # finite in every encoding
    whole = decode(AudioDecoder(encoding, 16000, channels), [data])
    single = decode(AudioDecoder(encoding, 16000, channels), [data[i : i + 1] for i in range(len(data))])
    np.testing.assert_array_equal(whole, single)
    assert len(whole) == len(data) // (ENCODINGS[encoding][0] * channels)


def test_an_incomplete_frame_waits_for_the_rest_across_a_flush() -> None:
    decoder = AudioDecoder("pcm_s16le", 16000, 2)
    assert len(decoder.accept(b"\x00\x40\x00")) == 0
    assert decoder.pending_bytes == 3
    decoder.flush()
    np.testing.assert_array_equal(decoder.accept(b"\x20"), [0.375])  # the mean of 0.5 and 0.25
    assert decoder.pending_bytes == 0
    assert decoder.seconds == 1 / 16000


def test_pcm_s16le_spans_the_range() -> None:
    data = np.array([-32768, -1, 0, 1, 32767], dtype="<i2").tobytes()
    np.testing.assert_array_equal(
        AudioDecoder("pcm_s16le", 16000, 1).accept(data), np.array([-32768, -1, 0, 1, 32767]) / 32768
    )


def expand_mulaw(code: int) -> float:
    """G.711 mu-law by its decision levels: 14-bit magnitude (33 + 2 step) 2**segment - 33."""
    code = 255 - code
    magnitude = ((33 + 2 * (code % 16)) << (code // 16 % 8)) - 33
    return (-1 if code >= 128 else 1) * magnitude / 8192


def expand_alaw(code: int) -> float:
    """G.711 A-law: 13-bit magnitude; segments 0 and 1 share a step, each later one doubles it."""
    code ^= 0b01010101
    segment, step = code // 16 % 8, code % 16
    magnitude = 2 * step + 1 if segment == 0 else (2 * step + 33) << (segment - 1)
    return (1 if code >= 128 else -1) * magnitude / 4096


def test_g711_tables_follow_the_standard() -> None:
    np.testing.assert_array_equal(MULAW, [expand_mulaw(code) for code in range(256)])
    np.testing.assert_array_equal(ALAW, [expand_alaw(code) for code in range(256)])
    assert (MULAW[0xFF], MULAW[0x80], MULAW[0x00]) == (0.0, 32124 / 32768, -32124 / 32768)
    assert (ALAW[0xD5], ALAW[0xAA], ALAW[0x2A]) == (8 / 32768, 32256 / 32768, -32256 / 32768)


@pytest.mark.parametrize("sample_rate", RATES)
def test_resampling_keeps_the_wave_and_its_time(sample_rate: int) -> None:
    wave = (sine(440, sample_rate, 1.0) * 32768).astype("<i2").tobytes()
    samples = decode(AudioDecoder("pcm_s16le", sample_rate, 1), [wave])
    assert len(samples) == 16000
    off_seconds = 10e-6 if sample_rate < 16000 else 0.0  # the variable-rate engine's, at odd ratios
    atol = 2e-4 + 0.5 * 2 * np.pi * 440 * off_seconds
    np.testing.assert_allclose(samples[800:-800], sine(440, 16000, 1.0)[800:-800], atol=atol)


def test_speech_frequencies_pass_and_others_do_not_alias() -> None:
    def gain_db(frequency: float) -> float:
        wave = (sine(frequency, 48000, 0.5) * 32768).astype("<i2").tobytes()
        middle = decode(AudioDecoder("pcm_s16le", 48000, 1), [wave])[2000:6000]
        level = np.sqrt(np.mean(middle**2) * 2) / 0.5
        return float(20 * np.log10(level + 1e-9))

    assert abs(gain_db(7400)) < 0.5
    assert gain_db(9000) < -80  # would be heard at 7 kHz


@pytest.mark.parametrize(("sample_rate", "most_ms"), [(8000, 31), (11025, 31), (24000, 38), (44100, 42), (48000, 38)])
def test_the_resampler_holds_back_little(sample_rate: int, most_ms: float) -> None:
    decoder = AudioDecoder("pcm_s16le", sample_rate, 1)
    packet = bytes(2 * (sample_rate // 100))
    held_back, samples = 0.0, 0
    for _ in range(100):
        samples += len(decoder.accept(packet))
        held_back = max(held_back, decoder.seconds - samples / 16000)
    assert held_back * 1000 <= most_ms


@given(
    lengths=st.lists(st.integers(0, 500), min_size=1, max_size=30),
    sample_rate=st.sampled_from(RATES),
)
@settings(deadline=None, max_examples=50)
def test_no_sample_is_lost_or_gained_over_many_flushes(lengths: list[int], sample_rate: int) -> None:
    decoder = AudioDecoder("mulaw", sample_rate, 1)
    out = 0
    for length in lengths:
        out += len(decoder.accept(bytes(length))) + len(decoder.flush())
        assert abs(out - decoder.seconds * 16000) <= 0.5 + 1e-6
    assert decoder.seconds == sum(lengths) / sample_rate


@pytest.mark.parametrize(
    ("encoding", "sample_rate", "channels", "code"),
    [
        ("mp3", 16000, 1, "bad_encoding"),
        ("pcm_s16le", 7999, 1, "bad_sample_rate"),
        ("pcm_s16le", 48001, 1, "bad_sample_rate"),
        ("pcm_s16le", 16000, 0, "bad_channels"),
        ("pcm_s16le", 16000, 3, "bad_channels"),
    ],
)
def test_what_is_not_served_is_named(encoding: str, sample_rate: int, channels: int, code: str) -> None:
    with pytest.raises(ClientError) as caught:
        AudioDecoder(encoding, sample_rate, channels)
    assert (caught.value.code, caught.value.close_code) == (code, 1003)


@given(st.sampled_from(RATES), st.integers(0, 10**7))
def test_the_frames_before_a_sample_are_the_most_that_make_no_more(sample_rate: int, num_samples: int) -> None:
    decoder, other = AudioDecoder("mulaw", sample_rate, 1), AudioDecoder("mulaw", sample_rate, 1)
    decoder.start_at(10**8)
    frames = decoder.frames_until(num_samples)
    assert other.start_at(frames) <= num_samples < other.start_at(frames + 1)
