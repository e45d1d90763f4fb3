"""Containers that FFmpeg wrote, cut anywhere, and such that nobody should write."""

import io
import itertools
import random
from collections.abc import Iterator

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr import containers
from streaming_asr.audio import Samples
from streaming_asr.containers import ContainerDecoder
from streaming_asr.errors import ClientError

SECONDS = 2.5
KINDS = {  # name: format, codec, sample rate
    "wav": ("wav", "pcm_s16le", 16000),
    "wav-8k-mulaw": ("wav", "pcm_mulaw", 8000),
    "wav-float": ("wav", "pcm_f32le", 44100),
    "flac": ("flac", "flac", 16000),
    "flac-44k": ("flac", "flac", 44100),
    "ogg": ("ogg", "libopus", 48000),
    "webm": ("webm", "libopus", 48000),
}


def tone(sample_rate: int) -> Samples:
    """A second of silence, then 440 Hz to the very end."""
    t = np.arange(round(SECONDS * sample_rate)) / sample_rate
    return (0.4 * np.sin(2 * np.pi * 440 * t) * (t >= 1)).astype(np.float32)


def written(kind: str, channels: int = 1) -> bytes:
    form, codec, sample_rate = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=sample_rate, layout="mono" if channels == 1 else "stereo")
        assert isinstance(stream, av.AudioStream)
        interleaved = np.repeat(tone(sample_rate), channels)[None]
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=stream.layout)
        frame.sample_rate = sample_rate
        resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=sample_rate)
        frames = [*resampler.resample(frame), *resampler.resample(None)]
        for encoded in itertools.chain.from_iterable(stream.encode(frame) for frame in [*frames, None]):
            container.mux(encoded)
    return file.getvalue()


FILES = {kind: written(kind) for kind in KINDS}


def decoded(data: bytes, sizes: Iterator[int]) -> Samples:
    decoder = ContainerDecoder()
    heard, at = [], 0
    while at < len(data):
        size = next(sizes)
        heard.append(decoder.accept(data[at : at + size]))
        at += size
    assert decoder.pending_bytes == 0
    return np.concatenate([*heard, decoder.finish()])


def assert_is_the_tone(samples: Samples) -> None:
    """Silence, then the tone, to the end: nothing lost but a codec's own padding (FFmpeg's Opus: 13 ms) added."""
    assert SECONDS * 16000 - 1 <= len(samples) <= SECONDS * 16000 + 0.021 * 16000
    assert np.abs(samples[: 16000 - 200]).max() < 0.05
    expected = tone(16000)[16400 : round(SECONDS * 16000) - 200]
    got = samples[16400 : 16400 + len(expected)]
    assert np.corrcoef(expected, got)[0, 1] > 0.99
    assert 0.35 < np.abs(got[-300:]).max() < 0.45


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_is_the_same_however_it_is_cut(kind: str) -> None:
    whole = decoded(FILES[kind], itertools.repeat(10**9))
    assert_is_the_tone(whole)
    draw = random.Random(1)
    few = itertools.chain(itertools.repeat(1, 3000), itertools.repeat(1024))
    for sizes in (few, itertools.repeat(1024), (draw.randint(1, 3000) for _ in itertools.count())):
        np.testing.assert_array_equal(decoded(FILES[kind], sizes), whole)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "webm"])
def test_two_channels_are_averaged(kind: str) -> None:
    assert_is_the_tone(decoded(written(kind, channels=2), itertools.repeat(700)))


@pytest.mark.parametrize("kind", ["wav", "ogg", "webm"])
def test_audio_comes_out_as_soon_as_it_is_there(kind: str) -> None:
    decoder = ContainerDecoder()
    data = FILES[kind]
    seconds = 0.0
    for at in range(0, len(data), 100):
        decoder.accept(data[at : at + 100])
        seconds = decoder.seconds
        if at > len(data) // 2:
            break
    assert seconds > SECONDS / 4


def test_a_wav_of_unknown_length() -> None:
    at = FILES["wav"].index(b"data") + 4
    for size in (b"\xff\xff\xff\xff", bytes(4)):
        assert_is_the_tone(decoded(FILES["wav"][:at] + size + FILES["wav"][at + 4 :], itertools.repeat(999)))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"ID3\x03", "bad_encoding"),
        (b"RIFF\0\0\0\0AVI ", "bad_audio"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "bad_audio"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\3\0\x18\0", "bad_encoding"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\x7f", "bad_audio"),
        (FILES["ogg"][:28] + b"Vorbis!!" + FILES["ogg"][36:], "bad_encoding"),
        (b"xggS".join(FILES["ogg"].rsplit(b"OggS", 1)), "bad_audio"),
        (FILES["ogg"] * 2, "bad_audio"),
        (FILES["webm"].replace(b"A_OPUS", b"A_AAC\0"), "bad_encoding"),
        (b"\x1aE\xdf\xa3\x01" + b"\xff" * 7, "bad_audio"),
        (b"\x1aE\xdf\xa3\x80\0", "bad_audio"),
        (b"\x1aE\xdf\xa3\x80\xa3\x80\x81\0\0", "bad_audio"),  # a block of no bytes, with a track's number
        (b"fLaC\0\0\0\x04abcd\x80\0\0\0" + b"x" * 100, "bad_audio"),
        (b"fLaC\x80\0\0\x22" + FILES["flac"][8:42] + bytes(2_000_000), "bad_audio"),
        (b"fLaC\x80\0\0\x22" + FILES["flac"][8:18] + b"\x17\x70\x02" + FILES["flac"][21:42], "bad_sample_rate"),
    ],
)
def test_what_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(ClientError) as error:
        decoded(data, itertools.repeat(1000))
    assert error.value.code == code


def test_what_swells_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes of Opus are 120 ms of nothing; a page has 255 of them."""
    head, tags = FILES["ogg"][:47], FILES["ogg"][47:]
    tags = tags[: 27 + tags[26] + sum(tags[27 : 27 + tags[26]])]
    page = b"OggS\0\0" + bytes(8) + head[14:18] + bytes(8) + b"\xff" + b"\x02" * 255 + b"\xfb\x06" * 255
    decoder = ContainerDecoder()
    decoder.accept(head + tags)
    decoder.accept(page)
    assert decoder.seconds == pytest.approx(255 * 0.12, abs=0.01)
    monkeypatch.setattr(containers, "MAX_PIECE_SECONDS", 20.0)
    with pytest.raises(ClientError, match="hold more than"):
        decoder.accept(page)


def test_without_the_decoder_wav_is_still_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert_is_the_tone(decoded(FILES["wav"], itertools.repeat(1000)))
    with pytest.raises(ClientError, match=r"streaming-asr\[containers\]") as error:
        decoded(FILES["ogg"], itertools.repeat(1000))
    assert error.value.code == "bad_encoding"


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 3000), st.binary(max_size=40), st.integers(1, 2000))
def test_damage_is_a_typed_error_or_none(kind: str, at: int, damage: bytes, size: int) -> None:
    data = (FILES[kind][:at] + damage + FILES[kind][at + len(damage) :])[:6000]
    decoder = ContainerDecoder()
    try:
        for start in range(0, len(data), size):
            samples = decoder.accept(data[start : start + size])
            assert np.abs(samples).max(initial=0) <= 1
            assert decoder.pending_bytes <= containers.MAX_PACKET_BYTES + size
        decoder.finish()
    except ClientError:
        pass
