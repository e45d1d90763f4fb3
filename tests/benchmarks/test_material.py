"""Which recordings are read, and as which numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.material import spread, to_pcm


@given(st.integers(0, 300), st.integers(0, 400))
def test_what_is_read_is_spread_over_all(num_items: int, count: int) -> None:
    chosen = spread(range(num_items), count)
    assert len(chosen) == min(count, num_items)
    gaps = np.diff([*chosen, num_items])  # what follows the last, too
    if chosen:
        assert chosen[0] == 0
        assert gaps.min() >= num_items // len(chosen)
        assert gaps.max() <= -(-num_items // len(chosen))


def test_samples_are_rounded_and_cut_off() -> None:
    assert to_pcm(np.array([0, 0.5, -0.5, 1, -1, 2, -2, 0.6 / 32768], np.float32)).tolist() == [
        0, 16384, -16384, 32767, -32768, 32767, -32768, 1,
    ]  # fmt: skip
