"""The page with the shipped model: what somebody sees who opens the server's address and speaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from streaming_asr.evaluate import count_word_errors
from tests.end_to_end.conftest import ServerProcess
from tests.end_to_end.test_server import DEMO_TEXT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.timeout(300)


def test_what_is_said_appears(server: ServerProcess, chromium: Browser) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    with chromium.new_context(permissions=["microphone"]) as context:
        page = context.new_page()
        page.goto(server.url.replace("ws://", "http://"))
        page.get_by_role("button", name="Start listening").click()
        expect(page.locator("#open .unstable")).to_have_text(re.compile("[a-z]"))
        expect(page.locator("#pace")).to_have_text(re.compile(r"\d+ ms"))
        expect(page.locator("#settled")).to_contain_text("speaking")  # the recording's last word
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status-text")).to_have_text("Ready")
        said = " ".join(page.locator("#settled .text").all_inner_texts())
        assert count_word_errors([(DEMO_TEXT, said)]).wer <= 0.6, said
        page.locator("#settled .word").first.hover()
        expect(page.locator("#tip")).to_have_text(re.compile(r"\d+ % sure · 0:0\d"))
