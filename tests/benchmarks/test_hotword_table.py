"""The arithmetic of the hotword table."""

import pytest

from benchmarks.hotwords import hits_and_alarms


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ("the barons of runnymede", "the barons of running me", (2, 1, 0)),
        ("the barons", "the barons barons runnymede", (1, 1, 2)),
        ("runnymede runnymede", "runnymede", (2, 1, 0)),
        ("nothing of it", "barren nothing", (0, 0, 0)),
        ("", "", (0, 0, 0)),
    ],
)
def test_what_was_said_and_heard_of_a_list(said: str, heard: str, expected: tuple[int, int, int]) -> None:
    assert hits_and_alarms(["barons", "runnymede"], said.split(), heard.split()) == expected
