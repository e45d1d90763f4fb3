"""Takes the picture in docs/browser.md: the page, some seconds into a recording that Chromium takes for a microphone.

``python examples/page_view.py docs/page.png RECORDING.wav [--seconds 8]``, with a server running, ``pip install
playwright`` and a Chromium on the machine.
"""

from __future__ import annotations

import argparse
import shutil

from playwright.sync_api import sync_playwright


def take(picture: str, recording: str, seconds: float, url: str) -> None:
    """Writes ``picture``, PNG, of the page after so many seconds of ``recording``, WAV."""
    flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={recording}%noloop"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 900, "height": 620}, permissions=["microphone"])
        page.goto(url)
        page.click("#start")
        page.wait_for_timeout(1000 * seconds)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture")
    parser.add_argument("recording")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--server", default="http://localhost:8765/")
    options = parser.parse_args()
    take(options.picture, options.recording, options.seconds, options.server)
