"""Where options come from, with a command of its own and with the one that it is for."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streaming_asr import settings
from streaming_asr.cli import main
from streaming_asr.errors import InputError


@dataclass(frozen=True)
class Kept:
    hidden_name: int
    some_port: int | None = field(default=None, metadata={"help": "a port", "metavar": "PORT"})
    host: str = field(default="here", metadata={"help": "where", "metavar": None})
    seconds: float = field(default=0.5, metadata={"help": "how long (default: %(default)g)", "metavar": "S"})
    folder: Path | None = field(default=None, metadata={"help": "a folder", "metavar": "DIR"})
    origins: Sequence[str] = field(default=(), metadata={"help": "repeatable", "metavar": "ORIGIN"})
    insecure: bool = field(default=False, metadata={"help": "anybody", "metavar": None})


def test_fields_are_options_and_options_fields() -> None:
    parser = argparse.ArgumentParser()
    settings.add_fields(parser, Kept)
    assert settings.read_fields(parser.parse_args([]), Kept, hidden_name=3) == Kept(3, origins=[])
    arguments = [
        "--some-port",
        "1",
        "--host",
        "there",
        "--seconds",
        "2",
        "--folder",
        "f",
        "--origins",
        "a",
        "--origins",
        "b",
        "--insecure",
    ]
    expected = Kept(4, 1, "there", 2.0, Path("f"), ["a", "b"], True)
    assert settings.read_fields(parser.parse_args(arguments), Kept, hidden_name=4) == expected
    words = parser.format_help()
    assert "--some-port PORT" in words
    assert "how long (default: 0.5)" in words
    assert "hidden" not in words


def parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser()
    command = parser.add_subparsers(dest="command").add_parser("serve")
    settings.add_options(command)
    command.add_argument("--port", type=int, default=1)
    command.add_argument("--seconds", type=float, default=0.5)
    command.add_argument("--level", choices=("low", "high"), default="low")
    command.add_argument("--loud", dest="level", action="store_const", const="high")
    command.add_argument("--allow-origin", action="append", default=[])
    command.add_argument("--insecure", action="store_true")
    command.add_argument("--keys", type=Path)
    return parser, command


def parsed(file: Path | None, environment: dict[str, str], *arguments: str) -> argparse.Namespace:
    parser, command = parsers()
    config = () if file is None else ("--config", str(file))
    return settings.parse(parser, command, ["serve", *config, *arguments], environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(
        'port = 2\nseconds = 3\nallow-origin = ["a", "b"]\ninsecure = true\nkeys = "k.json"\nlevel = "high"\n'
    )
    return path


def test_a_file_replaces_defaults(file: Path) -> None:
    options = parsed(file, {})
    assert (options.port, options.seconds, options.level) == (2, 3.0, "high")
    assert (options.allow_origin, options.insecure, options.keys) == (["a", "b"], True, Path("k.json"))


def test_the_environment_overrides_the_file_and_the_command_line_both(file: Path) -> None:
    environment = {"STREAMING_ASR_PORT": "4", "STREAMING_ASR_INSECURE": "no", "STREAMING_ASR_ALLOW_ORIGIN": "c, d"}
    options = parsed(file, environment, "--seconds", "9")
    assert (options.port, options.insecure, options.allow_origin, options.seconds) == (4, False, ["c", "d"], 9.0)
    options = parsed(file, environment, "--port", "5", "--allow-origin", "e")
    assert (options.port, options.allow_origin) == (5, ["e"])


def test_the_environment_may_name_the_file(file: Path) -> None:
    assert parsed(None, {"STREAMING_ASR_CONFIG": str(file)}).port == 2


def test_what_one_call_reads_the_next_does_not_see(file: Path) -> None:
    parser, command = parsers()
    assert settings.parse(parser, command, ["serve", "--config", str(file)], {}).port == 2
    assert settings.parse(parser, command, ["serve"], {}).port == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prot = 2", r"no option prot; did you mean port\?"),
        ("zzz = 2", "no option zzz$"),
        ('port = "2"', "port must be a whole number"),
        ("port = 2.5", "port must be a whole number"),
        ("port = true", "port must be a whole number"),
        ('seconds = "x"', "seconds must be a number"),
        ("keys = 3", "keys must be a string"),
        ("insecure = 1", "insecure must be true or false"),
        ('allow-origin = "a"', "allow-origin must be a list"),
        ("allow-origin = [1]", "allow-origin must be a string"),
        ('level = "middle"', "level must be one of low, high"),
        ("config = 'x'", "no option config"),
        ("port 2", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=words) as refused:
        parsed(path, {})
    assert "wrong.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "x"), ("PORT", "2.5"), ("SECONDS", "x"), ("INSECURE", "perhaps"), ("LEVEL", "middle")]
)
def test_a_mistake_in_the_environment_is_named(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"STREAMING_ASR_{name} must be"):
        parsed(None, {f"STREAMING_ASR_{name}": value})


def test_an_empty_variable_is_none(file: Path) -> None:
    empty = dict.fromkeys(("STREAMING_ASR_CONFIG", "STREAMING_ASR_PORT", "STREAMING_ASR_KEYS"), "")
    assert parsed(None, empty).keys is None
    assert parsed(file, empty).port == 2


def test_what_a_variable_may_be_is_named() -> None:
    with pytest.raises(InputError, match="STREAMING_ASR_LEVEL must be one of low, high"):
        parsed(None, {"STREAMING_ASR_LEVEL": "middle"})


def test_a_misspelt_variable_is_named() -> None:
    with pytest.raises(InputError, match=r"no option STREAMING_ASR_PROT; did you mean STREAMING_ASR_PORT\?"):
        parsed(None, {"STREAMING_ASR_PROT": "2"})
    others = ("KEY", "SERVICE_HOST", "SERVICE_PORT", "PORT_8765_TCP", "PORT_8765_TCP_PORT", "EVAL")  # Kubernetes'
    assert parsed(None, {f"STREAMING_ASR_{name}": "x" for name in others}).port == 1


def test_what_is_printed_can_be_read_back(tmp_path: Path, file: Path) -> None:
    parser, command = parsers()
    options = settings.parse(parser, command, ["serve", "--config", str(file)], {})
    printed = tmp_path / "printed.toml"
    printed.write_text(settings.to_toml(command, options))
    again = settings.parse(parser, command, ["serve", "--config", str(printed)], {})
    assert {**vars(again), "config": None} == {**vars(options), "config": None}


def test_the_server_says_what_it_would_run_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMING_ASR_MAX_SESSIONS", "7")
    assert main(["serve", "--print-config", "--port", "1234"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert (printed["port"], printed["max-sessions"], printed["host"]) == (1234, 7, "127.0.0.1")
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 2
    assert "cannot read" in capsys.readouterr().err
