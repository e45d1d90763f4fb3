"""``python -m tests.fuzz --inputs N``: feeds so many inputs to all targets together and says what came of it.

Three quarters go through atheris, which follows the code's branches, where it is installed; the rest, or without it all
of them, through Hypothesis. Each target runs in a process of its own, so that a crash is seen and memory told apart. A
defect ends the run with its input printed; an input that hangs, or makes its process grow, is a defect as well.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS, WORDS

HANG_SECONDS = 20  # for one input, which takes milliseconds
MAX_GROWTH_BYTES = 300 << 20  # of a process
MAX_MEGABYTES = 1024  # of a process under atheris, which keeps its corpus
ATHERIS_SHARE = 0.75


def main() -> int:
    """Returns 0 if no input was a defect."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, metavar="N", help="in total (default: %(default)s)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; repeatable")
    parser.add_argument("--engine", choices=("both", "hypothesis", "atheris"), default="both")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--here", action="store_true", help="one target, with Hypothesis, in this process")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    if options.here:
        target = TARGETS[names[0]]

        def timed(data: bytes) -> None:
            signal.alarm(HANG_SECONDS)  # ends the process
            target(data)
            signal.alarm(0)

        feed(timed, options.inputs, options.seed)
        return 0
    total = 0
    began = time.monotonic()
    for name in names:
        for engine, share in _shares(options.engine).items():
            inputs = max(1, round(options.inputs / len(names) * share))
            if not _run(engine, name, inputs, options.seed):
                print(f"a defect in {name}, found by {engine}", file=sys.stderr)
                return 1
            total += inputs
    print(json.dumps({"inputs": total, "defects": 0, "seconds": round(time.monotonic() - began, 1)}))
    return 0


def _shares(engine: str) -> dict[str, float]:
    if engine != "both":
        return {engine: 1.0}
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed (pip install atheris): all inputs go through Hypothesis", file=sys.stderr)
        return {"hypothesis": 1.0}
    return {"atheris": ATHERIS_SHARE, "hypothesis": 1 - ATHERIS_SHARE}


def _run(engine: str, name: str, inputs: int, seed: int) -> bool:
    command = [sys.executable, "-m"]
    if engine == "atheris":
        numbers = (inputs, seed, HANG_SECONDS, MAX_MEGABYTES)
        command += ["tests.fuzz.follow_branches", name, *map(str, numbers)]
    else:
        command += ["tests.fuzz", "--here", "--target", name, "--inputs", str(inputs), "--seed", str(seed)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cpu_seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    row = {"target": name, "engine": engine, "inputs": inputs, "cpu_seconds": round(cpu_seconds, 1)}
    print(json.dumps(row), flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
    return done.returncode == 0


def feed(target: Callable[[bytes], None], inputs: int, seed_: int) -> None:
    """Feeds one target with Hypothesis. Raises what it raises, or `AssertionError` when memory grows."""
    limit = _peak_bytes() + MAX_GROWTH_BYTES

    def run(data: bytes) -> None:
        target(data)
        assert _peak_bytes() < limit, "memory grows"

    for data in SEEDS:
        run(data)
    pieces = st.one_of(st.binary(max_size=300), st.sampled_from(SEEDS), st.sampled_from(WORDS).map(str.encode))
    limits = settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    seed(seed_)(limits(given(st.lists(pieces, max_size=12).map(b"".join))(run)))()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
