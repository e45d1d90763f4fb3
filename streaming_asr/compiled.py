"""Owns how inner loops are compiled: with numba, without the GIL where they take long, cached beside their source."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from numba import njit

# Whatever is compiled, and whose constants are compiled in.
SOURCES = (
    "beam_search.py",
    "compiled.py",
    "features.py",
    "g2p.py",
    "level.py",
    "lexicon.py",
    "neural_lm.py",
    "ngram.py",
    "rescoring.py",
    "search_results.py",
    "search_state.py",
    "speech_network.py",
    "tokens.py",
    "tones.py",
    "training/g2p.py",
    "vad.py",
)


def digest(folder: Path) -> str:
    """Of the sources in a folder, hexadecimal."""
    return hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in SOURCES)).hexdigest()[:12]


DIGEST = digest(Path(__file__).parent)


def njit_cached(nogil: bool = True, **options: Any) -> Callable[[Any], Any]:
    """Compiles at first use.

    Numba keeps the code until the function's own file changes, though it holds what is called from other files too. So
    its name, by which it is found in the cache, says what all of them were.
    """

    def decorate(function: Any) -> Any:
        function.__qualname__ += f"_{DIGEST}"
        return cast("Any", njit)(nogil=nogil, cache=True, **options)(function)

    return decorate


# For what allocates nothing. Numba would count a reference to each array of a tuple at each call that the tuple is
# handed to, across threads: that was most of the time of the search. Whoever calls from Python holds the arrays.
njit_uncounted = functools.partial(njit_cached, _nrt=False)

# For what takes less time than it takes to get the interpreter's lock back among busy threads, and allocates nothing.
# NumPy would give the lock up for 500 numbers.
njit_brief = functools.partial(njit_uncounted, nogil=False)


def is_kept(function: Any) -> bool:
    """Whether code of a ``function`` that was decorated here is in the cache, of these sources, for any processor."""
    return any(Path(function.stats.cache_path).glob(f"*.{function.__qualname__}-*.nbi"))
