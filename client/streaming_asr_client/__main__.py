"""``python -m streaming_asr_client`` is ``streaming-asr-mic``."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
