"""The session machine, without sockets: order, validation, endings; nothing a client sends makes it raise."""

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streaming_asr import messages
from streaming_asr.limits import Limits
from streaming_asr.messages import Event, Final, Partial, Reason, SpeechStarted, StreamOptions
from streaming_asr.session import (
    TRANSITIONS,
    Action,
    Close,
    Flush,
    Input,
    ModelInfo,
    Open,
    Push,
    Save,
    Send,
    Session,
    Snapshot,
    State,
)

MODEL = ModelInfo("en-test", 80, 95, "en")
READY = messages.Ready("s1", 1, "en-test", 80, 95)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def new_session(clock: Clock | None = None, **limits: Any) -> Session:
    return Session("s1", MODEL, Limits(**limits), clock or Clock())


def started(clock: Clock | None = None, start: str = '{"type": "start"}', **limits: Any) -> Session:
    session = new_session(clock, **limits)
    session.receive_text(start)
    assert session.state is State.STREAMING
    return session


def after_final(session: Session) -> list[Action]:
    """What comes behind the last final."""
    said, *rest = session.receive_events([final("stop")])
    assert said == Send(final("stop"))
    return rest


def final(reason: Reason, text: str = "yes", utterance: int = 0) -> Final:
    return Final(utterance, text, 0.0, 0.5, 0.9, reason)


def refusal(actions: list[Action]) -> tuple[str, int]:
    """The code and close code of a refusal, which is exactly an error and a close."""
    match actions:
        case [Send(messages.Error(code=code, message=message)), Close(code=close_code)]:
            assert message
            return code, close_code
    raise AssertionError(f"no refusal: {actions}")


def test_a_session_from_start_to_done() -> None:
    session = new_session()
    start = '{"type": "start", "sample_rate": 16000, "nbest": 3, "partials": false, "language": "en-GB"}'
    assert session.receive_text(start) == [Open(StreamOptions(partials=False, nbest=3)), Send(READY)]
    [push] = session.receive_bytes(b"\x00\x40" * 8000)
    assert isinstance(push, Push)
    np.testing.assert_array_equal(push.samples, np.full(8000, 0.5, np.float32))
    heard: list[SpeechStarted | Partial | Final] = [
        SpeechStarted(0.1),
        Partial(0, "", "yes", 0.1, 0.4),
        final("endpoint"),
    ]
    assert session.receive_events(heard) == [Send(event) for event in heard]
    assert session.receive_text('{"type": "finalize"}') == [Flush("finalize")]
    assert session.receive_text('{"type": "keepalive"}') == []
    assert session.receive_events([final("finalize", "", 1)]) == [Send(final("finalize", "", 1))]
    assert session.receive_text('{"type": "stop"}') == [Flush("stop")]
    last = final("stop", "no", 2)
    assert session.receive_events([last]) == [Send(last), Send(messages.Done(0.5, 2)), Close(1000)]
    assert session.state is State.CLOSED


@pytest.mark.parametrize(
    ("text", "code", "close_code"),
    [
        ("{", "bad_json", 1007),
        ('{"type": "start", "endpointing": ' + "[" * 100_000, "bad_message", 1007),
        ('{"x": ' + "[" * 100_000, "bad_json", 1007),
        ("\ud800", "bad_json", 1007),
        ("[]", "bad_message", 1007),
        ("{}", "bad_message", 1007),
        ('{"type": 5}', "bad_message", 1007),
        ('{"type": "begin"}', "unknown_type", 1003),
        ('{"type": "start", "hot_words": []}', "bad_message", 1007),
        ('{"type": "start", "hotwords": [7]}', "bad_message", 1007),
        ('{"type": "start", "only_hotwords": true}', "bad_hotwords", 1003),
        ('{"type": "start", "only_hotwords": true, "hotwords": [" ", "-"]}', "bad_hotwords", 1003),
        (f'{{"type": "start", "hotwords": ["{"a" * 101}"]}}', "bad_hotwords", 1003),
        ('{"type": "start", "hotwords": ["a"' + ', "a"' * 100 + "]}", "bad_hotwords", 1003),
        ('{"type": "start", "encoding": "mp3"}', "bad_message", 1007),
        ('{"type": "start", "sample_rate": "16000"}', "bad_message", 1007),
        ('{"type": "start", "sample_rate": 1e400}', "bad_message", 1007),
        ('{"type": "start", "sample_rate": 7999}', "bad_sample_rate", 1003),
        ('{"type": "start", "sample_rate": 96000}', "bad_sample_rate", 1003),
        ('{"type": "start", "channels": 3}', "bad_channels", 1003),
        ('{"type": "start", "language": "de"}', "bad_language", 1003),
        ('{"type": "start", "nbest": 0}', "bad_nbest", 1003),
        ('{"type": "start", "nbest": 11}', "bad_nbest", 1003),
        ('{"type": "start", "endpointing": {"trailing_silence_ms": 1}}', "bad_endpointing", 1003),
        ('{"type": "start", "endpointing": {"max_utterance_ms": -5}}', "bad_endpointing", 1003),
        ('{"type": "finalize"}', "wrong_order", 1008),
        ('{"type": "stop"}', "wrong_order", 1008),
        ('{"type": "keepalive"}', "wrong_order", 1008),
        (" " * 5000, "too_big", 1009),
    ],
)
def test_bad_openings_are_refused_with_a_reason(text: str, code: str, close_code: int) -> None:
    session = new_session(max_frame_bytes=4999 if code == "too_big" else 1 << 20)
    assert refusal(session.receive_text(text)) == (code, close_code)
    assert session.state is State.CLOSED
    assert session.receive_text('{"type": "start"}') == []


def test_wrong_order_names_message_and_state() -> None:
    [send, _] = new_session().receive_bytes(b"\0\0")
    assert isinstance(send, Send)
    assert send.message == messages.Error("wrong_order", "audio cannot come while the session is waiting for start")
    session = started()
    assert session.receive_text('{"type": "start"}') == [Flush("stop")]
    assert refusal(after_final(session)) == ("wrong_order", 1008)


@pytest.mark.parametrize("late", ['{"type": "stop"}', '{"type": "finalize"}', '{"type": "start"}', b"\0\0"])
def test_after_stop_only_keepalive_may_come(late: str | bytes) -> None:
    session = started()
    session.receive_text('{"type": "stop"}')
    assert session.receive_text('{"type": "keepalive"}') == []
    assert (session.receive_text(late) if isinstance(late, str) else session.receive_bytes(late)) == []
    assert session.receive_bytes(b"\0\0") == []  # no second error
    assert refusal(after_final(session)) == ("wrong_order", 1008)


def test_an_error_message_repeats_little_of_what_came() -> None:
    for text in ['{"type": "%s"}', '{"type": "start", "encoding": "%s"}', '{"type": "start", "language": "%s"}']:
        [send, _] = new_session().receive_text(text % ("x" * 100_000))
        assert isinstance(send, Send)
        assert isinstance(send.message, messages.Error)
        assert len(send.message.message) < 250


def test_audio_that_is_not_finite_or_too_big_is_refused() -> None:
    session = started(start='{"type": "start", "encoding": "pcm_f32le"}')
    assert session.receive_bytes(np.array([np.nan], "<f4").tobytes()) == [Flush("stop")]
    assert refusal(after_final(session)) == ("bad_audio", 1007)
    session = started(max_frame_bytes=99)
    assert session.receive_bytes(bytes(100)) == [Flush("stop")]
    assert refusal(after_final(session)) == ("too_big", 1009)


@pytest.mark.parametrize("ending", ["finalize", "stop"])
def test_a_flush_first_pushes_what_the_resampler_holds(ending: str) -> None:
    session = started(start='{"type": "start", "sample_rate": 48000}')
    pushed = sum(len(a.samples) for a in session.receive_bytes(bytes(2 * 4800)) if isinstance(a, Push))
    assert pushed < 1600
    push, flush = session.receive_text(f'{{"type": "{ending}"}}')
    assert isinstance(push, Push)
    assert isinstance(flush, Flush)
    assert (pushed + len(push.samples), flush.reason) == (1600, ending)


def test_half_a_sample_at_the_end_is_an_error_after_the_last_final() -> None:
    session = started()
    session.receive_bytes(b"\0\0\0")
    assert session.receive_text('{"type": "stop"}') == [Flush("stop")]
    sent, error, close = session.receive_events([final("stop")])
    assert sent == Send(final("stop"))
    assert isinstance(error, Send)
    assert error.message == messages.Error("odd_audio", "the audio ended 1 bytes into a frame")
    assert isinstance(close, Close)
    assert close.code == 1007


def test_idle_sessions_end_and_signs_of_life_put_that_off() -> None:
    clock = Clock()
    waiting = new_session(clock, idle_timeout_seconds=10)
    streaming = started(clock, idle_timeout_seconds=10)
    assert waiting.deadline == streaming.deadline == 110
    clock.now = 109
    assert waiting.tick() == []
    streaming.receive_text('{"type": "keepalive"}')
    clock.now = 111
    assert refusal(waiting.tick()) == ("idle", 1008)
    assert streaming.tick() == []
    streaming.receive_bytes(b"\0\0")
    assert streaming.deadline == 121
    clock.now = 122
    assert streaming.tick() == [Flush("stop")]
    assert streaming.deadline is None
    assert refusal(streaming.receive_events([final("stop")])[1:]) == ("idle", 1008)


def test_a_session_may_last_only_so_long_however_lively_it_is() -> None:
    clock = Clock()
    session = started(clock, max_session_seconds=100)
    for _ in range(3):
        clock.now += 30
        session.receive_bytes(bytes(320))
        assert session.tick() == []
    assert session.deadline == 200
    clock.now = 200
    assert session.tick() == [Flush("stop")]
    assert refusal(session.receive_events([final("stop")])[1:]) == ("too_long", 1008)


def test_going_away_settles_what_was_said() -> None:
    session = started()
    session.receive_bytes(bytes(32000))
    assert session.go_away() == [Flush("stop")]
    assert session.receive_bytes(b"\0\0") == []  # the client cannot know yet
    assert session.receive_text('{"type": "stop"}') == []
    assert session.receive_text("garbage") == []
    assert session.go_away() == []
    assert session.receive_events([final("stop")]) == [
        Send(final("stop")),
        Send(messages.Done(1.0, 1)),
        Close(1001, "the server is shutting down"),
    ]
    assert new_session().go_away() == [Close(1001, "the server is shutting down")]


def test_a_stopping_session_is_not_changed_by_the_server_going_away() -> None:
    session = started()
    session.receive_text('{"type": "stop"}')
    assert session.go_away() == []
    assert session.receive_events([final("stop")])[-1] == Close(1000)


def test_the_servers_own_failure_and_a_lost_connection_end_everything() -> None:
    session = started()
    assert refusal(session.fail("internal", "the recognizer failed")) == ("internal", 1011)
    assert session.fail("internal", "again") == []
    lost = started()
    assert lost.connection_lost() == []
    assert lost.state is State.CLOSED
    assert lost.receive_events([final("stop")]) == []
    assert lost.connection_lost() == []


def test_every_state_but_closed_can_fail_and_be_lost_and_closed_is_final() -> None:
    for state in State:
        legal = {happened for (before, happened) in TRANSITIONS if before is state}
        assert legal >= {Input.FAIL, Input.LOST} if state is not State.CLOSED else not legal


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_any_text_opens_or_is_refused(text: str) -> None:
    actions = new_session().receive_text(text)
    assert isinstance(actions[0], Open) or refusal(actions)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [*messages.Start.__struct_fields__, "type", "other"]
MESSAGES = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(["start", "finalize", "keepalive", "stop", "nonsense"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2),
).map(lambda message: msgspec.json.encode(message).decode())
PLAIN = st.sampled_from([f'{{"type": "{kind}"}}' for kind in ("start", "finalize", "keepalive", "stop")])
EVENTS = st.lists(st.sampled_from([SpeechStarted(0.0), final("endpoint"), final("finalize")]), max_size=2)
STEPS = st.one_of(
    PLAIN, PLAIN, MESSAGES, st.binary(max_size=50), st.binary(max_size=50), EVENTS, st.just("go_away"), st.just(None)
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_whatever_comes_in_whatever_order_the_actions_make_sense(steps: list[Any]) -> None:
    clock = Clock()
    session = new_session(clock)
    actions: list[Action] = session.receive_text('{"type": "start", "encoding": "pcm_f32le", "channels": 2}')
    for step in steps:
        if step is None:
            clock.now += 61
            actions += session.tick()
        elif step == "go_away":
            actions += session.go_away()
        elif isinstance(step, list):
            actions += session.receive_events(step)
        else:
            actions += session.receive_text(step) if isinstance(step, str) else session.receive_bytes(step)
    stops = [a for a in actions if a == Flush("stop")]
    assert len(stops) <= 1
    if stops:
        actions += session.receive_events([final("stop")])
        assert session.state is State.CLOSED
    kinds = [type(action) for action in actions]
    assert kinds[:2] == [Open, Send]
    assert kinds.count(Open) == 1
    assert kinds.count(Close) == (session.state is State.CLOSED)
    assert Close not in kinds[:-1]
    if stops:
        assert Push not in kinds[actions.index(stops[0]) :]
    said_last = [a.message for a in actions if isinstance(a, Send)][-1]
    if session.state is State.CLOSED:
        assert isinstance(said_last, messages.Done | messages.Error)


def test_native_messages_are_read_as_written() -> None:
    written = messages.Start(8000, "mulaw", 2, "en", False, False, 4, messages.Endpointing(False, 300))
    assert messages.parse_message(msgspec.json.encode(written).decode()) == written


def test_a_restored_session_goes_on_after_its_last_final() -> None:
    start = messages.Start(sample_rate=8000, hotwords=("one",), only_hotwords=True)
    finals = [final("endpoint", f"w{utterance}", utterance) for utterance in (3, 4)]
    snapshot = Snapshot("s1", hashlib.sha256(b"token").hexdigest(), start, 1600, 0, 5, finals, 2, context=b"them")
    session = Session.restored(snapshot, "token", MODEL, Limits(), Clock())
    actions = session.resume(5)
    (opening,) = [action for action in actions if isinstance(action, Open)]
    options = StreamOptions(
        hotwords=("one",),
        only_hotwords=True,
        checkpoints=True,
        first_sample=3200,
        first_utterance=5,
        finals_before=tuple(finals),
        context=b"them",
    )
    assert opening == Open(options)


def test_what_was_to_be_saved_when_the_connection_went_is_saved_again() -> None:
    session = Session("s1", MODEL, Limits(), Clock(), "token", saves=True)
    session.receive_text('{"type": "start", "resumable": true}')
    [saved] = [action for action in session.receive_events([final("endpoint")]) if isinstance(action, Save)]
    session.suspend()  # with it, whoever was to perform that
    assert [action for action in session.resume(1) if isinstance(action, Save)] == [saved]


def test_a_stop_is_saved_together_with_what_it_brought() -> None:
    session = Session("s1", MODEL, Limits(), Clock(), "token", saves=True)
    session.receive_text('{"type": "start", "resumable": true}')
    session.receive_bytes(bytes(3200))
    session.receive_text('{"type": "stop"}')
    actions = session.receive_events([messages.Checkpoint(1600), final("stop")])
    [saved] = [action.snapshot for action in actions if isinstance(action, Save)]
    restored = Session.restored(saved, "token", MODEL, Limits(), Clock())
    again = [action.message for action in restored.resume(0) if isinstance(action, Send)]
    assert again[1:] == [final("stop"), messages.Done(0.1, 1)]


def test_an_end_that_the_server_makes_is_no_request_of_the_client() -> None:
    clock = Clock()
    session = Session("s1", MODEL, Limits(max_session_seconds=10), clock, "token", saves=True)
    session.receive_text('{"type": "start", "resumable": true}')
    session.receive_bytes(bytes(3200))
    clock.now += 11
    assert Flush("stop") in session.tick()
    actions = session.receive_events([messages.Checkpoint(1600), final("stop")])
    assert Send(messages.Ack(1600, 0)) in actions


def resumable(saves: bool = True) -> Session:
    session = Session("s1", MODEL, Limits(), Clock(), "token", saves=saves)
    session.receive_text('{"type": "start", "resumable": true}')
    return session


BROKEN_OFF: list[Action] = [Close(1012, "the recognizer restarts")]


@pytest.mark.parametrize("request_", ["keepalive", "finalize", "stop"])
@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("saves", [True, False])
def test_a_session_whose_stream_is_lost_goes_on_from_what_is_settled(
    request_: str, is_connected: bool, saves: bool
) -> None:
    session = resumable(saves)
    session.receive_bytes(bytes(6400))
    session.receive_events([messages.Checkpoint(1600, b"them"), final("endpoint")])
    session.receive_text(f'{{"type": "{request_}"}}')
    if not is_connected:
        session.suspend()
    assert session.break_off() == (BROKEN_OFF if is_connected else [])
    assert session.receive_bytes(bytes(3200)) == session.receive_text("garbage") == session.go_away() == []
    assert session.deadline is None
    session.suspend()
    opening, *saving, ready = session.resume(1)
    assert isinstance(opening, Open)
    assert (opening.options.first_sample, opening.options.first_utterance) == (1600, 1)
    assert (opening.options.context, opening.options.checkpoints) == (b"them", True)
    assert [type(action) for action in saving] == [Save] * saves
    assert isinstance(ready, Send)
    assert isinstance(ready.message, messages.Ready)
    assert (ready.message.received_samples, ready.message.received_requests) == (1600, 0)
    [again] = session.receive_bytes(bytes(3200))
    assert isinstance(again, Push)
    assert len(again.samples) == 1600
    assert session.receive_text('{"type": "stop"}')[-1] == Flush("stop")
    actions = session.receive_events([messages.Checkpoint(3200), final("stop", "two", 1)])
    assert actions[-2:] == [Send(messages.Done(0.2, 2)), Close(1000)]


def test_a_session_whose_stream_is_lost_where_it_was_before_fails_and_further_on_does_not() -> None:
    session = resumable()
    for samples in (800, 1600):
        session.receive_bytes(bytes(1600))
        session.receive_events([messages.Checkpoint(samples)])
        assert session.break_off() == BROKEN_OFF
        session.suspend()
        session.resume(0)
    assert refusal(session.break_off()) == ("internal", 1011)
    assert session.break_off() == []


def test_a_session_that_cannot_be_resumed_or_that_the_server_ends_fails_with_its_stream() -> None:
    assert refusal(started().break_off()) == ("internal", 1011)
    session = resumable()
    session.end("key_revoked", "no longer")
    assert refusal(session.break_off()) == ("internal", 1011)


class Hearing:
    """A stream whose finals say from which sample to which they are."""

    def __init__(self, options: StreamOptions) -> None:
        self.settled = self.pushed = options.first_sample
        self.utterance = options.first_utterance
        self.flushes: list[tuple[Reason, int]] = []

    def say(self) -> list[Event]:
        reason, until = self.flushes.pop(0) if self.flushes else ("endpoint", self.pushed)
        said = final(reason, f"{self.settled}-{until}", self.utterance)
        self.settled = until
        self.utterance += 1
        return [messages.Checkpoint(until), said]


class Client:
    """Sends its script, drives its session as a server does, and comes back as long as it is told that it may."""

    def __init__(self, saves: bool, script: list[int]) -> None:
        """``script``: so many samples, or a finalize where it is 0; a stop follows."""
        self.script = script
        self.at = self.samples_to_skip = self.requests_to_skip = 0
        self.session = resumable(saves)
        self.stream: Hearing | None = Hearing(StreamOptions(checkpoints=True))
        self.is_connected, self.is_closing = True, False
        self.told: list[str] = []
        self.code: int | None = None  # with which all ended

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Open(options):
                    self.stream = Hearing(options)
                case Push(pushed) if self.stream:
                    self.stream.pushed += len(pushed)
                case Flush(reason) if self.stream:
                    self.stream.flushes.append((reason, self.stream.pushed))
                case Send(messages.Ready() as ready):
                    self.samples_to_skip, self.requests_to_skip = ready.received_samples, ready.received_requests
                case Send(Final() as said):
                    assert said.utterance == len(self.told)
                    self.told.append(said.text)
                case Close(1012):
                    self.is_closing = True  # of which the client hears later
                case Close(code):
                    self.code = code

    def send(self) -> None:
        if not self.is_connected or self.at > len(self.script):
            return
        num_samples = self.script[self.at] if self.at < len(self.script) else 0
        kind = "finalize" if self.at < len(self.script) else "stop"
        self.at += 1
        if num_samples:
            skipped = min(num_samples, self.samples_to_skip)
            self.samples_to_skip -= skipped
            self.take(self.session.receive_bytes(bytes(2 * (num_samples - skipped))))
        elif self.requests_to_skip:
            self.requests_to_skip -= 1
        else:
            self.take(self.session.receive_text(f'{{"type": "{kind}"}}'))

    def hear(self) -> None:
        if self.stream:
            self.take(self.session.receive_events(self.stream.say()))

    def drop(self) -> None:
        if self.is_connected and self.code is None:
            self.is_connected = self.is_closing = False
            self.session.suspend()

    def break_off(self) -> None:
        if self.stream and self.session.state is not State.CLOSED:
            self.stream = None
            self.take(self.session.break_off())

    def come_back(self) -> None:
        if self.is_closing:
            self.drop()
        if not self.is_connected:
            self.is_connected = True
            self.at = 0
            self.take(self.session.resume(len(self.told)))


HAPPENINGS = [*["send"] * 4, "hear", "drop", "break_off", "come_back"]


@example(saves=True, script=[], happens=["send", "drop", "come_back", "break_off"])  # stopped, and back before it ends
@settings(deadline=None, max_examples=500)
@given(
    st.booleans(),
    st.lists(st.sampled_from([0, 1, 100, 900]), max_size=5),
    st.lists(st.sampled_from(HAPPENINGS), max_size=40),
)
def test_whatever_breaks_and_whenever_each_sample_is_told_once(
    saves: bool, script: list[int], happens: list[str]
) -> None:
    client = Client(saves, script)
    for what in happens:
        if client.code is None:
            getattr(client, what)()
    for _ in range(100):
        if client.code is not None:
            break
        client.come_back()
        client.send()
        if client.at > len(script):
            client.hear()
    if client.code == 1011:
        assert happens.count("break_off") > 1
        return
    assert client.code == 1000
    edges = [tuple(map(int, told.split("-"))) for told in client.told]
    assert [start for start, _ in edges] == [0, *(end for _, end in edges[:-1])]
    assert edges[-1][1] == sum(script)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("num_frames", [48100, 48099, 48001])
def test_a_finalize_is_acknowledged_with_all_audio_before_it(rate: int, num_frames: int) -> None:
    session = Session("s1", MODEL, Limits(), Clock(), "token", saves=True)
    session.receive_message(messages.Start(sample_rate=rate, resumable=True))
    pushed = [*session.receive_bytes(bytes(2 * num_frames)), *session.receive_message(messages.Finalize())]
    samples = sum(len(action.samples) for action in pushed if isinstance(action, Push))
    actions = session.receive_events([messages.Checkpoint(samples), final("finalize")])
    assert Send(messages.Ack(num_frames, 1)) in actions


@pytest.mark.parametrize("saves", [False, True])
def test_half_a_sample_and_the_stop_behind_it_may_come_again(saves: bool) -> None:
    session = Session("s1", MODEL, Limits(), Clock(), "token", saves=saves)
    session.receive_text('{"type": "start", "resumable": true}')
    session.receive_bytes(bytes(5))
    session.receive_text('{"type": "stop"}')
    session.suspend()
    session.resume(0)
    assert session.receive_bytes(bytes(5)) == []  # what `ready` did not say was received
    assert session.receive_text('{"type": "stop"}') == []
    actions = session.receive_events([final("stop")])
    said = [action.message for action in actions if isinstance(action, Send)]
    assert said[-2:] == [final("stop"), messages.Error("odd_audio", "the audio ended 1 bytes into a frame")]
    assert actions[-1] == Close(1007, "odd_audio")
