"""The page's modules that know no page, run where they live: in the browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from streaming_asr import subtitles
from streaming_asr.messages import Final, Word

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.web.page_server import PageServer


@pytest.fixture(scope="module")
def page(chromium: Browser, server: PageServer) -> Iterator[Page]:
    """One for all: the modules keep nothing."""
    with chromium.new_page() as page:
        page.goto(server.url)
        yield page


def run(page: Page, module: str, body: str, argument: Any = None) -> Any:
    """What `body`, the statements of a function of (module, argument), returns."""
    return page.evaluate(f"async (argument) => {{ const module = await import('/web/{module}.js'); {body} }}", argument)


# --- samples -------------------------------------------------------------------------------------------------------


def test_pcm_is_clipped_and_rounded(page: Page) -> None:
    pcm = run(page, "pcm", "return [...module.toPcm16(new Float32Array(argument))]", [0, 0.5, 1, -1, 3, -3, 1e-5])
    assert pcm == [0, 16384, 32767, -32768, 32767, -32768, 0]


def test_channels_are_averaged(page: Page) -> None:
    body = "return [...module.mixDown(argument.map((c) => new Float32Array(c)))]"
    assert run(page, "pcm", body, [[1, 0.5], [0, -0.5]]) == [0.5, 0]
    assert run(page, "pcm", body, [[0.25]]) == [0.25]


def test_level(page: Page) -> None:
    body = "return argument.map((value) => module.level(new Int16Array(320).fill(value)))"
    silence, quiet, loud, loudest = run(page, "pcm", body, [0, 100, 3000, 32767])
    assert (silence, loudest) == (0, 1)
    assert 0 < quiet < 0.5 < loud < 1


RESAMPLE = """
const { samples, rate, chunk } = argument;
const resampler = new module.Resampler(rate, 16000);
const output = [];
for (let i = 0; i < samples.length; i += chunk) {
  output.push(...resampler.accept(new Float32Array(samples.slice(i, i + chunk))));
}
return output;
"""


def resample(page: Page, samples: np.ndarray, rate: int, chunk: int = 1 << 30) -> np.ndarray:
    return np.array(run(page, "resampler", RESAMPLE, {"samples": samples.tolist(), "rate": rate, "chunk": chunk}))


def tone(hertz: float, rate: int, seconds: float = 0.2) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [48000, 44100, 96000, 8000, 22050])
def test_resampling_keeps_what_fits_and_nothing_else(page: Page, rate: int) -> None:
    for hertz in (100, 1000, 3000):
        output = resample(page, tone(hertz, rate), rate)
        middle = slice(400, len(output) - 400)
        assert np.abs(output - tone(hertz, 16000)[: len(output)])[middle].max() < 1e-3
    if rate > 16000:  # what would fold back to below 8 kHz
        output = resample(page, tone(rate / 2 * 0.75, rate), rate)
        assert np.abs(output[400:-400]).max() < 1e-4


@pytest.mark.parametrize("rate", [48000, 44100])
@pytest.mark.parametrize("chunk", [1, 128, 1021])
def test_resampling_is_the_same_under_any_chunking(page: Page, rate: int, chunk: int) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 3000)
    assert resample(page, noise, rate, chunk).tolist() == resample(page, noise, rate).tolist()


def test_what_is_16_khz_already_is_left_alone(page: Page) -> None:
    assert resample(page, np.array([0.5, -0.25]), 16000).tolist() == [0.5, -0.25]


# --- audio that may still be needed --------------------------------------------------------------------------------

LOG = """
const log = new module.AudioLog(argument.limit ?? Infinity);
const seen = [];
for (const [action, ...values] of argument.actions) {
  if (action === "append") log.append(Int16Array.from(values));
  else if (action === "take") seen.push([...log.take(...values)]);
  else log[action](...values);
}
return { seen, start: log.start, sent: log.sent, end: log.end };
"""


def test_what_is_not_settled_is_sent_again(page: Page) -> None:
    actions = [["append", 1, 2, 3], ["append", 4, 5], ["take", 4], ["settle", 2], ["take", 9], ["rewind"], ["take", 9]]
    result = run(page, "audio_log", LOG, {"actions": actions})
    assert result == {"seen": [[1, 2, 3, 4], [5], [3, 4, 5]], "start": 2, "sent": 5, "end": 5}


def test_audio_is_taken_up_to_a_position(page: Page) -> None:
    actions = [["append", 1, 2, 3, 4], ["take", 9, 3], ["take", 9, 3], ["take", 9], ["take", 9]]
    assert run(page, "audio_log", LOG, {"actions": actions})["seen"] == [[1, 2, 3], [], [4], []]


def test_the_oldest_audio_gives_way(page: Page) -> None:
    actions = [["append", 1, 2], ["append", 3, 4], ["append", 5], ["take", 9], ["settle", 1], ["settle", 99]]
    result = run(page, "audio_log", LOG, {"limit": 3, "actions": actions})
    assert result == {"seen": [[3, 4, 5]], "start": 5, "sent": 5, "end": 5}


# --- transcript ----------------------------------------------------------------------------------------------------

TRANSCRIPT = """
const transcript = new module.Transcript();
for (const [action, ...values] of argument) transcript[action](...values);
return { ...transcript, numWords: transcript.numWords, isEmpty: transcript.isEmpty };
"""


def partial(committed: str, unstable: str, end: float = 1.0) -> dict[str, Any]:
    return {
        "type": "partial",
        "utterance": 0,
        "committed": committed,
        "unstable": unstable,
        "start": 0.5,
        "end": end,
    }


def final(text: str, end: float = 1.0, reason: str = "endpoint") -> dict[str, Any]:
    word = {"word": text, "start": 0.5, "end": end, "confidence": 0.9}
    return {
        "type": "final",
        "utterance": 0,
        "text": text,
        "start": 0.5,
        "end": end,
        "confidence": 0.9,
        "reason": reason,
        "words": [word] if text else [],
    }


def test_partials_give_way_to_the_final(page: Page) -> None:
    partials = [["accept", {"type": "speech_started", "time": 0.4}], ["accept", partial("turn", "of the")]]
    state = run(page, "transcript", TRANSCRIPT, partials)
    assert state["open"] == {"committed": "turn", "unstable": "of the", "start": 0.5, "end": 1}
    assert (state["speaking"], state["numWords"], state["isEmpty"]) == (True, 3, False)
    state = run(page, "transcript", TRANSCRIPT, [*partials, ["accept", final("turn off"), 10]])
    assert (state["open"], state["speaking"]) == (None, False)
    [utterance] = state["utterances"]
    assert (utterance["text"], utterance["start"], utterance["words"][0]["end"]) == ("turn off", 10.5, 11)
    assert utterance["formatted"] == "turn off"  # as it was said where the server writes nothing
    written = {**final("turn off"), "formatted": "Turn off."}
    assert run(page, "transcript", TRANSCRIPT, [["accept", written]])["utterances"][0]["formatted"] == "Turn off."


def test_empty_finals_and_unknown_messages_show_nothing(page: Page) -> None:
    state = run(page, "transcript", TRANSCRIPT, [["accept", final("")], ["accept", {"type": "weather"}]])
    assert (state["utterances"], state["isEmpty"]) == ([], True)


def test_words_that_were_shown_stay_until_they_are_heard_again(page: Page) -> None:
    lost = [["accept", partial("one two", "three", 3.0)], ["interrupt"]]
    state = run(page, "transcript", TRANSCRIPT, [*lost, ["accept", partial("", "one", 1.0)]])
    assert (state["open"]["committed"], state["held"]) == ("one two", True)
    state = run(page, "transcript", TRANSCRIPT, [*lost, ["accept", final("one two", 2.0)]])
    assert (state["utterances"][0]["text"], state["open"]["committed"], state["held"]) == ("one two", "one two", True)
    state = run(page, "transcript", TRANSCRIPT, [*lost, ["accept", partial("one", "two tree", 2.9)]])
    assert (state["open"]["unstable"], state["held"]) == ("two tree", False)
    state = run(page, "transcript", TRANSCRIPT, [*lost, ["accept", final("one", 1.0, "stop")]])
    assert (state["open"], state["held"]) == (None, False)


def test_what_will_not_come_again_is_kept_as_it_stands(page: Page) -> None:
    state = run(page, "transcript", TRANSCRIPT, [["accept", partial("one", "two")], ["interrupt"], ["settle"]])
    assert [(u["text"], u["formatted"], u["words"]) for u in state["utterances"]] == [("one two", "one two", [])]
    assert (state["open"], state["held"]) == (None, False)


# --- what leaves the page ------------------------------------------------------------------------------------------

WORDS = tuple(Word(f"word{i}", i * 0.5, i * 0.5 + 0.4, 0.9) for i in range(30))
NUMBER = [Word("twenty", 20.0, 21.0, 0.9, "21"), Word("one", 21.0, 27.0, 0.8, ""), Word("men", 27.0, 28.0, 0.9, "men.")]
FINALS = [
    Final(0, " ".join(w.word for w in WORDS), 0.0, 14.9, 0.9, "endpoint", list(WORDS)),
    Final(1, "twenty one men", 20.0, 28.0, 0.9, "endpoint", NUMBER, formatted="21 men."),
    Final(2, "late", 3661.0, 3661.25, 0.5, "stop", [Word("late", 3661.0, 3661.25, 0.5, "Late.")], formatted="Late."),
]


@pytest.mark.parametrize("finals", [[], FINALS[:1], FINALS])
def test_subtitles_are_those_of_the_command_line(page: Page, finals: list[Final]) -> None:
    utterances = json.loads(msgspec.json.encode(finals))
    assert run(page, "formats", "return module.toSrt(argument)", utterances) == subtitles.srt(finals)
    assert run(page, "formats", "return module.toVtt(argument)", utterances) == subtitles.vtt(finals)


def test_text_and_json(page: Page) -> None:
    utterances = json.loads(msgspec.json.encode(FINALS[2:]))
    assert run(page, "formats", "return module.toText(argument)", utterances) == "Late.\n"
    written = json.loads(run(page, "formats", "return module.toJson(argument)", utterances))
    [utterance] = written["utterances"]
    assert (written["text"], utterance["formatted"], utterance["words"][0]["confidence"]) == ("late", "Late.", 0.5)


def test_a_number_is_one_word_that_is_as_sure_as_the_least_sure_of_its_words(page: Page) -> None:
    words = json.loads(msgspec.json.encode(NUMBER))
    number, men = run(page, "written", "return module.asWritten(argument)", words)
    assert (number["written"], number["word"], number["end"], number["confidence"]) == ("21", "twenty one", 27, 0.8)
    assert men == words[2]
    [raw] = run(page, "written", "return module.asWritten(argument)", [{"word": "raw", "confidence": 0.5}])
    assert raw["written"] == "raw"


def test_vtt_escapes_what_would_be_markup(page: Page) -> None:
    utterance = {"formatted": "a <b> & c", "start": 0, "end": 1, "words": []}
    assert "a &lt;b&gt; &amp; c" in run(page, "formats", "return module.toVtt([argument])", utterance)


# --- latency -------------------------------------------------------------------------------------------------------


def test_latency_is_the_median_from_a_words_end_to_its_appearance(page: Page) -> None:
    body = """
    const meter = new module.LatencyMeter();
    const before = meter.median;
    for (let i = 1; i <= 100; i++) meter.heard(i * 0.02, 1000 + i * 20);
    meter.shown(0.5, 1600);  // heard at 1500
    meter.shown(0.5, 1900);  // no new word
    meter.shown(1.0, 2300);
    meter.shown(1.5, 2900);
    meter.shown(9.9, 2900);  // not heard yet
    return [before, meter.latencies, meter.median];
    """
    before, latencies, median = run(page, "latency", body)
    assert before is None
    assert latencies == pytest.approx([100, 300, 400])
    assert median == pytest.approx(300)


# --- recognition ---------------------------------------------------------------------------------------------------

# A test is a script: what the page does (accept, finalize, finish …), what the server and the network do (open, say,
# close, full), and how time passes (wait). It returns what was sent on each connection and what the page was told.
RECOGNITION = """
const sockets = [], told = [], timers = new Map();
let now = 0, lastTimer = 0;
const clock = {
  now: () => now,
  random: () => 0.5,
  setTimeout: (action, after) => (timers.set(++lastTimer, { action, at: now + after }), lastTimer),
  clearTimeout: (timer) => timers.delete(timer),
};
const connect = () => {
  const socket = { sent: [], bufferedAmount: 0, close() { this.isClosed = true; } };
  socket.send = (data) => socket.sent.push(typeof data === "string" ? JSON.parse(data).type : data.length);
  sockets.push(socket);
  return socket;
};
const observer = Object.fromEntries(
  ["connecting", "connected", "message", "audioLost", "disconnected", "ended", "failed"].map((name) => [
    name, (...values) => told.push(name === "message" ? [values[0].type, values[1]] : [name, ...values])]));
const recognition = new module.Recognition({ connect, clock, observer, ...argument.options });
const current = () => sockets.at(-1);
const say = (message) => current().onmessage({ data: JSON.stringify(message) });
const act = {
  audio: (seconds) => recognition.accept(new Int16Array(seconds * 16000)),
  open: () => { current().onopen(); say({ type: "ready" }); },
  say,
  close: () => current().onclose(),
  giveUp: () => recognition.close(),
  full: (bytes) => { current().bufferedAmount = bytes; },
  wait: (milliseconds) => {
    const until = now + milliseconds;
    for (;;) {
      const due = [...timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined) break;
      timers.delete(due[0]);
      now = due[1].at;
      due[1].action();
    }
    now = until;
  },
};
for (const [action, ...values] of argument.script) (act[action] ?? ((...v) => recognition[action](...v)))(...values);
return { sent: sockets.map(({ sent }) => sent), told, numTimers: timers.size };
"""


def play(page: Page, *script: tuple[Any, ...], **options: Any) -> dict[str, Any]:
    result = run(page, "recognition", RECOGNITION, {"script": [list(step) for step in script], "options": options})
    assert isinstance(result, dict)
    return result


def samples(sent: list[str | int]) -> int:
    """Of the audio that was sent on a connection."""
    return sum(frame for frame in sent if isinstance(frame, int))


DONE = {"type": "done", "audio_seconds": 1.0, "utterances": 1}


def test_a_recognition_from_start_to_end(page: Page) -> None:
    result = play(
        page, ("audio", 0.5), ("open",), ("audio", 0.5), ("finish",), ("say", final("hello")), ("say", DONE), offset=7
    )
    assert result["sent"] == [["start", 8000, 8000, "stop"]]
    assert [name for name, *_ in result["told"]] == ["connecting", "connected", "ready", "final", "done", "ended"]
    assert result["told"][3] == ["final", 7]
    assert result["numTimers"] == 0


def test_a_finalize_comes_after_the_audio_before_it(page: Page) -> None:
    result = play(page, ("audio", 0.25), ("finalize",), ("audio", 0.25), ("open",))
    assert result["sent"] == [["start", 4000, "finalize", 4000]]


def test_after_a_lost_connection_what_was_not_settled_is_sent_again(page: Page) -> None:
    script = [("open",), ("audio", 2), ("say", final("one", 1.0)), ("say", partial("", "two", 1.9))]
    result = play(page, *script, ("close",), ("audio", 1), ("wait", 500), ("open",), ("say", final("two", 0.5)))
    assert result["sent"] == [["start", 8000, 8000, 8000, 8000], ["start", 8000, 8000, 8000, 4800]]
    offset = 1.0 + 0.2  # the final's end, and a margin of the silence that followed it
    assert result["told"][-1] == ["final", pytest.approx(offset)]
    assert ["disconnected", 500] in result["told"]


def test_a_finalize_that_was_not_answered_is_asked_again(page: Page) -> None:
    script = [("open",), ("audio", 0.5), ("finalize",), ("close",), ("wait", 500), ("open",)]
    result = play(page, *script, ("say", final("one", 0.3, "finalize")), ("close",), ("wait", 500), ("open",))
    assert result["sent"] == [["start", 8000, "finalize"], ["start", 8000, "finalize"], ["start"]]


def test_silence_from_long_ago_is_not_sent_again(page: Page) -> None:
    spoken = [step for _ in range(10) for step in (("audio", 10), ("wait", 10000))]
    result = play(page, ("open",), *spoken, ("close",), ("wait", 500), ("open",), keptSeconds=600)
    assert samples(result["sent"][0]) == 100 * 16000
    assert samples(result["sent"][1]) == 30 * 16000


def test_what_the_server_cannot_have_heard_yet_is_sent_again(page: Page) -> None:
    lost = [("close",), ("wait", 500), ("open",)]
    script = [("open",), ("audio", 300), ("say", final("one", 40.0)), ("wait", 60000), *lost]
    recording = play(page, *script)
    assert samples(recording["sent"][1]) == round((300 - 40.2) * 16000)  # though all had left the browser, a minute ago
    microphone = play(page, *script, keptSeconds=600)  # what it had heard while the server was away
    assert samples(microphone["sent"][1]) == round((300 - 40.2) * 16000)
    again = play(page, *script, ("wait", 90000), *lost, keptSeconds=600)
    assert samples(again["sent"][2]) == round((300 - 40.2 - 60) * 16000)


def test_what_breaks_the_server_is_left_out_at_last_and_no_more(page: Page) -> None:
    broken = [("say", {"type": "error", "code": "internal", "message": ""}), ("close",), ("wait", 500), ("open",)]
    script = [("open",), ("audio", 100), ("say", final("one", 40.0)), *broken]
    once = play(page, *script)
    assert samples(once["sent"][1]) == round((100 - 40.2) * 16000)
    ever_more = play(page, *script, *broken, *broken, *broken)
    assert [samples(sent) / 16000 for sent in ever_more["sent"][2:]] == [100 - 41, 100 - 42, 100 - 44]
    further = play(page, *script, *broken, ("say", partial("", "two", 10.0)), *broken)
    assert samples(further["sent"][3]) / 16000 == 100 - 41


def test_an_end_that_was_not_answered_is_told_again(page: Page) -> None:
    script = [("open",), ("audio", 0.5), ("finish",), ("close",), ("wait", 500), ("open",)]
    assert play(page, *script)["sent"] == [["start", 8000, "stop"], ["start", 8000, "stop"]]


def test_a_server_that_shuts_down_is_not_the_end(page: Page) -> None:
    result = play(page, ("open",), ("audio", 1), ("say", DONE), ("close",), ("wait", 500), ("open",), ("audio", 0.1))
    assert result["sent"][1] == ["start", 1600]
    assert "ended" not in [name for name, *_ in result["told"]]


def test_attempts_come_ever_more_slowly(page: Page) -> None:
    result = play(page, *[step for _ in range(8) for step in (("close",), ("retryNow",))])
    waits = [values[0] for name, *values in result["told"] if name == "disconnected"]
    assert waits == [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]
    assert run(page, "recognition", "return [module.retryDelay(0, 0), module.retryDelay(0, 1)]") == [375, 625]


def test_one_may_not_wait_for_the_next_attempt(page: Page) -> None:
    result = play(page, ("close",), ("retryNow",), ("open",), ("retryNow",))
    assert result["sent"] == [[], ["start"]]


def test_a_connection_that_never_opens_is_given_up(page: Page) -> None:
    result = play(page, ("wait", 10000))
    assert result["told"] == [["connecting"], ["disconnected", 500]]


def test_a_server_that_pushes_back_is_waited_for(page: Page) -> None:
    script: list[tuple[Any, ...]] = [("open",), ("full", 1 << 20), ("audio", 0.5), ("wait", 1000)]
    assert play(page, *script)["sent"] == [["start"]]
    assert play(page, *script, ("full", 0), ("wait", 50))["sent"] == [["start", 8000]]
    assert ["disconnected", 500] not in play(page, *script, ("full", 1 << 19), ("wait", 30000))["told"]
    assert ["disconnected", 500] in play(page, *script, ("wait", 30000))["told"]


def test_a_quiet_session_is_kept_alive(page: Page) -> None:
    result = play(page, ("open",), ("audio", 0.1), ("wait", 31000))
    assert result["sent"] == [["start", 1600, "keepalive", "keepalive"]]


def test_what_the_server_refuses_is_not_tried_again(page: Page) -> None:
    error = {"type": "error", "code": "bad_hotwords", "message": "too many hotwords"}
    result = play(page, ("open",), ("say", error), ("close",), ("wait", 60000))
    assert result["told"][-1] == ["failed", "too many hotwords"]
    assert (len(result["sent"]), result["numTimers"]) == (1, 0)
    result = play(page, ("open",), ("say", error | {"code": "internal"}), ("close",), ("wait", 500))
    assert len(result["sent"]) == 2


def test_words_whose_audio_is_no_longer_kept_are_said_to_be_lost(page: Page) -> None:
    script = [("open",), ("audio", 2), ("say", partial("one", "", 1.0)), ("close",)]
    assert ["audioLost"] not in play(page, *script, ("audio", 1), ("wait", 500), keptSeconds=10)["told"]
    assert ["audioLost"] in play(page, *script, ("audio", 30), ("wait", 500), keptSeconds=10)["told"]


def test_nothing_is_told_once_the_page_has_given_up(page: Page) -> None:
    result = play(page, ("open",), ("audio", 0.1), ("giveUp",), ("say", final("late")), ("close",), ("wait", 60000))
    assert result["told"][-1] == ["ready", 0]
    assert (len(result["sent"]), result["numTimers"]) == (1, 0)
