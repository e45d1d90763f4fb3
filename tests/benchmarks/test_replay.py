import asyncio
import json

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk
from wyoming.event import Event as WyomingEvent
from wyoming.event import async_read_event, async_write_event

from benchmarks.adapters import ADAPTERS, Deepgram, Native, OpenAIRealtime, SherpaOnnx, Text, Vosk, Wyoming
from benchmarks.replay import Clip, GeneratorHealth, Pacer, background, pcm_blocks, replay, websocket_url
from streaming_asr.protocols.wyoming import write_event


class FakeTime:
    """A clock that only sleeping moves, and that oversleeps by ``extra``."""

    def __init__(self, extra: float = 0.0) -> None:
        self.now, self.extra = 50.0, extra

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.extra
        await asyncio.sleep(0)


async def paced(time: FakeTime, dues: list[float]) -> tuple[list[tuple[float, float]], GeneratorHealth]:
    health, done, all_done = GeneratorHealth(), [], asyncio.Event()
    pacer = Pacer(time.clock, time.sleep, health)

    async def act(due: float) -> None:
        done.append((due, time.now))
        if len(done) == len(dues):
            all_done.set()

    for due in dues:
        pacer.at(due, act)
    task = asyncio.create_task(pacer.run())
    await all_done.wait()
    task.cancel()
    return done, health


def test_the_pacer_keeps_absolute_deadlines_in_order() -> None:
    done, health = asyncio.run(paced(FakeTime(), [50.2, 50.1, 50.3]))
    assert [due for due, _ in done] == [50.1, 50.2, 50.3]
    assert max(health.lateness) < 1e-6
    assert not health.is_late


def test_a_late_pacer_says_so() -> None:
    _, health = asyncio.run(paced(FakeTime(extra=0.05), [50.1, 50.2]))
    assert health.is_late


def test_blocks_hold_all_samples_at_the_protocols_rate() -> None:
    samples = np.linspace(-1.5, 1.5, 3000, dtype=np.float32)
    blocks = pcm_blocks(samples, 16000)
    assert [len(block) for block in blocks] == [1200, 960, 840]
    assert (blocks[0][0], blocks[-1][-1]) == (-32768, 32767)
    assert sum(map(len, pcm_blocks(samples, 24000))) == 4500


def test_background_is_as_loud_as_the_quiet_parts() -> None:
    samples = np.concatenate((np.full(16000, 0.5), np.full(16000, 0.01))).astype(np.float32)
    noise = background(samples, 1.0)
    assert len(noise) == 16000
    assert np.sqrt((noise**2).mean()) == pytest.approx(0.01, rel=0.05)


def test_a_url_without_a_path_gets_the_protocols() -> None:
    assert websocket_url("ws://h:1", Native) == "ws://h:1/v1/stream"
    assert websocket_url("ws://h:1/other", Native) == "ws://h:1/other"
    assert websocket_url("ws://h:1/", Vosk) == "ws://h:1"


async def answer(socket: ServerConnection) -> None:
    """A native server that hears one word in a second block, and settles on demand."""
    heard = 0
    async for frame in socket:
        if isinstance(frame, bytes):
            heard += 1
            if heard == 2:
                partial = {"type": "partial", "utterance": 0, "committed": "", "unstable": "yes", "start": 0, "end": 0}
                await socket.send(json.dumps(partial))
            continue
        kind = json.loads(frame)["type"]
        if kind == "start":
            await socket.send('{"type": "ready"}')
        else:
            final = {"type": "final", "utterance": 0, "text": "yes", "reason": kind}
            await socket.send(json.dumps(final))
        if kind == "stop":
            await socket.send('{"type": "done"}')
            return


async def played(num_streams: int, **options: float | str) -> list[str]:
    async with serve(answer, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clips = [Clip(name, np.zeros(3200, np.float32)) for name in "ab"]
        run = await replay(url, Native, clips, num_streams=num_streams, stagger_seconds=0.05, **options)  # type: ignore[arg-type]
    for timeline in run.timelines:
        assert timeline.error == ""
        assert timeline.done is not None
        partial, *finals = timeline.shown
        assert partial.received - timeline.origin >= 0.135  # the second block does not exist before
        assert [final.reason for final in finals] == ["finalize", "stop"]
        assert timeline.finalize_sent is not None
        assert timeline.finalize_sent - timeline.origin >= 0.2
    return sorted(timeline.recording for timeline in run.timelines)


def test_clips_are_dealt_out_to_streams() -> None:
    assert asyncio.run(played(2)) == ["a", "b"]


def test_the_window_begins_when_the_last_stream_does() -> None:
    heard = asyncio.Event()

    async def slow_for_the_second(socket: ServerConnection) -> None:
        if waiting.pop():
            await heard.wait()
        await answer(socket)
        heard.set()

    async def test() -> None:
        async with serve(slow_for_the_second, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            clips = [Clip("a", np.zeros(3200, np.float32))]
            run = await replay(url, Native, clips, num_streams=2, stagger_seconds=0.02, hold_seconds=0.5)
        origins = [timeline.origin for timeline in run.timelines]
        assert run.window[0] > min(origins) + 0.2  # until the first clip had been heard the other stream waited
        assert run.window[0] in origins

    waiting = [False] * 9 + [True, False]
    asyncio.run(test())


def test_a_server_that_is_not_there_is_a_failed_session() -> None:
    run = asyncio.run(replay("ws://127.0.0.1:1", Native, [Clip("a", np.zeros(640, np.float32))]))
    assert run.timelines[0].done is None
    assert run.timelines[0].error.startswith("no session")


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_every_adapter_makes_frames() -> None:
    for adapter in (made() for made in ADAPTERS.values()):
        frames = [*adapter.opening(), adapter.audio(np.zeros(4, np.int16)), *adapter.stop()]
        assert all(isinstance(frame, str | bytes) for frame in frames)


def test_native_keeps_what_is_committed() -> None:
    message = {"type": "partial", "utterance": 1, "committed": "turn", "unstable": "of", "start": 0, "end": 1}
    assert Native().receive(json.dumps(message)) == [Text("partial", 1, "turn of", "turn")]


def test_vosk_counts_utterances() -> None:
    adapter = Vosk()
    assert adapter.receive('{"partial": ""}') == []
    assert adapter.receive('{"partial": "yes"}') == [Text("partial", 0, "yes")]
    assert adapter.receive('{"text": "yes"}') == [Text("final", 0, "yes", "yes", "endpoint")]
    adapter.stop()
    assert adapter.receive('{"text": "no"}') == [Text("final", 1, "no", "no", "stop")]


def test_sherpa_settles_a_segment_when_the_next_begins() -> None:
    adapter = SherpaOnnx()
    assert adapter.receive('{"text": " YES", "segment": 0}') == [Text("partial", 0, "YES")]
    assert adapter.receive('{"text": "NO", "segment": 1}') == [
        Text("final", 0, "YES", "YES", "endpoint"),
        Text("partial", 1, "NO"),
    ]
    assert adapter.receive("Done!") == [Text("final", 1, "NO", "NO", "stop")]
    assert adapter.is_done


def test_deepgram_settles_pieces() -> None:
    def results(text: str, **flags: bool) -> str:
        return json.dumps({"type": "Results", "channel": {"alternatives": [{"transcript": text}]}, **flags})

    adapter = Deepgram()
    assert adapter.receive(results("yes", is_final=False)) == [Text("partial", 0, "yes")]
    assert adapter.receive(results("yes", is_final=True, speech_final=True))[0].reason == "endpoint"
    assert adapter.receive(results("no", is_final=True, from_finalize=True)) == [
        Text("final", 1, "no", "no", "finalize")
    ]
    adapter.receive('{"type": "Metadata"}')
    assert adapter.is_done


def test_openai_appends_deltas() -> None:
    adapter = OpenAIRealtime()
    prefix = "conversation.item.input_audio_transcription"
    adapter.receive('{"type": "session.updated"}')
    assert adapter.is_ready
    assert adapter.receive(json.dumps({"type": f"{prefix}.delta", "item_id": "x", "delta": "turn"}))[0].text == "turn"
    assert (
        adapter.receive(json.dumps({"type": f"{prefix}.delta", "item_id": "x", "delta": " off"}))[0].text == "turn off"
    )
    adapter.stop()
    done = adapter.receive(json.dumps({"type": f"{prefix}.completed", "item_id": "x", "transcript": "turn off"}))
    assert done == [Text("final", 0, "turn off", "turn off", "endpoint")]
    assert adapter.is_done


def test_wyoming_events_are_those_of_its_package_however_they_are_cut() -> None:
    adapter = Wyoming()
    frames = [*adapter.opening(), adapter.audio(np.ones(4, np.int16)), *adapter.stop()]
    sent = b"".join(frame for frame in frames if isinstance(frame, bytes))
    events = asyncio.run(read_events(sent))
    assert [event.type for event in events] == ["transcribe", "audio-start", "audio-chunk", "audio-stop"]
    assert AudioChunk.from_event(events[2]).audio == np.ones(4, np.int16).tobytes()
    answers = [
        write_event(kind, text=text).data
        for kind, text in (("transcript-chunk", "turn"), ("transcript-chunk", " off"), ("transcript", "turn off"))
    ]
    answer = b"".join(data for data in answers if isinstance(data, bytes))
    said = [text for at in range(0, len(answer), 7) for text in adapter.receive(answer[at : at + 7])]
    assert said == [
        Text("partial", 0, "turn", "turn"),
        Text("partial", 0, "turn off", "turn off"),
        Text("final", 0, "turn off", "turn off", "stop"),
    ]
    assert adapter.is_done


async def read_events(data: bytes) -> list[WyomingEvent]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    events = []
    while (event := await async_read_event(reader)) is not None:
        events.append(event)
    return events


def test_a_tcp_protocol_is_played_too() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (event := await async_read_event(reader)) is not None and event.type != "audio-stop":
            pass
        await async_write_event(Transcript("yes").event(), writer)
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            run = await replay(url, Wyoming, [Clip("a", np.zeros(3200, np.float32))])
        (timeline,) = run.timelines
        assert timeline.error == ""
        assert [shown.words for shown in timeline.shown] == [("yes",)]
        assert timeline.done is not None

    asyncio.run(test())
