"""The captions of the examples, in a real browser, from a page of another origin."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).parents[2] / "examples"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def examples() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=EXAMPLES)) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield f"http://localhost:{files.server_port}"
        files.shutdown()
        thread.join()


def test_captions_follow_the_microphone_and_come_back_after_a_cut(chromium: Browser, examples: str) -> None:
    from playwright.sync_api import expect

    server = PageServer(allow_origin=(examples,))
    server.start()
    try:
        with chromium.new_context(permissions=["microphone"]) as context:
            page = context.new_page()
            page.goto(f"{examples}/captions_obs.html?server=ws://127.0.0.1:{server.port}/v1/stream")
            caption = page.locator("p")
            expect(caption).to_contain_text(re.compile(r"w\d+"), timeout=20_000)
            expect(caption).to_be_visible()
            server.cut()
            page.evaluate("document.querySelectorAll('p span span').forEach((span) => { span.textContent = ''; })")
            expect(caption).to_contain_text(re.compile(r"w\d+"), timeout=20_000)
    finally:
        server.stop()


def test_captions_say_that_there_is_no_microphone(chromium: Browser, examples: str) -> None:
    from playwright.sync_api import expect

    with chromium.new_context(permissions=[]) as context:
        page = context.new_page()
        page.goto(f"{examples}/captions_obs.html")
        expect(page.locator("p")).to_contain_text("no microphone: ", timeout=20_000)
