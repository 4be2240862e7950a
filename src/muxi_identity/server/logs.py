"""Logs for machines: one JSON object a line, and nobody's identifier in it.

A path is logged as its template, a person as a keyed pseudonym or a public id, an error as its code. Of an
unexpected error the frames are logged and not its text, which may quote what somebody said.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from typing import Any, TextIO

import msgspec

ACCESS = "muxi_identity.server.access"
_PAGE = 4_096
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object; ``record.fields`` are its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.msg:
            line["message"] = record.getMessage()
        line.update(getattr(record, "fields", {}))
        line.update(_what_failed(record))
        return _encode(line).decode("utf-8", "replace")


def _what_failed(record: logging.LogRecord) -> dict[str, Any]:
    """Return the kind of an exception and where it was; not its text, which may hold what people sent."""
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    frames = traceback.extract_tb(record.exc_info[2])
    return {
        "exception": record.exc_info[0].__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


class PlainFormatter(logging.Formatter):
    """Formats a record for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        fields = getattr(record, "fields", None)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        if fields is None or "status" not in fields:
            told = " ".join(f"{name}={value}" for name, value in {**(fields or {}), **_what_failed(record)}.items())
            return f"{clock} {record.levelname.lower():<7} {record.getMessage()} {told}".rstrip()
        name = fields.get("route") or "-"
        return f"{clock} {fields['status']} {fields['method']:<6} {name} {fields['milliseconds']:.1f} ms"


class Line(msgspec.Struct):
    """What is logged of a request."""

    request_id: str
    formation: str
    method: str
    route: str
    status: int
    milliseconds: float
    as_: str | None = msgspec.field(name="as")
    user: str | None = None
    time: str = ""
    level: str = "info"
    logger: str = ACCESS


class AccessLog:
    """Writes a line for each request, those of one turn of the event loop at once.

    A tenth of what :mod:`logging` takes: making a record, finding out who called and flushing each line would be more
    than half of what a cached answer takes. Where the process logs otherwise, that is used.
    """

    def __init__(self) -> None:
        self._stream: TextIO | None = None
        self._waiting: list[bytes] = []
        self._second, self._shown = 0, ""
        self._logger = logging.getLogger(ACCESS)

    def write_to(self, stream: TextIO | None) -> None:
        """Write lines to ``stream`` from now on; None leaves them to :mod:`logging`."""
        self._stream = stream

    def write(self, line: Line) -> None:
        """Write one line."""
        if self._stream is None:
            if self._logger.isEnabledFor(logging.INFO):
                fields = msgspec.to_builtins(line)
                for ours in ("time", "level", "logger"):
                    del fields[ours]
                self._logger.info("", extra={"fields": fields})
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._shown = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line.time = f"{self._shown}.{int((now - second) * 1000):03d}Z"
        self._waiting.append(_encode(line))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if self._stream is None or not waiting:
            return
        # Workers write to the same pipe, which keeps apart what is written at once and fits in a page.
        page: list[bytes] = []
        size = 0
        for line in [*waiting, b""]:
            if page and (not line or size + len(line) >= _PAGE):
                self._stream.write(b"\n".join([*page, b""]).decode("utf-8", "replace"))
                self._stream.flush()
                page, size = [], 0
            page.append(line)
            size += len(line) + 1


access_log = AccessLog()


def set_up(stream: TextIO | None = None, *, level: str = "INFO", plain: bool = False) -> None:
    """Send what the library and the server log to ``stream`` (standard error)."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter() if plain else JsonFormatter())
    for name in ("muxi_identity", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)
    direct = not plain and logging.getLogger(ACCESS).isEnabledFor(logging.INFO)
    access_log.write_to(stream if direct else None)
