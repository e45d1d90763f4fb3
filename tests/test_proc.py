import os
import subprocess
import sys

import pytest

from streaming_asr.proc import PROC, Stat, children_of, parse_stat, read_stat


def test_a_stat_is_read_past_any_name() -> None:
    line = "7 (a) b (c)) R 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 3 0 99 4096000 12 0"
    assert parse_stat(line, 100, 4096) == Stat("R", 3.0, 12 * 4096)


def test_a_process_and_its_threads_are_found() -> None:
    mine = read_stat(PROC / str(os.getpid()))
    assert mine.cpu_seconds > 0
    assert mine.resident_bytes > 1e6
    assert read_stat(PROC / "self" / "task" / str(os.getpid())).state == "R"  # who asks, runs


def test_children_are_there_until_they_are_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of(os.getpid())
        child.communicate(b"\n")
    assert child.pid not in children_of(os.getpid())
    with pytest.raises(FileNotFoundError):
        children_of(child.pid)
    with pytest.raises(FileNotFoundError):
        read_stat(PROC / str(child.pid))
