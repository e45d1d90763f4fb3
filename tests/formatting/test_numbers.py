"""Numbers as people write them: a table of what is said and what is written, and what holds for any words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.formatting.numbers import write_numbers

ROWS = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("written.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
WORDS = sorted({word for said, _ in ROWS for word in said.split()})


@pytest.mark.parametrize(("said", "written"), ROWS)
def test_table(said: str, written: str) -> None:
    assert " ".join(span.text for span in write_numbers(said.split())) == written


def test_the_table_is_as_long_as_it_claims() -> None:
    assert len({said for said, _ in ROWS}) == len(ROWS) >= 200


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_every_word_is_in_exactly_one_span(words: list[str]) -> None:
    spans = write_numbers(words)
    assert [index for span in spans for index in range(span.start, span.end)] == list(range(len(words)))
    assert all(span.text for span in spans)
