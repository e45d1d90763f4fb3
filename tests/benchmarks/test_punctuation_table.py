"""What the table of marks says, on a made-up book and a network that knows nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.punctuation import main
from streaming_asr.formatting.punctuation import PunctuationNetwork, Punctuator
from streaming_asr.manifest import PUNCTUATION_FILE


def test_marks_are_counted_and_finals_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Punctuator(["so"], PunctuationNetwork(1, 8, 8, 1)).save(tmp_path / PUNCTUATION_FILE)
    (tmp_path / "book.txt").write_text("So it is, and so it was. " * 60)
    assert main([str(tmp_path / "book.txt"), "--model", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    rows = {cells[1].strip(): cells for line in printed.splitlines() if len(cells := line.split("|")) > 3}
    assert printed.startswith("420 words")
    assert rows[","][-2].strip() == rows["."][-2].strip() == "60"
    assert float(rows["30"][-2]) > 0
