"""Owns inverse text normalization: words as they are said in, figures as people write them out.

Numbers from ten on, ordinals, dates, years, times, money, percent, digits said one by one. Smaller numbers stay words
where nothing calls for figures ("one of them"), and so does everything that no rule explains: a wrong figure is worse
than a word. Pure; each rule looks at the words from one place on and knows nothing of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Words = Sequence[str]


class Span(NamedTuple):
    """The words from ``start`` to before ``end``, and how they are written."""

    text: str
    start: int
    end: int


class _Number(NamedTuple):
    value: int
    end: int  # index of the word after it


def _numbered(words: str, first: int, step: int = 1) -> dict[str, int]:
    return {word: value for value, word in zip(itertools.count(first, step), words.split())}


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_UNITS = _numbered("zero one two three four five six seven eight nine", 0)
_TEENS = _numbered("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
_TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ROUND = {"hundred": 100} | _SCALES
_ZEROS = {"oh": 0, "o": 0}  # as in "nineteen oh five"
_DIGITS = _UNITS | _ZEROS
NUMBER_WORDS = frozenset(_UNITS) | frozenset(_TEENS) | frozenset(_TENS)
_SMALL_ORDINALS = _numbered("first second third fourth fifth sixth seventh eighth ninth", 1)
_TEEN_ORDINALS = _numbered(
    "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth", 10
)
_ORDINALS = _SMALL_ORDINALS | _TEEN_ORDINALS | {f"{word[:-1]}ieth": value for word, value in _TENS.items()}
_SCALE_ORDINALS = {"hundredth": 100, "thousandth": 1000, "millionth": 10**6}
_DECADES = {f"{word[:-1]}ies": value for word, value in _TENS.items()} | {"tens": 10, "hundreds": 0}

_MONTHS = _set("january february march april may june july august september october november december")
_MONTHS_AND_VERBS = _set("march may")
_DAYS = _set("monday tuesday wednesday thursday friday saturday sunday")
_ALWAYS_CAPITALIZED = (_MONTHS - _MONTHS_AND_VERBS) | _DAYS | _set("i i'm i'll i've i'd")
_BEFORE_A_DATE = _set(
    "after and before between by for from in is last next of on or since the this through till to until was"
)
_BEFORE_A_YEAR = _MONTHS | _set("after before by circa from in of since till to until year")
_BEFORE_A_TIME = _set("after at before by from till to until")
_BEFORE_A_PRICE = _set("cost costs paid")
_CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
_CENTS = _set("cent cents")
_UNFINISHED = NUMBER_WORDS | {*_ZEROS, *_CURRENCIES} | _set("half point")  # what comes next belongs to them
_UNITS_OF_MEASURE = _set(
    "degrees kilometers kilometres meters metres centimeters centimetres millimeters millimetres kilograms kilos grams "
    "liters litres volts watts kilowatts megawatts hertz kilohertz megahertz gigahertz kilobytes megabytes gigabytes "
    "terabytes"
)
_COUNTED = _set(  # after a number of things, besides plurals in "s"; no year and no time of day is followed by them
    "children day dollar euro feet foot hour inch men mile minute month people per percent pound second week women year"
)
_NO_PLURALS = ("'s", "as", "is", "its", "ss", "us")  # "was", "this", "yesterday's"
_LABELS = _set("channel chapter flight gate highway level line page platform room route version volume")
_BEFORE_DIGITS = _LABELS | _set("call code dial extension number pin")
_REPEATED = {"double": 2, "triple": 3}
MIN_DIGITS = 4  # said one by one, from which they are written as one number
MIN_DIGITS_ASKED_FOR = 3  # the same after "call", "room"


def write_numbers(words: Words) -> list[Span]:
    """All of ``words`` (lower case, as said) in order: figures where a rule finds them, else the word as it is."""
    spans: list[Span] = []
    at = 0
    while at < len(words):
        found = next((span for rule in _RULES if (span := rule(words, at)) is not None), None)
        if found is None:
            word = words[at]
            found = Span(word.capitalize() if word in _ALWAYS_CAPITALIZED else word, at, at + 1)
        spans.append(found)
        at = found.end
    return spans


def digit_runs(words: Words) -> Iterator[tuple[int, int]]:
    """Where digits are said one by one, `MIN_DIGITS` and more: the first word and the one after the last."""
    at = 0
    while at < len(words):
        digits, end = _digits(words, at)
        if len(digits) >= MIN_DIGITS:
            yield at, end
        at = max(end, at + 1)


# --- reading numbers ---------------------------------------------------------------------------------------------


def _word(words: Words, at: int) -> str:
    """The word there; nothing outside."""
    return words[at] if 0 <= at < len(words) else ""


def _goes_on(words: Words, at: int) -> bool:
    """Whether a number that ends there is not all of what is said: "ten | oh five", "twenty | hundred"."""
    word = _word(words, at + (_word(words, at) in ("oh", "o", "point")))
    return word in NUMBER_WORDS or word in _ROUND or word in _ZEROS


def _is_counted(words: Words, at: int) -> bool:
    """Whether the word there tells what the number before it is a number of."""
    word = _word(words, at)
    return word in _COUNTED or (word.endswith("s") and not word.endswith(_NO_PLURALS))


def _below_hundred(words: Words, at: int) -> _Number | None:
    word = _word(words, at)
    if word in _TENS:
        unit = _UNITS.get(_word(words, at + 1), 0)
        return _Number(_TENS[word] + unit, at + 1 + (unit > 0))
    value = _UNITS.get(word, _TEENS.get(word))
    return None if value is None else _Number(value, at + 1)


def _after_and(words: Words, at: int) -> int:
    return at + (_word(words, at) == "and")


def _below_thousand(words: Words, at: int) -> _Number | None:
    """Also "nineteen hundred and five"."""
    number = _below_hundred(words, at)
    if number is None or _word(words, number.end) != "hundred" or not number.value or number.value % 10 == 0:
        return number
    hundreds = _Number(100 * number.value, number.end + 1)
    rest = _below_hundred(words, _after_and(words, hundreds.end))
    if rest is None or not rest.value or _word(words, rest.end) == "hundred":
        return hundreds
    return _Number(hundreds.value + rest.value, rest.end)


def _cardinal(words: Words, at: int) -> _Number | None:
    """A number as it is said: "two million three hundred thousand and one"; "a hundred and five", not "a hundred"."""
    if _word(words, at) == "a" and _word(words, at + 1) in _ROUND:
        said = _cardinal(["one", *words[at + 1 :]], 0)
        return None if said is None or said.end == 2 else _Number(said.value, at + said.end)
    group = _below_thousand(words, at)
    if group is None:
        return None
    total, limit = 0, 10**15
    while True:
        scale = _SCALES.get(_word(words, group.end))
        if scale is None:
            return _Number(total + group.value, group.end)
        if not group.value or scale >= limit:
            return None
        total += group.value * scale
        limit = scale
        end = group.end + 1
        following = _below_thousand(words, _after_and(words, end))
        following_scale = 0 if following is None else _SCALES.get(_word(words, following.end), 1)
        if following is None or not following.value or following_scale >= limit or following.value >= 1000:
            return _Number(total, end)
        group = following


def _digits(words: Words, at: int) -> tuple[str, int]:
    """Digits said one by one, "double five" among them."""
    digits = ""
    while True:
        times = _REPEATED.get(_word(words, at), 1)
        digit = _word(words, at + (times > 1))
        if digit not in _DIGITS:
            return digits, at
        digits += times * str(_DIGITS[digit])
        at += 1 + (times > 1)


def _year(words: Words, at: int) -> _Number | None:
    """As years are said: "eighteen forty two", "nineteen oh five", "two thousand and four"; not "two thousand men"."""
    century = _below_hundred(words, at)
    if century is not None and 10 <= century.value <= 20:
        if _word(words, century.end) in _ZEROS and _UNITS.get(_word(words, century.end + 1), 0):
            return _Number(100 * century.value + _UNITS[words[century.end + 1]], century.end + 2)
        rest = _below_hundred(words, century.end)
        if rest is not None and rest.value >= 10:
            is_guess = century.value < 13 or (century.value < 19 and rest.value <= 20)  # "fifteen twenty men"
            is_year = not (is_guess and _is_counted(words, rest.end))
            return _Number(100 * century.value + rest.value, rest.end) if is_year else None
    number = _cardinal(words, at)
    if number is None or not 1000 <= number.value < 2100 or _word(words, number.end) in _ROUND:
        return None
    return None if number.value % 100 == 0 and _is_counted(words, number.end) else number


def _ordinal(words: Words, at: int) -> _Number | None:
    """ "first", "twenty first", "two hundred and third"."""
    if _word(words, at) in _ORDINALS:
        return _Number(_ORDINALS[words[at]], at + 1)
    if _word(words, at) in _TENS and _word(words, at + 1) in _SMALL_ORDINALS:
        return _Number(_TENS[words[at]] + _SMALL_ORDINALS[words[at + 1]], at + 2)
    head = _cardinal(words, at)
    if head is None or not head.value:
        return None
    if _word(words, head.end) in _SCALE_ORDINALS:
        scale = _SCALE_ORDINALS[words[head.end]]
        # "one thousand two hundredth": only the last group is of hundreds, and of ten or more only if it is alone.
        group = head.value % 1000 if scale < 1000 else head.value
        if scale < 1000 and not 0 < group < (100 if group == head.value else 10):
            return None
        return _Number(head.value - group + group * scale, head.end + 1)
    if head.value % 100:
        # "one hundred and twenty first": the cardinal has taken "twenty" with it
        tens = head.value % 100
        last = _SMALL_ORDINALS.get(_word(words, head.end))
        return _Number(head.value + last, head.end + 1) if last and tens >= 20 and tens % 10 == 0 else None
    start = _after_and(words, head.end)
    return None if (rest := _ordinal(words, start)) is None else _Number(head.value + rest.value, rest.end)


# --- writing them ------------------------------------------------------------------------------------------------


def _grouped(value: int) -> str:
    """ "1,234"; round millions and more with their word."""
    for name in ("trillion", "billion", "million"):
        if value >= _SCALES[name] and value % _SCALES[name] == 0:
            return f"{value // _SCALES[name]} {name}"
    return f"{value:,}"


def _with_suffix(value: int) -> str:
    suffix = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value:,}{suffix}"


def _quantity(words: Words, at: int) -> tuple[str, int] | None:
    """A number that is counted in something, with decimals if there are any: ("2.5 million", its end)."""
    number = _cardinal(words, at)
    if number is None and _word(words, at) == "a" and _word(words, at + 1) in _ROUND:
        number = _Number(_ROUND[words[at + 1]], at + 2)
    if number is None:
        return None
    if _word(words, number.end) == "point" and (number.value != 1 or _word(words, at - 1) != "at"):
        decimals, end = _digits(words, number.end + 1)
        if decimals:
            scale = _word(words, end)
            named = scale in _SCALES and scale != "thousand"
            return f"{number.value:,}.{decimals}" + (f" {scale}" if named else ""), end + named
    return _grouped(number.value), number.end


def _as_said(words: Words, at: int, end: int) -> Span:
    return Span(" ".join(words[at:end]), at, end)


# --- rules: each gives the span that begins at a word, or nothing --------------------------------------------------


def _date(words: Words, at: int) -> Span | None:
    """ "january fifth twenty twenty five", "the fifth of january", "june nineteen eighty"."""
    word = _word(words, at)
    if word not in _MONTHS:
        return _day_of_month(words, at)
    is_doubtful = word in _MONTHS_AND_VERBS and at > 0 and words[at - 1] not in _BEFORE_A_DATE
    day = _ordinal(words, at + 1 + (_word(words, at + 1) == "the"))
    if day is None and word not in _MONTHS_AND_VERBS and _word(words, at - 1) != "in":
        day = _below_hundred(words, at + 1)
        if day and not _year(words, day.end) and (_year(words, at + 1) or _word(words, day.end) not in ("", "at")):
            day = None  # "june five men came"
    day = day if day and 1 <= day.value <= 31 else None
    year = _year(words, at + 1 if day is None else day.end)
    numbers = [number for number in (day, year) if number is not None]
    if is_doubtful or not numbers:
        return None
    return Span(f"{word.capitalize()} {', '.join(str(number.value) for number in numbers)}", at, numbers[-1].end)


def _day_of_month(words: Words, at: int) -> Span | None:
    day = _ordinal(words, at)
    if day is None or day.value > 31 or _word(words, day.end) != "of" or _word(words, day.end + 1) not in _MONTHS:
        return None
    month = words[day.end + 1].capitalize()
    year = _year(words, day.end + 2)
    end, written = (day.end + 2, "") if year is None else (year.end, f" {year.value}")
    return Span(f"{_with_suffix(day.value)} of {month}{written}", at, end)


def _time(words: Words, at: int) -> Span | None:
    """ "five thirty p m", "seven o'clock", "at ten oh five"."""
    hour = _below_hundred(words, at)
    if hour is None or not 1 <= hour.value <= 12:
        return None
    if _word(words, hour.end) == "o'clock":
        return Span(f"{hour.value} o'clock", at, hour.end + 1)
    before = _word(words, at - 1)
    is_expected = before in _BEFORE_A_TIME and (before != "to" or _word(words, at - 2) in NUMBER_WORDS)
    minute, end = "", hour.end
    if _word(words, hour.end) in _ZEROS and _UNITS.get(_word(words, hour.end + 1), 0):
        minute, end = f":0{_UNITS[words[hour.end + 1]]}", hour.end + 2
    elif (number := _below_hundred(words, hour.end)) is not None and 10 <= number.value <= 59:
        minute, end = f":{number.value}", number.end
    half_day, end_of_half_day = _half_day(words, end, is_expected)
    if half_day:
        return Span(f"{hour.value}{minute} {half_day}", at, end_of_half_day)
    if not is_expected or minute in ("", ":11", ":12") or _goes_on(words, end) or _is_counted(words, end):
        return None  # nine eleven was a day, seven eleven is a shop
    return Span(f"{hour.value}{minute}", at, end)


def _half_day(words: Words, at: int, is_expected: bool) -> tuple[str, int]:
    letter = _word(words, at)
    if letter in ("a", "p") and _word(words, at + 1) == "m":
        return f"{letter}.m.", at + 2
    if letter == "pm" or (letter == "am" and is_expected):
        return f"{letter[0]}.m.", at + 1
    return "", at


def _rest_of_number(words: Words, at: int) -> Span | None:
    """What is no number by itself, as what it belongs to stays in words: "point | five", "half | a million"."""
    before, number = _word(words, at - 1), _cardinal(words, at)
    if words[at] == "a" and _word(words, at + 1) in _ROUND:
        part = _word(words, at - 1 - (before == "of")).removesuffix("s")
        return _as_said(words, at, at + 2) if part in ("half", "quarter") or part in _ORDINALS else None
    if number is None and words[at] not in _ORDINALS:
        return None
    is_last = number is None or number.value < 100
    if is_last and before == "and" and _word(words, at - 2) in _UNITS | _ROUND and _word(words, at - 3) not in _TENS:
        before = words[at - 2]  # "every hundred and ten", "four and twenty"
    return _as_said(words, at, at + 1) if before in _UNFINISHED or before in _ROUND else None


def _range(words: Words, at: int) -> Span | None:
    """ "five to ten percent"; as said if one is small, or both share a word: "two or three hundred"."""
    first, is_between = _cardinal(words, at), _word(words, at - 1) == "between"
    if first is not None and is_between and "and" in words[at : first.end]:  # "between one hundred and two thousand"
        return _as_said(words, at, first.end)
    second = None if first is None else _cardinal(words, first.end + 1)
    if first is None or second is None or _half_day(words, second.end, is_expected=False)[0]:
        return None
    joint, following = words[first.end], _word(words, second.end)
    if joint not in ("or", "to") and not (joint == "and" and is_between):
        return None
    is_shared = words[first.end - 1] not in _ROUND and first.value < _ROUND.get(words[second.end - 1], 0)
    sign, percent = _CURRENCIES.get(following, ""), "%" if following == "percent" else ""
    if (sign or percent) and not is_shared:
        low, high = _grouped(first.value), _grouped(second.value)
        return Span(f"{sign}{low} {joint} {sign}{high}{percent}", at, second.end + 1)
    is_small = min(first.value, second.value) < 10
    return _as_said(words, at, second.end) if is_shared or is_small or _goes_on(words, second.end) else None


def _money(words: Words, at: int) -> Span | None:
    """ "five dollars and fifty cents", "nineteen dollars ninety nine", "a million dollars", "fifty cents"."""
    quantity = _quantity(words, at)
    if quantity is None:
        return None
    figures, end = quantity
    if _word(words, end) in _CENTS:
        return Span(f"{figures} {words[end]}", at, end + 1)
    sign = _CURRENCIES.get(_word(words, end))
    if sign is None:
        return None
    if words[at] == "a" and not words[end].endswith("s"):  # "a hundred dollar bill"
        return Span(f"a {sign}{figures}", at, end + 1)
    cents = _below_hundred(words, _after_and(words, end + 1))
    if cents is not None and cents.value and figures.replace(",", "").isdigit():
        if _word(words, cents.end) in _CENTS:
            return Span(f"{sign}{figures}.{cents.value:02}", at, cents.end + 1)
        if cents.value >= 10 and cents.end == len(words) and _word(words, end + 1) != "and":
            return Span(f"{sign}{figures}.{cents.value}", at, cents.end)
    return Span(f"{sign}{figures}", at, end + 1)


def _measure(words: Words, at: int) -> Span | None:
    """ "five percent", "minus five degrees", "three point one four"."""
    is_negative = _word(words, at) == "minus" and _word(words, at - 1) not in NUMBER_WORDS | {"or"}
    quantity = _quantity(words, at + is_negative)
    if quantity is None:
        return None
    figures, end = quantity
    figures = f"-{figures}" if is_negative else figures
    if _word(words, end) == "percent":
        return Span(f"{figures}%", at, end + 1)
    if _word(words, end) == "per" and _word(words, end + 1) == "cent":
        return Span(f"{figures}%", at, end + 2)
    if _word(words, end) in _UNITS_OF_MEASURE:
        return Span(f"{figures} {words[end]}", at, end + 1)
    return Span(figures, at, end) if "." in figures and not _goes_on(words, end) else None


def _version(words: Words, at: int) -> Span | None:
    """ "three point one point four"."""
    first = _cardinal(words, at)
    if first is None:
        return None
    parts, end = [str(first.value)], first.end
    while _word(words, end) == "point" and (number := _cardinal(words, end + 1)) is not None:
        parts.append(str(number.value))
        end = number.end
    return Span(".".join(parts), at, end) if len(parts) > 2 and not _goes_on(words, end) else None


def _digit_string(words: Words, at: int) -> Span | None:
    """Four digits and more, said one by one; seven and ten are telephone numbers."""
    digits, end = _digits(words, at)
    least = MIN_DIGITS_ASKED_FOR if _word(words, at - 1) in _BEFORE_DIGITS else MIN_DIGITS
    if len(digits) < least or _goes_on(words, end) or _word(words, at - 1) in _UNFINISHED:
        return None
    if set(words[at:end]) <= {"oh", "o"}:  # sighs
        return None
    if len(digits) in (7, 10):
        parts = [digits[-10:-7], digits[-7:-4], digits[-4:]]
        return Span("-".join(part for part in parts if part), at, end)
    return Span(digits, at, end)


def _plain_year(words: Words, at: int) -> Span | None:
    """ "eighteen forty two", "the nineteen twenties", "in two thousand"."""
    century = _below_hundred(words, at)
    if century is not None and 11 <= century.value <= 20 and _word(words, century.end) in _DECADES:
        return Span(f"{100 * century.value + _DECADES[words[century.end]]}s", at, century.end + 1)
    year = _year(words, at)
    if year is None:
        return None
    before = _word(words, at - 1)
    if before not in _BEFORE_A_YEAR:
        if before in _BEFORE_A_PRICE or _goes_on(words, year.end) or _is_counted(words, year.end):
            return None
        if _word(words, year.end) in _SMALL_ORDINALS:  # "two thousand and twenty first"
            return None
        # Until twelve it may be a time; "fifteen twenty" is two numbers.
        least = 2001 if {"thousand", "hundred"} & set(words[at : year.end]) else 1300
        if year.value < least or (year.value < 1900 and 10 <= year.value % 100 <= 20):
            return None
    return Span(str(year.value), at, year.end)


def _plain_ordinal(words: Words, at: int) -> Span | None:
    """From "tenth" on; as said where it may be a fraction ("a tenth of"), or seconds ("sixty second")."""
    ordinal = _ordinal(words, at)
    if ordinal is None or ordinal.value < 10:
        return None
    before, following = _word(words, at - 1), _word(words, ordinal.end)
    is_last = following in ("", "of")
    is_fraction = (words[at] == "one" and ordinal.end == at + 2 and before != "the") or (before == "a" and is_last)
    is_seconds = words[ordinal.end - 1] == "second" and before != "on" and not (before == "the" and is_last)
    if is_fraction or is_seconds:
        return _as_said(words, at, ordinal.end)
    return Span(_with_suffix(ordinal.value), at, ordinal.end)


def _plain_number(words: Words, at: int) -> Span | None:
    """From ten on; after a label ("chapter three") all of them."""
    number = _cardinal(words, at)
    if number is None:
        return None
    before, following = _word(words, at - 1), _word(words, number.end)
    is_label = before in _LABELS and (number.value > 1 or before in ("chapter", "page", "version"))
    if before != "chapter" and _is_counted(words, number.end):  # "on the page three words were written"
        is_label = False
    if number.value < 10 and not is_label:
        return None
    is_hour = "past" in (before, following) or "quarter" in (before, _word(words, at - 2 * (before == "to")))
    if is_hour or before == "foot" or _goes_on(words, number.end):
        return _as_said(words, at, at + 1)
    return Span(str(number.value) if is_label else _grouped(number.value), at, number.end)


_RULES: tuple[Callable[[Words, int], Span | None], ...] = (
    _date,
    _digit_string,
    _time,
    _rest_of_number,
    _range,
    _money,
    _version,
    _measure,
    _plain_year,
    _plain_ordinal,
    _plain_number,
)
