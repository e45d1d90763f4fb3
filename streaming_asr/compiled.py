"""Owns how inner loops are compiled: with numba, without the GIL, cached beside their source."""

from __future__ import annotations

import functools
from typing import Any, cast

from numba import njit

# For what allocates nothing. Numba would count a reference to each array of a tuple at each call that the tuple is
# handed to, across threads: that was most of the time of the search. Whoever calls from Python holds the arrays.
njit_uncounted: Any = functools.partial(cast("Any", njit), nogil=True, cache=True, _nrt=False)
