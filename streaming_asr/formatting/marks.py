"""The marks that finals are written with. Apart from `punctuation`, so that who reads them needs no torch."""

MARKS = ("", ",", ".", "?")
SENTENCE_MARKS = (".", "?")  # after which a sentence begins
