"""Owns the model's output inventory: the blank and the 39 ARPAbet phones of CMUdict, without stress marks.

Knows nothing of words; `lexicon` maps those to the ids below.
"""

from __future__ import annotations

BLANK = 0
PHONES: tuple[str, ...] = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
VOWELS = frozenset(("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"))
NUM_TOKENS = 1 + len(PHONES)
PHONE_ID: dict[str, int] = {phone: 1 + index for index, phone in enumerate(PHONES)}
