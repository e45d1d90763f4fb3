"""Every door with the shipped model: what other systems' clients, as they are, print of a recording."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soxr
import websocket

from streaming_asr.evaluate import count_word_errors
from tests.end_to_end.conftest import BIN, DEMO, ServerProcess
from tests.end_to_end.test_server import DEMO_TEXT

pytestmark = pytest.mark.timeout(300)


def pcm() -> bytes:
    with wave.open(str(DEMO), "rb") as file:
        return file.readframes(file.getnframes())


def frames(sound: bytes, size: int = 8000) -> Iterator[bytes]:
    for first in range(0, len(sound), size):
        yield sound[first : first + size]


def vosk(server: ServerProcess) -> str:
    """As vosk-server's own example for `websocket-client`: one reply to a frame."""
    socket = websocket.create_connection(server.urls["vosk"], timeout=60)
    replies = []
    socket.send('{"config": {"sample_rate": 16000}}')
    for frame in frames(pcm()):
        socket.send_binary(frame)
        replies.append(json.loads(socket.recv()))
    socket.send('{"eof": 1}')
    replies.append(json.loads(socket.recv()))
    socket.close()
    assert any(reply.get("partial") for reply in replies)
    return " ".join(reply["text"] for reply in replies if reply.get("text"))


def deepgram(server: ServerProcess) -> str:
    from deepgram import DeepgramClient
    from deepgram.environment import DeepgramClientEnvironment

    http = server.url.replace("ws:", "http:")
    environment = DeepgramClientEnvironment(base=http, production=server.url, agent=server.url, agent_rest=http)
    client = DeepgramClient(api_key="any", environment=environment)
    with client.listen.v1.connect(model="nova-3", interim_results=True) as connection:
        for frame in frames(DEMO.read_bytes()):  # with its header: a container
            connection.send_media(frame)
        connection.send_close_stream()
        heard = list(connection)
    assert heard[-1].type == "Metadata"
    results = [message for message in heard if message.type == "Results"]
    assert any(not result.is_final and result.channel.alternatives[0].transcript for result in results)
    return " ".join(result.channel.alternatives[0].transcript for result in results if result.is_final)


def openai(server: ServerProcess) -> str:
    from openai import AsyncOpenAI
    from openai.types.realtime import RealtimeTranscriptionSessionCreateRequestParam

    async def transcribe() -> str:
        sound = soxr.resample(np.frombuffer(pcm(), "<i2"), 16000, 24000).astype("<i2").tobytes()
        async with (
            AsyncOpenAI(base_url=server.url.replace("ws:", "http:") + "/v1", api_key="any") as client,
            client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
        ):
            wanted: RealtimeTranscriptionSessionCreateRequestParam = {
                "type": "transcription",
                "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None}},
            }
            await connection.session.update(session=wanted)
            for frame in frames(sound):
                await connection.input_audio_buffer.append(audio=base64.b64encode(frame).decode())
            await connection.input_audio_buffer.commit()
            deltas = ""
            async for event in connection:
                if event.type == "conversation.item.input_audio_transcription.delta":
                    assert event.delta is not None
                    deltas += event.delta
                if event.type == "conversation.item.input_audio_transcription.completed":
                    assert deltas == event.transcript
                    return event.transcript
        raise AssertionError("the connection closed")

    return asyncio.run(transcribe())


def sherpa_onnx(server: ServerProcess) -> str:
    program = shutil.which("sherpa-onnx-online-websocket-client", path=str(BIN))
    assert program is not None, "sherpa-onnx-bin is not installed: pip install -e '.[test]'"
    port = server.urls["sherpa-onnx"].rpartition(":")[2]
    command = [program, f"--server-port={port}", "--seconds-per-message=0.1", str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    results = [json.loads(line) for line in re.findall(r"\{.*\}", done.stdout + done.stderr)]
    return " ".join(result["text"] for result in results if result["is_final"])


def wyoming(server: ServerProcess) -> str:
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient

    async def transcribe() -> str:
        async with AsyncTcpClient.from_uri(server.urls["wyoming"]) as client:
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(16000, 2, 1).event())
            for frame in frames(pcm()):
                await client.write_event(AudioChunk(16000, 2, 1, frame).event())
            await client.write_event(AudioStop().event())
            while (event := await client.read_event()) is not None:
                if Transcript.is_type(event.type):
                    return Transcript.from_event(event).text
        raise AssertionError("the connection closed")

    return asyncio.run(transcribe())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Deepgram's SDK's own, as it is imported
@pytest.mark.parametrize("transcribe", [vosk, deepgram, openai, sherpa_onnx, wyoming])
def test_other_systems_clients_get_the_words(transcribe: Callable[[ServerProcess], str], server: ServerProcess) -> None:
    said = transcribe(server)
    assert count_word_errors([(DEMO_TEXT, said)]).wer <= 0.5, said
