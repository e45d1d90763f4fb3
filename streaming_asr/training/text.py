"""Owns the spoken form of written English: prose in, sentences of lower-case words (a-z and apostrophes) out.

The target is what LibriSpeech transcripts look like: numbers in words ("eighteen forty two"), abbreviations spoken
out ("mister", "et cetera"), hyphens as spaces, apostrophes only inside a word. Pure functions; knows no files and no
dictionary. Every rule is a regular expression over the whole text, because a gigabyte has to pass through it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
_LARGEST = 10**15  # beyond it, and with a leading zero, a number is read digit by digit
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """``number`` >= 0 in words, as read aloud: 105 -> "one hundred and five", 1234 -> "one thousand two hundred …"."""
    if number >= _LARGEST:
        return digits(str(number))
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return _TENS[tens] + (f" {_UNITS[unit]}" if unit else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_UNITS[hundreds]} hundred" + (f" and {cardinal(rest)}" if rest else "")
    scale, name = next(pair for pair in _SCALES if number >= pair[0])
    count, rest = divmod(number, scale)
    joint = " and " if 0 < rest < 100 else " "
    return f"{cardinal(count)} {name}" + (f"{joint}{cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """``number`` >= 0 as an ordinal: 21 -> "twenty first"."""
    head, _, last = cardinal(number).rpartition(" ")
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    elif last.endswith("y"):
        last = f"{last[:-1]}ieth"
    else:
        last = f"{last}th"
    return f"{head} {last}".lstrip()


def digits(number: str) -> str:
    """Each digit on its own: "007" -> "zero zero seven"."""
    return " ".join(_UNITS[int(digit)] for digit in number)


def year(number: int) -> str:
    """A year from 1000 to 2099 as read: 1842 -> "eighteen forty two", 1905 -> "nineteen o five", 2004 in full."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'o ' if rest < 10 else ''}{cardinal(rest)}"


_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_ROMAN = re.compile(r"(?=[IVXLC])(?:C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")


def roman(numeral: str) -> int | None:
    """The value of a well-formed upper-case Roman numeral below 400, or None."""
    if not _ROMAN.fullmatch(numeral):
        return None
    values = [_ROMAN_DIGITS[letter] for letter in numeral]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


# Read with or without a full stop, in this case only ("st." and "no." need context, below).
_TITLES = {
    "Mr": "mister",
    "Mrs": "missus",
    "Dr": "doctor",
    "Messrs": "messieurs",
    "Mme": "madame",
    "Mlle": "mademoiselle",
    "Capt": "captain",
    "Lieut": "lieutenant",
    "Esq": "esquire",
    "Prof": "professor",
    "Rev": "reverend",
    "Jr": "junior",
    "Sr": "senior",
}
# Read so only with a full stop. Months keep their capital, by which the day behind one is known.
_STOPPED = {
    "col": "colonel",
    "gen": "general",
    "lt": "lieutenant",
    "sergt": "sergeant",
    "sgt": "sergeant",
    "maj": "major",
    "brig": "brigadier",
    "gov": "governor",
    "hon": "honorable",
    "mt": "mount",
    "jan": "January",
    "feb": "February",
    "aug": "August",
    "sept": "September",
    "oct": "October",
    "nov": "November",
    "dec": "December",
    "vs": "versus",
    "vol": "volume",
    "chap": "chapter",
    "etc": "et cetera",
    "viz": "namely",
    "i.e": "that is",
    "e.g": "for example",
    "ibid": "ibid",
    "inst": "instant",
    "ult": "ultimo",
    "co": "company",
    "dept": "department",
    "approx": "approximately",
}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_SHORT_MONTHS = ("Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec")
_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
_FRACTIONS = {"½": "one half", "¼": "one quarter", "¾": "three quarters", "⅓": "one third", "⅔": "two thirds"}
_DENOMINATORS = {2: ("half", "halves"), 4: ("quarter", "quarters")}


def _money(match: re.Match[str]) -> str:
    one, many, cent, cents = _MONEY[match["unit"]]
    whole, part, scale = int(match["whole"].replace(",", "")), match["part"], match["scale"]
    if scale:
        decimal = f" point {digits(part)}" if part else ""
        return f"{cardinal(whole)}{decimal} {scale} {many}"
    spoken = f"{cardinal(whole)} {one if whole == 1 else many}"
    if part and len(part) == 2 and int(part):
        spoken += f" and {cardinal(int(part))} {cent if int(part) == 1 else cents}"
    return spoken


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if hour > 24 or minute > 59:
        return f"{cardinal(hour)} {cardinal(minute)}"
    if minute == 0:
        return cardinal(hour) if match[3] else f"{cardinal(hour)} o'clock"
    return f"{cardinal(hour)} {'o ' if minute < 10 else ''}{cardinal(minute)}"


def _fraction(match: re.Match[str]) -> str:
    numerator, denominator = int(match[1]), int(match[2])
    if not 1 < denominator <= 100 or numerator >= denominator:
        return f"{cardinal(numerator)} {cardinal(denominator)}"
    one, many = _DENOMINATORS.get(denominator, (ordinal(denominator), f"{ordinal(denominator)}s"))
    return f"{cardinal(numerator)} {one if numerator == 1 else many}"


def _number(match: re.Match[str]) -> str:
    whole, decimals, suffix = match[1], match[2], match[3]
    grouped = "," in whole
    whole = whole.replace(",", "")
    if suffix == "s":  # 1850s, 90s
        spoken = year(int(whole)) if len(whole) == 4 and 1000 <= int(whole) < 2100 else cardinal(int(whole))
        return f"{spoken[:-1]}ies" if spoken.endswith("y") else f"{spoken}s"
    if suffix and not decimals:
        return ordinal(int(whole))
    if decimals:
        return f"{cardinal(int(whole))} point {digits(decimals[1:])}"
    if len(whole) > 15 or (len(whole) > 1 and whole[0] == "0"):
        return digits(whole)
    if len(whole) == 4 and not grouped and 1100 <= int(whole) < 2100:
        return year(int(whole))
    return cardinal(int(whole))


def _day_of_month(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    month = next(month for month in _MONTHS if month.startswith(match[1]))
    return f"{month} {ordinal(int(match[2]))}"


def _regnal(match: re.Match[str]) -> str:
    value = roman(match[2])
    return match[0] if value is None else f"{match[1]} the {ordinal(value)}"


_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
_NUMERAL = "[IVXLC]+"


def _any_of(words: Iterable[str]) -> str:
    """The alternatives in lower, title and upper case, each a literal: a pattern that begins with them scans fast.

    (Python's matcher skips to a possible first character only if the pattern begins with literals or one class, so
    no rule here begins with a word boundary; `_after_letter` does that part.)
    """
    cased = {form for word in words for form in (word, word.capitalize(), word.upper())}
    return "|".join(re.escape(form) for form in sorted(cased, key=lambda form: (-len(form), form)))


def _after_letter(match: re.Match[str]) -> bool:
    return match.start() > 0 and match.string[match.start() - 1].isalnum()


def _title(match: re.Match[str]) -> str:
    return match[0] if _after_letter(match) else _TITLES[match[1]]


def _stopped(match: re.Match[str]) -> str:
    return match[0] if _after_letter(match) else _STOPPED[match[1].lower()]


def _division(match: re.Match[str]) -> str:
    value = roman(match[2].upper())
    return match[0] if value is None or _after_letter(match) else f"{match[1]} {cardinal(value)}"


_DIVISIONS = (
    "chapter", "book", "volume", "part", "act", "scene", "section", "canto", "article", "letter", "psalm",
    "appendix", "number", "plate",
)  # fmt: skip
_SPELLED: tuple[_Rule, ...] = (
    (re.compile("(" + "|".join(sorted(_TITLES, key=len, reverse=True)) + r")\b\.?"), _title),
    (re.compile(r"St\b\.?(?=\s+[A-Z])"), "saint"),
    (re.compile(r"&c\b\.?"), " et cetera "),
    (re.compile(r"No(?<!\w..)s?\.\s*(?=\d)|no(?<!\w..)s?\.\s*(?=\d)"), "number "),
    (re.compile(r"p(?<![a-z]p)p?\.\s*(?=\d)"), "page "),
    (re.compile(f"({_any_of(_STOPPED)})" + r"\.(?!\w)"), _stopped),
    (re.compile(f"({_any_of(_DIVISIONS)})" + rf"\s+({_NUMERAL})\b\.?"), _division),
    (re.compile(r"([A-Z][a-z]{3,})[ ]+([IVX]{2,}|V|X)\b\.?(?=\W*(?:\s|$))"), _regnal),
    (re.compile(rf"^\W*{_NUMERAL}\W*$", re.MULTILINE), "\n\n"),  # a numbered heading on a line of its own
)
_NUMBERS: tuple[_Rule, ...] = (
    (
        re.compile(
            r"(?P<unit>[$£€])\s?(?P<whole>\d[\d,]*)(?:\.(?P<part>\d+))?(?:\s+(?P<scale>thousand|million|billion)\b)?"
        ),
        _money,
    ),
    (re.compile("%"), " percent"),
    (re.compile(r"(\d\d?):(\d\d)\b(?=(\s*[AaPp]\.?[Mm]\b)?)"), _time),
    (re.compile(r"(\d\d{0,2})/(\d{1,3})\b(?!/)"), _fraction),
    (
        re.compile(rf"({'|'.join((*_MONTHS, *_SHORT_MONTHS))})\b\.?\s+(\d\d?)(?:st|nd|rd|th|d)?\b(?![\d,:.]*\d)"),
        _day_of_month,
    ),
    (re.compile(r"(\d\d*(?:,\d{3})*)(\.\d+)?(st|nd|rd|th|d|s)?(?![\da-zA-Z])"), lambda m: f" {_number(m)}"),
    (re.compile(r"\d\d*"), lambda m: f" {cardinal(int(m[0])) if len(m[0]) < 4 else digits(m[0])} "),
)
_BRACKETED = re.compile(
    r"\[(?:illustration|footnote|page|pg|sidenote|transcriber|\d)[^\]]{0,2000}\]|<[^<>\n]{1,80}>",
    re.IGNORECASE,
)
_LETTERS_WITH_STOPS = re.compile(r"[A-Za-z]\.(?<![A-Za-z]..)(?:[A-Za-z]\.)+(?!\w)")
_INITIAL = re.compile(r"([A-HJ-Z])(?<![A-Za-z].)\.(?=\s+[A-Z])")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
# A full stop and the like ends a sentence where white space and the start of another follow.
_SENTENCE = re.compile(r"[.!?][\"')\]]*\s+(?=[\"'(\[]*[A-Z])")
_OUTER_APOSTROPHE = re.compile(r"'(?:(?<![a-z].)|(?![a-z]))")
_SPACES = re.compile(r"  +")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_FOLDED = {
    "’": "'", "‘": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "—": " ", "–": " ", "‐": "-", "‑": "-", "£": "£", "€": "€",
    "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ß": "ss", "ø": "o", "Ø": "O", "ð": "d", "þ": "th", "ł": "l",
    "\ufeff": "", "\u00ad": "", "\u200b": "",
    **{sign: f" {words} " for sign, words in _FRACTIONS.items()},
}  # fmt: skip
# Bytes: A-Z to a-z; a-z, apostrophe and line break to themselves; all else to a space.
_LETTERS = bytes(
    code + 32 if 65 <= code <= 90 else code if 97 <= code <= 122 or code in b"'\n" else 32 for code in range(256)
)


def _fold_character(match: re.Match[str]) -> str:
    character = match[0]
    folded = _FOLDED.get(character)
    if folded is None:
        decomposed = unicodedata.normalize("NFKD", character)
        folded = "".join(part for part in decomposed if part.isascii()) or " "
        if len(decomposed) == 1 or unicodedata.combining(character):
            folded = "" if unicodedata.combining(character) else " "
        _FOLDED[character] = folded
    return folded


def fold(text: str) -> str:
    """``text`` with typographic quotes, dashes, ligatures and accents as plain ASCII; underscores as spaces.

    Pound and euro signs stay; characters of other scripts become spaces.
    """
    text = text.replace("_", " ").replace("\r", "").replace("`", "'")
    return text if text.isascii() else _NOT_ASCII.sub(_fold_character, text)


def spell_out(text: str) -> str:
    """Folded ``text`` with numbers, signs and abbreviations in words; other marks, and capitals, stay as they are."""
    text = _BRACKETED.sub(" ", text)
    for pattern, replacement in (*_SPELLED, *_NUMBERS):
        text = pattern.sub(replacement, text)
    text = _LETTERS_WITH_STOPS.sub(lambda m: m[0].replace(".", " "), text.replace("&", " and "))
    return _INITIAL.sub(r"\1", text)


def sentences(text: str) -> list[str]:
    """Prose to sentences in spoken form: words of a-z and inner apostrophes, one space between; empty ones dropped.

    Blank lines end a sentence, single line breaks do not. What is neither letter nor digit disappears.
    """
    text = spell_out(fold(text))
    text = _PARAGRAPH.sub("\f", text).replace("\n", " ").replace("\f", "\n")
    text = _SENTENCE.sub("\n", text)
    text = text.encode("ascii", "replace").translate(_LETTERS).decode("ascii")
    text = _SPACES.sub(" ", _OUTER_APOSTROPHE.sub(" ", text))
    return [sentence for line in text.split("\n") if (sentence := line.strip())]


def spoken(text: str) -> str:
    """`sentences` joined to one line: for a transcript or a prompt."""
    return " ".join(sentences(text))
