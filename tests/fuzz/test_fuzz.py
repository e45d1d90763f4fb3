"""A short run of the fuzzer; a long one is ``python -m tests.fuzz --inputs 1000000``."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_a_defect(name: str) -> None:
    feed(TARGETS[name], inputs=150, seed_=1)


def test_a_defect_is_found() -> None:
    def fragile(data: bytes) -> None:
        if b"finalize" in data:
            raise ValueError("an untyped error")

    with pytest.raises(ValueError, match="untyped"):
        feed(fragile, inputs=200, seed_=1)
