"""sherpa-onnx's protocol: the adapter by table, then its own compiled client on real sockets."""

import asyncio
import shutil
import sys
import wave
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.protocols.adapter import Write
from streaming_asr.protocols.sherpa_onnx import SherpaOnnxAdapter
from streaming_asr.session import Close, Flush
from tests.fakes import words
from tests.protocols.machine import close_code, final, new, opened, partial, sent, settled
from tests.test_server import run, serving


def test_results_then_the_last_and_done() -> None:
    adapter = new(SherpaOnnxAdapter)
    opened(adapter.open())
    heard = sent(adapter.receive_events([partial("turn", "of"), final("turn off")]))
    assert [(r["text"], r["is_final"], r["is_eof"], r["segment"]) for r in heard] == [
        ("turn of", False, False, 0),
        ("turn off", True, False, 0),
    ]
    assert heard[1]["tokens"] == ["turn", "off"]
    assert len(heard[1]["timestamps"]) == 2
    assert adapter.receive("Done") == [Flush("stop")]
    assert adapter.receive(bytes(4)) == adapter.receive("Done") == []  # nothing can come any more
    last, done, close = adapter.receive_events([final("", "stop", 1)])
    assert sent([last])[0]["is_eof"]
    assert (done, close) == (Write("Done!"), Close(1000))


def test_other_text_closes() -> None:
    adapter = new(SherpaOnnxAdapter)
    adapter.open()
    assert close_code(settled(adapter, adapter.receive("done"))) == 1003


@settings(deadline=None)
@given(st.lists(st.text() | st.binary(max_size=40) | st.just("Done"), max_size=5))
def test_no_frame_makes_the_adapter_raise(frames: list[str | bytes]) -> None:
    adapter = new(SherpaOnnxAdapter)
    adapter.open()
    for frame in frames:
        adapter.receive(frame)


def test_the_official_client_prints_the_words_and_ends(tmp_path: Path) -> None:
    program = shutil.which("sherpa-onnx-online-websocket-client", path=str(Path(sys.executable).parent))
    assert program is not None, "sherpa-onnx-bin is not installed: pip install -e '.[test]'"
    recording = tmp_path / "recording.wav"
    with wave.open(str(recording), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(words(1, 2, 0, 3))

    async def test() -> None:
        async with serving(sherpa_port=0) as server:
            port = server.ports.url_of("sherpa-onnx").rsplit(":", 1)[1]
            options = (f"--server-port={port}", "--seconds-per-message=0.01", str(recording))
            pipe = asyncio.subprocess.PIPE
            client = await asyncio.create_subprocess_exec(program, *options, stdout=pipe, stderr=pipe)
            output = b"".join(await client.communicate()).decode()
            assert client.returncode == 0, output
            assert "w1 w2" in output
            assert "w3" in output

    run(test)
