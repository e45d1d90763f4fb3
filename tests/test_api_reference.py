from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "page", "said"),
    [
        ("streaming_asr.stream", "stream", "Pushes audio and steps while there is a whole chunk"),
        ("streaming_asr_client.client", "client", "Raises"),
    ],
)
def test_docstrings_become_pages(module: str, page: str, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pdoc", "--output-directory", str(tmp_path), module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert said in (tmp_path / module.partition(".")[0] / f"{page}.html").read_text()
