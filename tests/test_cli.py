"""The command line where no model is needed: help, speed of start, wrong input."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import streaming_asr_client

import streaming_asr
from streaming_asr.cli import main

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
EXPORT = ["export-model", "--acoustic", "a", "--lexicon", "l", "--lm", "m", "--name", "n", "--output", "o"]


@pytest.mark.parametrize(
    "command",
    [
        *([], ["serve"], ["transcribe"], ["evaluate"], ["keys"], ["keys", "add"]),
        *(["train"], ["build-lm"], ["train-punctuation"], ["train-speech-network"], ["export-model"]),
    ],
)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main([*command, "--help"])
    assert exit_info.value.code == 0
    assert "usage: streaming-asr" in capsys.readouterr().out


def test_import_and_help_do_without_torch() -> None:
    code = "import sys, streaming_asr.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_answers_in_half_a_second() -> None:
    """Against a bare interpreter in the same run, so that a busy machine does not matter."""

    def seconds(command: list[str | Path]) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        return min(times)

    bare = seconds([sys.executable, "-c", "import argparse, json"])
    assert seconds([BIN / "streaming-asr", "--help"]) < max(0.5, 8 * bare)


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path / "missing")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "missing is not a folder" in captured.err
    assert main(["transcribe", "--model", str(tmp_path), "x.wav"]) == 2
    assert "config.json" in capsys.readouterr().err
    assert main(["transcribe", "--format", "srt", "x.wav", "y.wav"]) == 2
    assert "name one file at a time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "--limit", "-3", "."], "must be a whole number above 0, not -3"),
        (["evaluate", "--limit", "0", "."], "must be a whole number above 0, not 0"),
        ([*EXPORT, "--decoder", "{"], "must be JSON: "),
        ([*EXPORT, "--decoder", "5"], "must be a JSON object"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "word\tP Q\n"])
def test_a_lexicon_that_cannot_be_read_is_named(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lexicon = tmp_path / "lexicon.txt"
    if content is not None:
        lexicon.write_text(content)
    assert main(["train", "--lexicon", str(lexicon), "--output", str(tmp_path / "run"), str(tmp_path)]) == 2
    assert str(lexicon) in capsys.readouterr().err


def test_a_configuration_of_training_that_is_no_json_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text("{")
    assert main(["train", "--config", str(config), "--lexicon", "x", "--output", str(tmp_path), str(tmp_path)]) == 2
    assert str(config) in capsys.readouterr().err


@pytest.mark.parametrize(("package", "project"), [(streaming_asr, ROOT), (streaming_asr_client, ROOT / "client")])
def test_packages_know_their_versions(package: ModuleType, project: Path) -> None:
    with (project / "pyproject.toml").open("rb") as file:
        assert package.__version__ == tomllib.load(file)["project"]["version"]


def test_keys_are_shown_once_and_listed_without_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ["--keys", str(tmp_path / "keys.json")]
    assert main(["keys", "add", "anna", "--max-sessions", "2", *file]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("sasr_")
    assert main(["keys", "add", "anna", *file]) == 2
    assert main(["keys", "list", *file]) == 0
    listed = capsys.readouterr().out
    assert "anna\t" in listed
    assert "2 sessions\tany audio" in listed
    assert key not in listed
    assert main(["keys", "revoke", "anna", *file]) == 0
    assert main(["keys", "list", *file]) == 0
    assert capsys.readouterr().out == ""


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", _FullDisk())
        assert main(["keys", "add", "anna", "--keys", str(tmp_path / "keys.json")]) == 1
    assert capsys.readouterr().err == "streaming-asr keys: No space left on device\n"


def test_nobody_is_served_beyond_this_machine_by_accident(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--insecure" in capsys.readouterr().err


def test_unknown_command_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["recognise"])
    assert exit_info.value.code == 2


def test_the_shell_can_complete_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "--wyoming-port" in script
    assert "transcribe" in script
