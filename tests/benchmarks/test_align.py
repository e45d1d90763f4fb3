from pathlib import Path

import numpy as np
import pytest

from benchmarks.align import read_ctm, speech_end
from benchmarks.timeline import TimedWord


def test_speech_ends_with_the_last_loud_frame() -> None:
    samples = np.full(16000, 0.001, np.float32)
    samples[4000:8000] = 0.5
    assert speech_end(samples) == pytest.approx(0.5)
    assert speech_end(np.zeros(16000, np.float32)) == 0.0
    assert speech_end(np.zeros(5, np.float32)) == 0.0


def test_reads_a_ctm_file(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(";; made by hand\na 1 0.5 0.25 Turn 0.9\na 1 1.0 0.5 OFF\n\nb 1 0 1 yes\n")
    assert read_ctm(path) == {
        "a": (TimedWord("turn", 0.5, 0.75), TimedWord("off", 1.0, 1.5)),
        "b": (TimedWord("yes", 0.0, 1.0),),
    }
