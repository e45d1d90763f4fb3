from streaming_asr.messages import Final, Word
from streaming_asr.subtitles import MAX_CUE_CHARACTERS, MAX_CUE_SECONDS, cues, srt, vtt


def final(*words: tuple[str, float, float]) -> Final:
    listed = [Word(word, start, end, 0.9) for word, start, end in words]
    return Final(0, " ".join(w.word for w in listed), words[0][1], words[-1][2], 0.9, "endpoint", listed)


HELLO = final(("hello", 0.5, 0.9), ("world", 1.0, 1.4))
LATE = final(("late", 3661.0, 3661.25))


def test_srt() -> None:
    assert srt([HELLO, LATE]) == (
        "1\n00:00:00,500 --> 00:00:01,400\nhello world\n\n2\n01:01:01,000 --> 01:01:01,250\nlate\n\n"
    )


def test_vtt() -> None:
    assert vtt([HELLO]) == "WEBVTT\n\n00:00:00.500 --> 00:00:01.400\nhello world\n\n"
    assert vtt([]) == "WEBVTT\n\n"


def test_long_utterances_are_cut_into_readable_cues() -> None:
    words = tuple((f"word{i}", i * 0.5, i * 0.5 + 0.4) for i in range(60))
    parts = list(cues([final(*words)]))
    assert " ".join(text for _, _, text in parts) == " ".join(word for word, _, _ in words)
    for start, end, text in parts:
        assert end - start <= MAX_CUE_SECONDS
        assert len(text) <= MAX_CUE_CHARACTERS


def test_a_number_is_one_word_of_a_cue() -> None:
    words = [Word("Twenty", 0.0, 1.0, 0.9, "21"), Word("one", 1.0, 7.0, 0.9, ""), Word("men", 7.0, 8.0, 0.9, "men.")]
    assert list(cues([Final(0, "twenty one men", 0.0, 8.0, 0.9, "endpoint", words)])) == [
        (0.0, 7.0, "21"),
        (7.0, 8.0, "men."),
    ]
