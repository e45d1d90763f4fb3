"""The whole path in one command: starts the server on a free port, streams the bundled recording to it at real-time
pace through the real client, and stops it again. ``make demo`` runs this.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

RECORDING = Path(__file__).parent / "demo.wav"
BIN = Path(sys.executable).parent
START_SECONDS = 120  # the first start compiles the decoder


def main() -> int:
    """Returns the client's exit code."""
    print("starting the server (the first start compiles the decoder, later ones take seconds) …", flush=True)
    command = [str(BIN / "streaming-asr"), "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # nosec B603  # all of it written here
    try:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        if not line.startswith("listening on "):
            print(f"the server did not start: exit code {server.wait(START_SECONDS)}", file=sys.stderr)
            return 1
        url = line.removeprefix("listening on ")
        print(f"server at {url}; streaming {RECORDING.name} at real-time pace, as a microphone would:\n", flush=True)
        client = [str(BIN / "streaming-asr-mic"), "--server", url, "--file", str(RECORDING)]
        exit_code = subprocess.run(client, check=False).returncode  # nosec B603  # the same
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    if exit_code == 0:
        print("\nNow with your microphone: run `make serve` in one terminal and `make mic` in another.")
    return exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
