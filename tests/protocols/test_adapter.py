"""What all adapters share, with each of them."""

import base64
import json

import pytest

from streaming_asr.protocols.adapter import Adapter, Mark, Output
from streaming_asr.protocols.deepgram import DeepgramAdapter
from streaming_asr.protocols.native import NativeAdapter
from streaming_asr.protocols.openai_realtime import OpenAIAdapter
from streaming_asr.protocols.sherpa_onnx import SherpaOnnxAdapter
from streaming_asr.protocols.vosk import VoskAdapter
from streaming_asr.protocols.wyoming import WyomingAdapter
from streaming_asr.session import Flush, Push
from tests.protocols.machine import new
from tests.protocols.test_wyoming import FORMAT, event

SECONDS = 4
APPEND = {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(SECONDS * 48_000)).decode()}


def portions(adapter: Adapter, frame: str | bytes) -> list[list[Output]]:
    found = [adapter.receive(frame)]
    while adapter.has_more:
        found.append(adapter.go_on())
    return found


@pytest.mark.parametrize(
    ("adapter_class", "query", "frames"),
    [
        (NativeAdapter, "", ['{"type":"start","sample_rate":8000,"encoding":"mulaw"}', b"\xff" * 8000 * SECONDS]),
        (DeepgramAdapter, "encoding=alaw&sample_rate=8000", [b"\x55" * 8000 * SECONDS]),
        (SherpaOnnxAdapter, "", [bytes(64_000 * SECONDS)]),
        (VoskAdapter, "", [bytes(16_000 * SECONDS)]),
        (OpenAIAdapter, "", [json.dumps(APPEND)]),
        (WyomingAdapter, "", [event("audio-chunk", bytes(32_000 * SECONDS), **FORMAT) + event("audio-stop")]),
    ],
)
def test_of_much_audio_a_second_is_decoded_at_once_and_what_follows_it_comes_after_all(
    adapter_class: type[Adapter], query: str, frames: list[str | bytes]
) -> None:
    adapter = new(adapter_class, query)
    adapter.open()
    for frame in frames[:-1]:
        adapter.receive(frame)
    found = portions(adapter, frames[-1])
    pushed = [sum(len(output.samples) for output in outputs if isinstance(output, Push)) for outputs in found]
    assert len(found) == SECONDS
    assert max(pushed) <= 16_500
    assert sum(pushed) >= 16_000 * SECONDS - 1_000
    ends = {VoskAdapter: [Mark()], WyomingAdapter: [Flush("stop")]}.get(adapter_class, [])
    followed = [output for outputs in found for output in outputs if isinstance(output, Mark | Flush)]
    assert followed == [output for output in found[-1] if isinstance(output, Mark | Flush)] == ends


@pytest.mark.parametrize("filling", [",".join(["[]"] * 500_000), "{" * 1_000_000, "0," * 500_000])
@pytest.mark.parametrize("adapter_class", [DeepgramAdapter, OpenAIAdapter, VoskAdapter, WyomingAdapter])
def test_a_message_of_very_many_values_is_refused_before_they_are_read(
    adapter_class: type[Adapter], filling: str
) -> None:
    queries: dict[type[Adapter], str] = {DeepgramAdapter: "encoding=linear16&sample_rate=16000"}
    adapter = new(adapter_class, queries.get(adapter_class, ""))
    adapter.open()
    text = f'{{"type":[{filling}'
    lengths = json.dumps({"type": "ping", "data_length": len(text)})
    told = adapter.receive(f"{lengths}\n{text}".encode() if adapter_class is WyomingAdapter else text)
    if adapter_class is OpenAIAdapter:  # which tells, and goes on
        assert "too_big" in str(told)
    else:
        assert adapter.session.error == "too_big"


def test_a_session_that_ends_within_a_frame_takes_no_more_of_it() -> None:
    adapter = new(SherpaOnnxAdapter)
    adapter.open()
    adapter.receive(bytes(64_000 * SECONDS))
    adapter.break_off()
    assert adapter.go_on() == []
    assert not adapter.has_more
