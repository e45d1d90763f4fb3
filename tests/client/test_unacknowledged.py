"""What is kept for a server that may lack it, in memory and in a file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from streaming_asr_client.unacknowledged import Unacknowledged


@pytest.fixture
def spool() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file


def drained(kept: Unacknowledged) -> list[bytes | str]:
    return list(iter(kept.next, None))


def test_what_is_beyond_memory_waits_in_the_file_and_keeps_its_place(spool: BinaryIO) -> None:
    kept = Unacknowledged("pcm_s16le", 1, 4, spool, 100)
    for frame in (b"aabb", b"ccdd", "finalize", b"eeff"):
        assert kept.has_room
        kept.append(frame)
    assert (kept.num_bytes, kept.num_spooled_bytes) == (4, 8)
    assert drained(kept) == [b"aabb", b"ccdd", "finalize", b"eeff"]
    kept.acknowledge(3, 0)  # in the midst of a frame in the file
    kept.append(b"gg")  # there is memory again
    kept.rewind()
    assert drained(kept) == [b"dd", "finalize", b"eeff", b"gg"]
    kept.acknowledge(6, 1)
    assert (kept.num_bytes, kept.num_spooled_bytes, spool.seek(0, io.SEEK_END)) == (2, 0, 0)
    kept.rewind()
    assert drained(kept) == [b"gg"]


def test_a_request_that_was_answered_is_not_made_again_behind_half_a_sample() -> None:
    kept = Unacknowledged("pcm_s16le", 1, 100)
    for frame in (b"aab", "finalize", b"bcc", "finalize", "stop"):
        kept.append(frame)
    for _ in range(3):
        kept.next()
    assert kept.acknowledge(1, 1)
    assert drained(kept) == ["finalize", "stop"]  # what was not sent yet
    kept.rewind()
    assert drained(kept) == [b"b", b"bcc", "finalize", "stop"]
    assert not kept.acknowledge(1, 1)
    kept.acknowledge(3, 2)
    kept.rewind()
    assert drained(kept) == ["stop"]


@pytest.mark.parametrize("has_spool", [False, True])
def test_there_is_room_up_to_the_limit_and_again_when_the_server_has_it(has_spool: bool, spool: BinaryIO) -> None:
    kept = Unacknowledged("pcm_s16le", 1, 4, spool if has_spool else None, 6)
    limit = 10 if has_spool else 4
    for _ in range(limit // 2):
        assert kept.has_room
        kept.append(b"aa")
    assert not kept.has_room
    kept.acknowledge(limit // 2 - 1, 0)
    assert kept.has_room


def test_a_full_disk_loses_nothing_that_was_kept() -> None:
    class FullDisk(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(bytes(data)[:3] if self.tell() else data)  # type: ignore[call-overload,arg-type]

    kept = Unacknowledged("pcm_s16le", 1, 2, FullDisk(), 100)
    kept.append(b"aa")
    kept.append(b"bbbb")
    with pytest.raises(OSError, match="No space left"):
        kept.append(b"cccc")
    assert not kept.has_room
    assert drained(kept) == [b"aa", b"bbbb"]
    kept.acknowledge(1, 0)
    kept.append(b"cccc")
    kept.rewind()
    assert drained(kept) == [b"bbbb", b"cccc"]
