"""Writes each event as one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from typing import Any, TextIO

from pgsluice import visible
from pgsluice.events import Event
from pgsluice.model import Report, TableReport


class JsonLog:
    """A sink that writes JSON Lines: ``event`` and ``at`` first, then the event's own fields."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write one line."""
        line: dict[str, Any] = {
            "event": _snake(type(event).__name__),
            "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"),
        }
        for field in dataclasses.fields(event):
            if field.name != "at":
                value = getattr(event, field.name)
                line[field.name] = value.to_dict() if isinstance(value, Report | TableReport) else value
        self._stream.write(visible.lines(json.dumps(line, ensure_ascii=False)) + "\n")
        self._stream.flush()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
