"""Owns what Linux tells of processes and threads in /proc (proc(5)); elsewhere there is none of it.

Every function raises `OSError` when the process or thread is gone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Stat(NamedTuple):
    """Of a process, or of one thread; memory is that of the whole process."""

    state: str  # "R": it runs, or waits for nothing but a processor
    cpu_seconds: float  # user and system, so far
    resident_bytes: int  # with what it shares with others


def parse_stat(stat: str, ticks_per_second: int, page_bytes: int) -> Stat:
    """The text of a ``stat`` file; the name in it may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return Stat(fields[0], (int(fields[11]) + int(fields[12])) / ticks_per_second, int(fields[21]) * page_bytes)


def read_stat(folder: Path) -> Stat:
    """Of ``/proc/PID``, or of ``/proc/PID/task/TID``."""
    return parse_stat((folder / "stat").read_text(), os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"))


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and not yet waited for; they belong to its threads."""
    children: list[int] = []
    for task in (PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that has ended
            children += map(int, (task / "children").read_text().split())
    return children
