"""The log: one JSON object per line."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

logger = logging.getLogger("stepwise.gateway")


def log(event: str, **fields: Any) -> None:
    """Write what happened, with the time."""
    if logger.isEnabledFor(logging.INFO):
        logger.info(json.dumps({"time": round(time.time(), 3), "event": event, **fields}))


class JsonLines(logging.Formatter):
    """Our own lines as they are; those of other loggers as JSON, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == logger.name and not record.exc_info:
            return record.getMessage()
        line = {"time": round(record.created, 3), "event": record.name, "level": record.levelname}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
