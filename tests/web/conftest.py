"""A server with a fake recognizer, and its page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    server = PageServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(chromium: Browser, server: PageServer) -> Iterator[Page]:
    """The page, just opened. What it complains about in its console fails the test."""
    with chromium.new_context(permissions=["microphone"]) as context:
        complaints: list[str] = []
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        yield page
        assert complaints == []
