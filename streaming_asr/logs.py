"""Owns how the server logs: as text or as JSON lines, with the session's id, and never with what was said.

An exception's own words might quote a client, so that only its type and where it came from are written.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import asyncio

Format = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

_Error = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]  # as `sys.exc_info`
)
logger = logging.getLogger(__name__)


def session_logger(of: logging.Logger, session_id: str) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose records carry the session's id."""
    return logging.LoggerAdapter(of, {"session": session_id})


class TextFormatter(logging.Formatter):
    """One line a record, and where an exception came from below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Puts the session first."""
        line = super().formatMessage(record)
        session = getattr(record, "session", None)
        return line if session is None else line.replace(f"{record.name}: ", f"{record.name}: session {session}: ", 1)

    def formatException(self, ei: _Error) -> str:  # noqa: N802
        """Without the exception's own words."""
        return _origin(ei)


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ``time``, ``level``, ``logger``, ``message``, and ``session`` and ``error`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        row: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        session = getattr(record, "session", None)
        if session is not None:
            row["session"] = session
        if record.exc_info:
            row["error"] = _origin(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def _origin(error: _Error) -> str:
    kind, _, trace = error
    return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind is not None else "")


def log_failure(to: logging.Logger, what: str, error: BaseException) -> None:
    """Says what failed and where, whatever formats it: not in the exception's own words."""
    to.error("%s failed with %s at\n%s", what, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


def _is_news(record: logging.LogRecord) -> bool:
    """Not what asyncio says of each write to a connection that just broke: as many lines as its client likes."""
    return record.name != "asyncio" or record.msg != "socket.send() raised exception."


def configure(level: str, form: Format) -> None:
    """Logs to stderr from `level` on; at ``debug`` it says what that does and does not write."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(_is_news)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level == "debug":
        logger.warning("debug: the kind and size of each message is written, never its audio or text")


def log_loop_error(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """An event loop's exception handler: the loop's own would quote the exception."""
    error = context.get("exception")
    trace = None if error is None else (type(error), error, error.__traceback__)
    asyncio_logger = logging.getLogger("asyncio")
    asyncio_logger.error("%s", context.get("message", "an error in the event loop"), exc_info=trace)
