"""What a person does with the page, in a real browser, against a server with a fake recognizer: one word a chunk."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streaming_asr.keys import add_key
from tests.fakes import CHUNK_MS, words
from tests.web.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PHONE = {"width": 390, "height": 844}
WORDS = re.compile(r"w\d+")


def wav(*levels: int) -> bytes:
    """A recording of the words `w<level>`; level 0 is silence."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(words(*levels))
    return stream.getvalue()


def drop(page: Page, name: str, data: bytes) -> None:
    transfer = page.evaluate_handle(
        """([name, data]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
          return transfer;
        }""",
        [name, base64.b64encode(data).decode()],
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", kind, {"dataTransfer": transfer})


def expect(locator: Locator) -> Any:
    """Waits as long as a slow machine needs."""
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=10_000)
    return playwright_expect(locator)


def expect_status(page: Page, words: str) -> None:
    expect(page.locator("#status-text")).to_have_text(words)


def expect_notice(page: Page, title: str) -> None:
    expect(page.locator("#notice:not([hidden]) #notice-title")).to_have_text(title)


def transcribe(page: Page, *levels: int) -> None:
    drop(page, "talk.wav", wav(*levels))
    expect(page.locator("#settled .line")).not_to_have_count(0)
    expect_status(page, "Ready")


def settled(page: Page) -> list[str]:
    return page.locator("#settled .text").all_inner_texts()


KEEP_MICROPHONE = """() => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (what) => (window.given = await ask(what));
}"""

NO_SOCKETS = """() => {
  window.WebSocket = class { constructor() { setTimeout(() => this.onclose()); } close() {} };
}"""


def cut_off(page: Page, server: PageServer) -> None:
    """Takes the page's network away, which `network()` in the page brings back.

    Not by the browser's own "offline": from there a socket that is cut may never say so.
    """
    page.evaluate("""() => {
      const given = { WebSocket, fetch };
      window.network = () => { Object.assign(window, given); };
      window.fetch = async () => { throw new TypeError(); };
    }""")
    page.evaluate(NO_SOCKETS)
    server.cut()


@contextmanager
def running(**options: Any) -> Iterator[PageServer]:
    server = PageServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def opened(chromium: Browser, server: PageServer, url: str | None = None, **options: Any) -> Iterator[Page]:
    """The page of another server, or in a context of another kind."""
    with chromium.new_context(**{"permissions": ["microphone"]} | options) as context:
        page = context.new_page()
        page.goto(url or server.url)
        yield page


# --- microphone ----------------------------------------------------------------------------------------------------


def test_words_appear_while_one_speaks(page: Page) -> None:
    expect(page.locator("#empty")).to_be_visible()
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#open")).to_contain_text(WORDS)
    expect_status(page, "Listening")
    expect(page.locator("#speech")).to_have_text("Speech")
    expect(page.locator("#elapsed")).to_have_text(re.compile("0:0[1-9]"))
    bars = page.locator(".meter i")
    assert max(float(bar.evaluate("bar => bar.style.getPropertyValue('--level')")) for bar in bars.all()) > 0.2
    page.get_by_role("button", name="Stop").click()
    expect_status(page, "Ready")
    expect(page.locator("#settled")).to_contain_text(WORDS)
    expect(page.locator("#open")).to_be_hidden()


def test_pause_settles_what_was_said_and_hears_nothing_until_resumed(page: Page) -> None:
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#open")).to_contain_text(WORDS)
    page.get_by_role("button", name="Pause").click()
    expect_status(page, "Paused")
    expect(page.locator("#settled")).to_contain_text(WORDS)
    expect(page.locator("#open")).to_be_hidden()
    elapsed = page.locator("#elapsed").inner_text()
    page.wait_for_timeout(300)
    assert page.locator("#elapsed").inner_text() == elapsed
    page.get_by_role("button", name="Resume").click()
    expect_status(page, "Listening")
    expect(page.locator("#open")).to_contain_text(WORDS)


def test_finalize_settles_what_was_said_and_goes_on(page: Page) -> None:
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#open")).to_contain_text(WORDS)
    page.get_by_role("button", name="Finalize").click()
    expect(page.locator("#settled")).to_contain_text(WORDS)
    expect_status(page, "Listening")


RECORD = """
async () => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/v1/stream");
  const received = [];
  socket.onmessage = (event) => received.push(JSON.parse(event.data));
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  await new Promise((resolve) => { socket.onopen = resolve; });
  socket.send(JSON.stringify({ type: "start", encoding: "container" }));
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(microphone, { mimeType: "audio/webm;codecs=opus" });
  recorder.ondataavailable = (event) => socket.send(event.data);
  recorder.start(100);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.stop();
  await stopped;
  socket.send(JSON.stringify({ type: "stop" }));
  await closed;
  return received;
}
"""


def test_what_a_browser_records_as_webm_is_understood_while_it_comes(page: Page) -> None:
    received = page.evaluate(RECORD)
    assert received[-1]["type"] == "done"
    assert 1.0 < received[-1]["audio_seconds"] < 10.0
    assert any(message["type"] == "partial" for message in received)
    assert WORDS.search(" ".join(message["text"] for message in received if message["type"] == "final"))


def test_a_refused_microphone_is_explained(chromium: Browser, server: PageServer) -> None:
    with opened(chromium, server, permissions=[]) as page:
        page.get_by_role("button", name="Start listening").click()
        expect_notice(page, "The microphone is blocked")
        expect(page.get_by_role("alert")).to_contain_text("beside the address")
        expect_status(page, "Ready")
        page.get_by_role("button", name="Dismiss").click()
        expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(
    ("error", "title"),
    [
        ("NotFoundError", "No microphone found"),
        ("NotReadableError", "The microphone does not answer"),
        ("NotSupportedError", "This browser gives pages no microphone"),
    ],
)
def test_a_missing_microphone_is_explained(page: Page, error: str, title: str) -> None:
    page.evaluate(
        "(name) => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', name); }; }", error
    )
    page.get_by_role("button", name="Start listening").click()
    expect_notice(page, title)


def test_an_address_that_is_not_secure_is_explained_at_once(chromium: Browser) -> None:
    with (
        running(allow_origin=("*",)) as server,
        opened(chromium, server, f"http://asr.test:{server.port}/", permissions=[]) as page,
    ):
        expect_notice(page, "The microphone needs a secure address")
        transcribe(page, 5, 0)  # recordings work
        assert settled(page) == ["w5"]
        page.get_by_role("button", name="Copy").click()
        expect(page.locator("#copy")).to_have_text("Copied")


def test_a_microphone_that_is_unplugged_ends_it_with_words(page: Page) -> None:
    page.evaluate(KEEP_MICROPHONE)
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#open")).to_contain_text(WORDS)
    page.evaluate("given.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    expect_status(page, "Ready")
    expect_notice(page, "The microphone is gone")
    expect(page.locator("#settled")).to_contain_text(WORDS)
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_be_hidden()


# --- recordings ----------------------------------------------------------------------------------------------------


def test_a_dropped_recording_is_transcribed(page: Page) -> None:
    transcribe(page, 1, 2, 0, 3, 4, 0)
    assert settled(page) == ["w1 w2", "w3 w4"]
    expect(page.locator("#count")).to_have_text("4 words")
    expect(page.locator("#empty")).to_be_hidden()


def test_a_chosen_recording_is_transcribed_at_the_pace_of_speech(page: Page) -> None:
    page.locator("#options summary").click()
    page.get_by_label("At the pace of speech").check()
    began = time.monotonic()
    page.locator("#file").set_input_files({"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(*range(1, 13), 0)})
    expect(page.locator("#open")).to_contain_text("w3")
    expect(page.locator("#pace-name")).to_have_text("Delay")
    expect(page.locator("#settled .line")).not_to_have_count(0)
    expect_status(page, "Ready")
    assert time.monotonic() - began >= 13 * CHUNK_MS / 1000  # they were not sent all at once
    assert settled(page) == [" ".join(f"w{i}" for i in range(1, 13))]


def test_a_second_recording_begins_anew_or_goes_below(page: Page) -> None:
    transcribe(page, 1, 0)
    drop(page, "more.wav", wav(2, 0))
    page.get_by_role("button", name="Add below").click()
    expect(page.locator("#settled .text")).to_have_text(["w1", "w2"])
    expect_status(page, "Ready")
    drop(page, "more.wav", wav(3, 0))
    page.keyboard.press("Escape")
    drop(page, "more.wav", wav(4, 0))  # at once: what closed the first question answers the second one not
    page.get_by_role("button", name="Add below").click()
    expect(page.locator("#settled .text")).to_have_text(["w1", "w2", "w4"])  # and was no answer to the first one
    expect_status(page, "Ready")
    drop(page, "more.wav", wav(5, 0))
    page.keyboard.press("Enter")
    expect(page.locator("#settled .text")).to_have_text(["w5"])


def test_what_is_no_recording_is_explained(page: Page) -> None:
    drop(page, "notes.txt", b"hello")
    expect_notice(page, "This recording cannot be used")
    expect(page.get_by_role("alert")).to_contain_text("notes.txt")
    expect_status(page, "Ready")


# --- connections ---------------------------------------------------------------------------------------------------


def test_after_a_lost_connection_nothing_is_missing(page: Page, server: PageServer) -> None:
    server.recognizer.gate.clear()
    try:
        drop(page, "talk.wav", wav(1, 2, 0, 3, 4, 0))
        expect_status(page, "Transcribing")
        cut_off(page, server)
        expect_notice(page, "The connection is lost")
        page.evaluate("network()")
    finally:
        server.recognizer.gate.set()
    expect_status(page, "Ready")
    assert settled(page) == ["w1 w2", "w3 w4"]
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_start_without_the_server_blames_the_server(chromium: Browser) -> None:
    with running() as server, opened(chromium, server) as page:
        server.stop()
        page.get_by_role("button", name="Start listening").click()
        expect_notice(page, "The server does not answer")


def test_while_the_server_is_away_the_words_stay_and_the_microphone_is_kept(chromium: Browser) -> None:
    with running() as server, opened(chromium, server) as page:
        page.evaluate("() => { Math.random = () => 1000; }")  # minutes until it would try again by itself
        page.get_by_role("button", name="Start listening").click()
        expect(page.locator("#document")).to_contain_text(WORDS)
        expect(page.locator("#pace")).to_have_text(re.compile(r"\d+ ms"))
        server.stop()
        expect_status(page, "Reconnecting…")
        expect_notice(page, "The connection is lost")
        expect(page.locator("#pace")).to_have_text("–")
        expect(page.locator("#speech")).to_have_text("Waiting")  # nobody knows whether that is speech
        shown = " ".join(page.locator("#document .line").all_inner_texts())
        page.wait_for_timeout(500)
        assert " ".join(page.locator("#document .line").all_inner_texts()) == shown
        server.start()
        page.get_by_role("button", name="Try now").click()
        expect_status(page, "Listening")
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_role("button", name="Stop").click()
        expect_status(page, "Ready")
        assert WORDS.findall(shown)[0] in WORDS.findall(settled(page)[0])


def test_stopping_without_a_connection_keeps_the_words(page: Page, server: PageServer) -> None:
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#open")).to_contain_text(WORDS)
    cut_off(page, server)
    expect_status(page, "Reconnecting…")
    shown = page.locator("#open").inner_text()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#start")).to_have_attribute("title", "Press again to wait no longer")
    expect_status(page, "Reconnecting…")
    page.get_by_role("button", name="Finishing…").click()
    expect_status(page, "Ready")
    assert WORDS.findall(shown)[0] in settled(page)[-1]


@pytest.mark.parametrize("end", ["stop", "unplug"])
def test_what_was_said_without_a_connection_is_heard_after_the_end(page: Page, server: PageServer, end: str) -> None:
    frames: list[str | bytes] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: frames.append(frame)))
    page.evaluate(KEEP_MICROPHONE)
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#open")).to_contain_text(WORDS)
    page.evaluate("() => { Math.random = () => 1000; }")  # minutes until it would try again by itself
    cut_off(page, server)
    expect_notice(page, "The connection is lost")
    expect(page.get_by_role("alert")).to_contain_text("what you say is kept")
    if end == "stop":
        page.get_by_role("button", name="Stop").click()
    else:
        page.evaluate("given.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    expect(page.get_by_role("alert")).to_contain_text("what you said is kept")
    page.evaluate("network()")
    frames.clear()
    page.get_by_role("button", name="Try now").click()
    expect_status(page, "Ready")
    start, *audio, stop = frames
    assert ('"start"' in str(start), '"stop"' in str(stop)) == (True, True)
    assert audio
    expect(page.locator("#settled")).to_contain_text(WORDS)
    if end == "stop":
        expect(page.get_by_role("alert")).to_be_hidden()
    else:
        expect_notice(page, "The microphone is gone")


def test_a_server_that_is_silent_is_explained(chromium: Browser) -> None:
    with running() as server, opened(chromium, server) as page:
        page.evaluate(NO_SOCKETS)
        server.stop()
        with socket.create_server(("127.0.0.1", server.port)):  # connects, and says nothing
            drop(page, "talk.wav", wav(1, 0))
            expect_notice(page, "The server does not answer")


def test_a_full_server_says_so(chromium: Browser) -> None:
    with running(max_sessions=0) as server, opened(chromium, server) as page:
        page.get_by_role("button", name="Start listening").click()
        expect_notice(page, "The server is full")


def test_a_server_with_keys_is_given_one(chromium: Browser, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "page")
    with running(keys=keys) as server, opened(chromium, server) as page:
        drop(page, "talk.wav", wav(1, 0))
        expect(page.locator("#question-title")).to_have_text("This server asks for a key")
        page.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Escape")
        expect_status(page, "Ready")
        expect(page.locator("#empty")).to_be_visible()
        drop(page, "talk.wav", wav(1, 0))
        page.get_by_label("Key", exact=True).fill("sasr_wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#question-title")).to_have_text("The server does not take this key")
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use the key").click()
        expect(page.locator("#settled .text")).to_have_text(["w1"])
        assert key not in page.url


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize(
    ("typed", "sent"), [("", None), (" , ", None), ("Ada Lovelace, Brunel ,", ["Ada Lovelace", "Brunel"])]
)
def test_hotwords_are_sent_when_there_are_any(page: Page, typed: str, sent: list[str] | None, only: bool) -> None:
    frames: list[str | bytes] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: frames.append(frame)))
    page.locator("#options summary").click()
    page.get_by_label("Hotwords").fill(typed)
    page.get_by_label("Listen for nothing else").set_checked(only)
    with page.expect_websocket():
        drop(page, "talk.wav", wav(1, 0))
    expect_status(page, "Ready")
    start = json.loads(frames[0])
    assert start["type"] == "start"
    assert start.get("hotwords") == sent
    assert start.get("only_hotwords", False) is (only and sent is not None)
    assert "formatted" not in start


def test_text_stays_as_it_was_said_for_who_wants_it_so(page: Page) -> None:
    frames: list[str | bytes] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: frames.append(frame)))
    page.locator("#options summary").click()
    page.get_by_label("Punctuation, capitals and figures").uncheck()
    with page.expect_websocket():
        drop(page, "talk.wav", wav(1, 0))
    expect_status(page, "Ready")
    assert json.loads(frames[0])["formatted"] is False


# --- what leaves the page ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "name", "expected"),
    [
        ("Plain text", "transcript.txt", r"w1 w2\nw3\n"),
        (
            "SubRip subtitles",
            "transcript.srt",
            r"1\n00:00:00,000 --> 00:00:00,\d\d\d\nw1 w2\n\n2\n00:00:00,000 --> 00:00:00,\d\d\d\nw3\n\n",
        ),
        ("WebVTT subtitles", "transcript.vtt", r"WEBVTT\n\n(00:00:00\.000 --> 00:00:00\.\d\d\d\nw\d( w\d)?\n\n){2}"),
    ],
)
def test_downloads(page: Page, label: str, name: str, expected: str) -> None:
    transcribe(page, 1, 2, 0, 3, 0)
    page.locator("#download summary").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    assert download.value.suggested_filename == name
    assert re.fullmatch(expected, Path(download.value.path()).read_text(encoding="utf-8"))


def test_copy(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write", "microphone"])
    transcribe(page, 1, 2, 0, 3, 0)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "w1 w2\nw3\n"


def test_clear_asks_first(page: Page) -> None:
    transcribe(page, 1, 0)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Cancel").click()
    assert settled(page) == ["w1"]
    page.get_by_role("button", name="Clear").click()
    page.locator("#question-first").click()
    expect(page.locator("#empty")).to_be_visible()
    transcribe(page, 2, 0)
    assert settled(page) == ["w2"]


# --- for everybody -------------------------------------------------------------------------------------------------


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("s")
    expect(page.locator("#open")).to_contain_text(WORDS)
    page.keyboard.press("p")
    expect_status(page, "Paused")
    page.keyboard.press("p")
    page.keyboard.press("s")
    expect_status(page, "Ready")
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Plain text")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Plain text")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text("Pause, resume")
    page.get_by_label("Single keys are shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.locator("html").get_attribute("data-theme") is None


def test_what_is_typed_is_no_shortcut(page: Page) -> None:
    page.locator("#options summary").click()
    page.get_by_label("Hotwords").press_sequentially("tops?")
    assert page.get_by_label("Hotwords").input_value() == "tops?"
    assert page.locator("html").get_attribute("data-theme") is None
    expect_status(page, "Ready")


@pytest.mark.parametrize("system", ["light", "dark"])
def test_colours_are_the_systems_until_chosen(chromium: Browser, server: PageServer, system: Any) -> None:
    def is_dark(page: Page) -> bool:
        colour = page.locator("html").evaluate("(root) => getComputedStyle(root).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) < 384

    with opened(chromium, server, color_scheme=system) as page:
        assert is_dark(page) == (system == "dark")
        page.get_by_role("button", name="Dark colours").click()
        assert is_dark(page) == (system == "light")
        page.reload()
        assert is_dark(page) == (system == "light")


def test_only_settled_text_is_read_aloud(page: Page) -> None:
    log = page.get_by_role("log")
    expect(log).to_have_attribute("aria-live", "polite")
    assert log.locator("#open").count() == 0
    assert page.locator("[aria-live] #open, [role=status] #open, [role=alert] #open").count() == 0


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}])
def test_accessibility(chromium: Browser, server: PageServer, system: Any, viewport: Any) -> None:
    """By axe-core: labels, roles, contrast and the rest."""
    from axe_playwright_python.sync_playwright import Axe

    def check(page: Page) -> None:
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()

    with opened(chromium, server, color_scheme=system, viewport=viewport) as page:
        check(page)
        page.locator("#options summary").click()
        check(page)
        page.get_by_role("button", name="Keyboard shortcuts").click()
        check(page)
        page.keyboard.press("Escape")
        drop(page, "notes.txt", b"hello")
        expect_notice(page, "This recording cannot be used")
        check(page)
        transcribe(page, 1, 2, 0, 3, 0)
        page.locator("#download summary").click()
        check(page)
        page.get_by_role("button", name="Start listening").click()
        expect(page.locator("#open")).to_contain_text(WORDS)
        check(page)


def test_a_phone_never_scrolls_sideways(chromium: Browser, server: PageServer) -> None:
    def check(page: Page) -> None:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
        for box in filter(None, (button.bounding_box() for button in page.get_by_role("button").all())):
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"]

    with opened(chromium, server, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        check(page)
        page.locator("#options summary").click()
        check(page)
        drop(page, "a-recording-with-a-name-that-never-ends-and-has-no-spaces.txt", b"hello")
        expect_notice(page, "This recording cannot be used")
        check(page)
        transcribe(page, *range(1, 40), 0)
        page.locator("#download summary").click()
        check(page)
        page.get_by_role("button", name="Start listening").click()
        expect(page.locator("#open")).to_contain_text(WORDS)
        check(page)


@pytest.mark.parametrize("viewport", [PHONE, {"width": 844, "height": 390}, {"width": 390, "height": 500}])
def test_the_options_of_a_phone_hide_no_button_and_all_can_be_reached(
    chromium: Browser, server: PageServer, viewport: Any
) -> None:
    with opened(chromium, server, viewport=viewport, has_touch=True, is_mobile=True) as page:
        page.locator("#options summary").click()
        panel = page.locator("#options .menu-panel").bounding_box()
        buttons = page.get_by_label("Controls").get_by_role("button").all()
        assert panel is not None
        assert panel["y"] >= 0
        for box in filter(None, (button.bounding_box() for button in buttons)):
            assert panel["y"] + panel["height"] <= box["y"]
        for choice in page.locator("#options input").all():
            choice.click()


def test_nothing_is_asked_of_anybody_else(page: Page, server: PageServer) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    transcribe(page, 1, 0)
    assert asked
    assert all(url.startswith((server.url, "blob:")) for url in asked)
