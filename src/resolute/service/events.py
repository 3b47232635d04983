"""What the server logs: one JSON object per line, without pixels, names or query strings."""

import json
import logging
import time
import traceback
from typing import Any, TextIO

from resolute.service.problem import without_paths

_FIELDS = "event"


class JsonLines(logging.Formatter):
    """Formats records as JSON. Of an exception its kind and place are told, not its words."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line.

        Args:
            record: of the logging module.
        """
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": without_paths(record.getMessage()),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            line["error"] = type(error).__name__
            line["at"] = [f"{without_paths(f.filename)}:{f.lineno} {f.name}" for f in frames]
        return json.dumps(line, ensure_ascii=False)


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """Wrap fields for the ``extra`` of a log call.

    Args:
        **values: what JSON can hold.

    Returns:
        For ``logger.info("request", extra=fields(status=200))``.
    """
    return {_FIELDS: values}


def log_to(stream: TextIO) -> None:
    """Send everything that this process logs to a stream as JSON lines.

    Args:
        stream: usually stderr.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.INFO)
