"""One target under atheris (libFuzzer), in a process of its own: libFuzzer never returns."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["streaming_asr", "streaming_asr_client"]):
    from tests.fuzz.targets import SEEDS, TARGETS, WORDS

MAX_INPUT_BYTES = 4096


def main(name: str, inputs: int, seed: int, hang_seconds: int, max_megabytes: int) -> None:
    """Ends the process: with 0 after `inputs`, else at the first defect, having printed it."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(data)
        words = Path(folder) / "words"
        words.write_text("".join(f'"{_escaped(word.encode())}"\n' for word in WORDS))
        limits = {"runs": inputs, "max_len": MAX_INPUT_BYTES, "timeout": hang_seconds, "rss_limit_mb": max_megabytes}
        flags = [f"-{key}={value}" for key, value in limits.items()]
        atheris.Setup([sys.argv[0], *flags, f"-seed={seed}", f"-dict={words}", str(corpus)], TARGETS[name])
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(chr(byte) if 48 <= byte < 123 and byte != 92 else f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
