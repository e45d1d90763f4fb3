"""Programs that finals are handed to."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from streaming_asr_client import hooks
from streaming_asr_client.dictation import Edit, line
from streaming_asr_client.errors import UsageError
from streaming_asr_client.events import Final
from streaming_asr_client.hooks import Hook, parse_command, typing_command, typing_edit, with_words


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (["cat"], ["cat"], b"a $(b)\n"),
        (["say", "--", "{}"], ["say", "--", "a $(b)"], b""),
        (["say", "<{}>", "{}{}"], ["say", "<a $(b)>", "a $(b)a $(b)"], b""),
        (["{}"], ["{}"], b"a $(b)\n"),  # never the program
    ],
)
def test_where_the_words_go(command: list[str], arguments: list[str], words: bytes) -> None:
    assert with_words(command, "a $(b)") == (arguments, words)


@pytest.mark.parametrize(
    ("line", "says"), [("", "no command"), ("'a", "No closing quotation"), ("no-such-program x", "no program")]
)
def test_a_command_that_cannot_be_is_refused(line: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_command(line)


@pytest.mark.parametrize(
    ("environment", "there", "chosen"),
    [
        ({"DISPLAY": ":0"}, {"xdotool", "wtype"}, "xdotool"),
        ({"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"}, {"xdotool", "wtype"}, "wtype"),
        ({"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"}, {"xdotool"}, "xdotool"),
    ],
)
def test_what_types(environment: dict[str, str], there: set[str], chosen: str) -> None:
    command = typing_command(environment, lambda name: name if name in there else None)
    assert (command[0], command[-2:]) == (chosen, ["--", "{} "])


@pytest.mark.parametrize(("environment", "says"), [({}, "needs a desktop"), ({"DISPLAY": ":0"}, "install `xdotool`")])
def test_what_typing_lacks_is_said(environment: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        typing_command(environment, lambda name: None)


SAID = Final(0, "said", 0.0, 1.0, 0.9, "endpoint")


@pytest.mark.parametrize(
    ("edit", "xdotool", "wtype"),
    [
        (Edit(SAID, "-a\n"), [["type", "--clearmodifiers", "--", "-a\n"]], [["--", "-a\n"]]),
        (
            Edit(SAID, "", "ab", 1),
            [["key", "--clearmodifiers", "--repeat", "2", "BackSpace"]],
            [["-k", "BackSpace", "-k", "BackSpace"]],
        ),
        (
            Edit(SAID, ",", "."),
            [["key", "--clearmodifiers", "--repeat", "1", "BackSpace"], ["type", "--clearmodifiers", "--", ","]],
            [["-k", "BackSpace"], ["--", ","]],
        ),
        (Edit(SAID, ""), [], []),
    ],
)
def test_typing_follows_commands(edit: Edit, xdotool: list[list[str]], wtype: list[list[str]]) -> None:
    for environment, program, runs in (
        ({"DISPLAY": ":0"}, "xdotool", xdotool),
        ({"WAYLAND_DISPLAY": "w"}, "wtype", wtype),
    ):
        command = typing_command(environment, lambda name: name)
        assert typing_edit(command, edit) == [[program, *arguments] for arguments in runs]


def test_what_a_program_has_started_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hooks, "END_SECONDS", 0.0)
    os.mkfifo(tmp_path / "alive")

    async def test() -> None:
        hook = Hook(["sh", "-c", f"exec > '{tmp_path}/alive'; echo; sleep 1000 & wait"], lambda words: None)
        async with hook.running():
            hook.accept(line(SAID))
            alive = await asyncio.to_thread((tmp_path / "alive").open)
            assert await asyncio.to_thread(alive.readline) == "\n"
        with alive:
            assert alive.read() == ""  # nobody is left who could write

    asyncio.run(test())


async def run(command: list[str], texts: list[str]) -> list[str]:
    notices: list[str] = []
    hook = Hook(command, notices.append)
    async with hook.running():
        for text in texts:
            hook.accept(line(Final(0, text, 0.0, 1.0, 0.9, "endpoint")))
    return notices


def appending(path: Path) -> list[str]:
    return [sys.executable, "-Sc", f"import sys; open({str(path)!r}, 'a').write(sys.argv[1] + '|')", "{}"]


def test_in_order_and_to_the_end(tmp_path: Path) -> None:
    assert asyncio.run(run(appending(tmp_path / "out"), ["one", "", "two\nlines", "three"])) == []
    assert (tmp_path / "out").read_text() == "one|two lines|three|"


def test_a_program_that_fails_is_said(tmp_path: Path) -> None:
    failing = [sys.executable, "-Sc", "import sys; sys.exit(3)"]
    assert asyncio.run(run(failing, ["one"])) == [f"{sys.executable} ended with exit code 3"]
    assert asyncio.run(run([str(tmp_path)], ["one"])) == [f"cannot run {tmp_path}: Permission denied"]


def test_a_program_that_stands_still_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "END_SECONDS", 0.1)
    monkeypatch.setattr(hooks, "MAX_WAITING", 2)
    notices = asyncio.run(run(["sleep", "60"], ["one", "two", "three"]))
    assert notices == [
        "sleep is too slow: left out for one utterance",
        "sleep did not finish within 0.1 s",
    ]
