"""Owns what a server's first start on a machine does before it loads: it compiles the search in a process that ends.

Whoever compiles keeps some half a gigabyte for it until the process is gone, and a server stays for months.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .compiled import is_kept
from .errors import StreamingAsrError
from .search_results import best_many

if TYPE_CHECKING:  # importing torch takes as long as reading what is searched, which goes on beside it
    from .network import Device, Precision


def compile_apart(folder: Path, device: Device, precision: Precision | None) -> None:
    """Loads the model in ``folder`` in another process, unless the search has been compiled here before.

    A failure of that process is nobody's: what it left to be compiled is compiled at use, and a model that cannot be
    loaded is told of when it is.
    """
    if not is_kept(best_many):
        command = [sys.executable, "-m", __name__, str(folder), device, *filter(None, [precision])]
        subprocess.run(command, check=False)  # nosec B603  # our own module


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads a model, and with it compiles what is kept."""
    from .recognizer import Recognizer

    parser = argparse.ArgumentParser(prog=__name__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("device")
    parser.add_argument("precision", nargs="?")
    options = parser.parse_args(arguments)
    with contextlib.suppress(StreamingAsrError):
        Recognizer.load(options.folder, device=options.device, precision=options.precision)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is answered by who waits for us
    main()
