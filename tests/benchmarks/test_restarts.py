"""That a restart under live streams hits all of them, with a server in this process; and what counts as whole."""

import signal
from pathlib import Path

import pytest

from benchmarks import restarts
from benchmarks.restarts import Restart, is_whole, speech
from benchmarks.soak import BYTES_PER_SECOND, Told, play
from streaming_asr.server import Server
from streaming_asr.server_options import ServerOptions
from tests.fakes import FakeRecognizer, words
from tests.test_server import run, serving

TOLD: Told = (((0, "w1 w2"), (1, "w3")), 0.4)


@pytest.mark.parametrize(
    ("told", "whole"),
    [
        (TOLD, True),
        ((((0, "w1 w2"), (2, "w3")), 0.4), False),  # one is missing
        ((((0, "w1 w2"), (0, "w1 w2"), (1, "w3")), 0.4), False),  # told twice
        ((TOLD[0], 0.39), False),  # samples lost
        (((), 0.0), False),  # no end
    ],
)
def test_whole_is_each_utterance_once_and_all_audio(told: Told, whole: bool) -> None:
    assert is_whole(told, 0.4) is whole


def test_a_restart_that_a_session_did_not_see_says_nothing() -> None:
    assert Restart(2, [TOLD, TOLD], [0.4, 0.4]).is_well
    assert not Restart(1, [TOLD, TOLD], [0.4, 0.4]).is_well
    assert not Restart(2, [TOLD, TOLD], [0.4, 0.5]).is_well


def test_clients_say_whole_recordings_until_they_outlast_the_restart() -> None:
    recordings = [bytes([number]) * (BYTES_PER_SECOND * seconds) for number, seconds in enumerate((2, 35, 12))]
    said = [speech(recordings, first) for first in range(4)]
    assert [len(each) / BYTES_PER_SECOND for each in said] == [37, 35, 49, 37]
    assert said[2] == recordings[2] + recordings[0] + recordings[1]


class Process:
    """A server in this process as if it were one of its own."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def send_signal(self, how: signal.Signals) -> None:
        assert how == signal.SIGTERM

    def terminate(self) -> None:
        pass

    async def wait(self) -> None:
        await self.server.drain()


def test_all_sessions_are_open_when_the_server_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[int] = []

    async def start_server(state: Path, port: int, model: Path | None) -> tuple[Process, int]:
        options = ServerOptions(port=port, state_dir=state, drain_seconds=0.0, stall_seconds=60.0)
        server = Server(FakeRecognizer(), options)
        await server.start()
        starts.append(port)
        return Process(server), int(server.url.rpartition(":")[2])

    async def test() -> None:
        recordings = [words(1, 2, 3, 0, 4, 5, 0, 0), words(*range(6, 12), 0, 0), words(20)]
        speeches = [speech(recordings, first) for first in range(4)]
        restart = await restarts.run(speeches, signal.SIGTERM, None)
        assert (restart.num_open, restart.num_whole) == (4, 4)
        assert restart.is_well
        assert len(starts) == 2
        async with serving() as server:
            assert restart.told == [await play(server.url, pcm, None) for pcm in speeches]

    monkeypatch.setattr(restarts, "start_server", start_server)
    monkeypatch.setattr(restarts, "SPEECH_SECONDS", 4.0)
    monkeypatch.setattr(restarts, "SIGNAL_SECONDS", 0.2)
    run(test)
