"""Streaming speech recognition with a unidirectional LSTM.

Importing this package is cheap: torch is loaded when a :class:`Recognizer` is.
"""

__version__ = "0.1.0"
