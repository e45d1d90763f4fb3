"""Sound in, text out, over a WebSocket, with the shipped model: what the README promises."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from streaming_asr_client import Event, Final, Partial, connect

from benchmarks.material import spread
from streaming_asr.evaluate import count_word_errors, stream_recordings
from streaming_asr.features import Samples
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import Recording, read_samples
from tests.end_to_end.conftest import BIN, DEMO, ServerProcess

if TYPE_CHECKING:
    from tests.conftest import VirtualMicrophone

pytestmark = pytest.mark.timeout(600)

DEMO_TEXT = (
    "this is a small test of the streaming recognizer it hears a few words at a time "
    "and it writes them down while you are still speaking"
)


def to_pcm(samples: Samples) -> bytes:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


async def blocks(pcm: bytes, size: int = 2560) -> AsyncIterator[bytes]:
    for first in range(0, len(pcm), size):
        yield pcm[first : first + size]


async def stream(server: ServerProcess, samples: Samples) -> list[Event]:
    async with connect(server.url) as session:
        return [event async for event in session.transcribe(blocks(to_pcm(samples)))]


def text(events: list[Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final) and event.text)


def test_demo_recording_is_understood(server: ServerProcess) -> None:
    said = text(asyncio.run(stream(server, read_samples(DEMO))))
    assert count_word_errors([(DEMO_TEXT, said)]).wer <= 0.5, said


def test_server_and_library_say_the_same(
    server: ServerProcess, recognizer: Recognizer, recordings: list[Recording]
) -> None:
    chosen = recordings[::24]
    expected = [result.text for result in stream_recordings(recognizer, chosen)]
    got = [text(asyncio.run(stream(server, read_samples(recording.path)))) for recording in chosen]
    assert got == expected
    assert any(expected)


def test_committed_text_is_never_taken_back(server: ServerProcess, recordings: list[Recording]) -> None:
    committed_words = 0
    for recording in recordings[5::40]:
        committed: dict[int, list[str]] = {}
        for event in asyncio.run(stream(server, read_samples(recording.path))):
            if isinstance(event, Partial):
                words, before = event.committed.split(), committed.get(event.utterance, [])
                assert words[: len(before)] == before
                committed[event.utterance] = words
                committed_words += len(words) - len(before)
            elif isinstance(event, Final):
                before = committed.get(event.utterance, [])
                assert event.text.split()[: len(before)] == before
    assert committed_words > 20


def test_four_clients_at_once_get_what_each_gets_alone(server: ServerProcess, recordings: list[Recording]) -> None:
    samples = [read_samples(recording.path) for recording in spread(recordings, 4)]
    alone = [text(asyncio.run(stream(server, part))) for part in samples]

    async def together() -> list[str]:
        return [text(events) for events in await asyncio.gather(*(stream(server, part) for part in samples))]

    assert asyncio.run(together()) == alone


def test_a_session_hears_words_that_the_lexicon_lacks(
    server: ServerProcess, recognizer: Recognizer, recordings: list[Recording]
) -> None:
    def unknown(recording: Recording) -> list[str]:
        return [word for word in recording.words if word not in recognizer.word_id]

    async def hear(recording: Recording, hotwords: list[str]) -> set[str]:
        async with connect(server.url, hotwords=hotwords) as session:
            return set(
                text([e async for e in session.transcribe(blocks(to_pcm(read_samples(recording.path))))]).split()
            )

    chosen = sorted((recording for recording in recordings if unknown(recording)), key=lambda r: len(r.words))[:5]
    hotwords = [word for recording in chosen for word in unknown(recording)]
    assert any(asyncio.run(hear(recording, hotwords)).intersection(unknown(recording)) for recording in chosen)


def test_a_session_that_wants_its_hotwords_alone_is_told_nothing_else(server: ServerProcess) -> None:
    async def hear(*hotwords: str) -> list[Event]:
        async with connect(server.url, hotwords=hotwords, only_hotwords=len(hotwords) > 0) as session:
            return [event async for event in session.transcribe(blocks(to_pcm(read_samples(DEMO))))]

    words = text(asyncio.run(hear())).split()
    phrase = " ".join(words[3:6])
    events = asyncio.run(hear(phrase, "open the pod bay doors"))
    assert text(events) == phrase
    assert all(f"{e.committed} {e.unstable}".split() in ([], phrase.split()) for e in events if isinstance(e, Partial))


def test_a_client_killed_in_mid_word_leaves_the_server_serving(server: ServerProcess) -> None:
    before = server.num_file_descriptors
    command: list[str | Path] = [BIN / "streaming-asr-mic", "--server", server.url, "--file", DEMO, "--format", "json"]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            for line in client.stdout:
                if json.loads(line)["type"] == "partial":
                    break
            client.kill()
    assert text(asyncio.run(stream(server, read_samples(DEMO))))
    assert server.num_file_descriptors <= before + 2


def test_half_an_hour_keeps_memory_flat(server: ServerProcess, recordings: list[Recording]) -> None:
    parts = [read_samples(recording.path) for recording in recordings[:60]]
    piece = np.concatenate(parts)
    pieces = int(np.ceil(30 * 60 * 16000 / len(piece)))

    async def run() -> tuple[list[int], list[Event]]:
        resident = []
        async with connect(server.url, partials=False) as session:

            async def speak() -> AsyncIterator[bytes]:
                for _ in range(pieces):
                    async for block in blocks(to_pcm(piece), 32000):
                        yield block
                    resident.append(server.resident_bytes)

            events = [event async for event in session.transcribe(speak())]
        return resident, events

    resident, events = asyncio.run(run())
    assert resident[-1] < resident[0] * 1.05 + 4e6, resident
    finals = [event for event in events if isinstance(event, Final)]
    assert len(finals) > 100
    assert finals[-1].end == pytest.approx(pieces * len(piece) / 16000, abs=3)


def test_the_microphone_reaches_the_transcript(server: ServerProcess, virtual_microphone: VirtualMicrophone) -> None:
    """PulseAudio's null sink stands in for the microphone; the client is the real one, stopped by Ctrl-C."""
    command: list[str | Path] = [BIN / "streaming-asr-mic", "--server", server.url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=virtual_microphone.environment
    ) as client:
        while not virtual_microphone.is_recorded():
            assert client.poll() is None, client.communicate()
        virtual_microphone.play(DEMO)
        client.send_signal(2)
        output, errors = client.communicate(timeout=60)
    assert client.returncode == 0, errors
    assert count_word_errors([(DEMO_TEXT, " ".join(output.split()))]).wer <= 0.6, output


def test_transcribe_writes_every_format(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio")
    command: list[str | Path] = [BIN / "streaming-asr", "transcribe"]
    for form, beginning in {"srt": "1\n00:00:0", "vtt": "WEBVTT\n\n00:00:0"}.items():
        subtitles = subprocess.check_output([*command, "--format", form, DEMO], text=True, timeout=120)
        assert subtitles.startswith(beginning)
    for form, beginning in {"text": "This", "json": '{"file"'}.items():
        done = subprocess.run(
            [*command, "--format", form, broken, DEMO], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2
        assert done.stdout.startswith(beginning), done.stdout
        assert done.stderr.count("\n") == 1
        assert "broken.wav" in done.stderr
    row = json.loads(done.stdout)
    assert set(row) == {"file", "text", "utterances", "audio_seconds", "compute_seconds"}
    assert row["text"] == " ".join(utterance["text"] for utterance in row["utterances"])
    assert row["utterances"][0]["formatted"].startswith("This")
    written = [word["written"] for utterance in row["utterances"] for word in utterance["words"] if word["written"]]
    assert " ".join(written) == " ".join(utterance["formatted"] for utterance in row["utterances"])
    raw = subprocess.run([*command, "--raw", DEMO], capture_output=True, text=True, timeout=120, check=True)
    assert " ".join(raw.stdout.split()) == row["text"]


def test_evaluate_prints_one_object(recordings: list[Recording]) -> None:
    folder = recordings[0].path.parents[1]
    command: list[str | Path] = [BIN / "streaming-asr", "evaluate", folder, "--limit", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    row = json.loads(done.stdout)
    assert row["words"] == sum(len(recording.words) for recording in recordings[:3])
    assert row["wer"] == pytest.approx(
        (row["insertions"] + row["deletions"] + row["substitutions"]) / row["words"], abs=1e-4
    )
    assert row["rtf"] > 0
