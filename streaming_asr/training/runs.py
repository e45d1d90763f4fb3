"""Owns what all training runs do alike: their settings from a file, their learning rate, their precision."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import torch

from ..errors import InputError

Settings = TypeVar("Settings")

PROBE_SIZE, PROBE_ROUNDS = 512, 5  # of the products by which bfloat16 is tried
LEAST_GAIN = 1.2  # times as fast it must be


def read_settings(path: Path | None, kind: type[Settings]) -> Settings:
    """A ``kind``, whose fields all have defaults, from JSON with any of them. Raises `InputError`, naming the file."""
    if path is None:
        return kind()
    try:
        content = path.read_bytes()
        settings = msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:  # not JSON, or a field's value that is none
        raise InputError(f"{path}: {error}") from error
    unknown = _unknown(msgspec.json.decode(content), msgspec.to_builtins(settings))
    if unknown:  # or a slip of the pen would be noticed after hours
        raise InputError(f"{path}: there is no setting {unknown[0]!r}")
    return settings


def _unknown(given: dict[str, Any], known: dict[str, Any], prefix: str = "") -> list[str]:
    """Names in ``given`` that ``known`` lacks, however deep."""
    names = [f"{prefix}{name}" for name in given if name not in known]
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(known.get(name), dict):
            names += _unknown(value, known[name], f"{prefix}{name}.")
    return names


class Schedule(Protocol):
    """Of the learning rate, as settings have it."""

    @property
    def learning_rate(self) -> float:
        """The peak."""

    @property
    def final_learning_rate(self) -> float:
        """At the end."""

    @property
    def warmup_steps(self) -> int:
        """Steps up to the peak."""


def learning_rate(schedule: Schedule, step: int, progress: float) -> float:
    """Linear warm-up, then half a cosine down; ``progress`` is the share of the run that is done, 0..1."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return schedule.final_learning_rate + (schedule.learning_rate - schedule.final_learning_rate) * share


def bfloat16_where_fast(device: str) -> torch.autocast:
    """Matrix products in bfloat16 on GPUs, and on processors that are faster so; others are slower, or fail."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda" or _is_bfloat16_faster())


@functools.cache
def _is_bfloat16_faster() -> bool:
    """By a product of its own in either: with AVX-512 alone some processors take twice as long as in float32."""
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    factors = [torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    seconds = [math.inf, math.inf]
    for _ in range(PROBE_ROUNDS):
        for index, factor in enumerate(factors):
            began = time.perf_counter()
            torch.mm(factor, factor)
            seconds[index] = min(seconds[index], time.perf_counter() - began)
    return seconds[1] * LEAST_GAIN < seconds[0]
