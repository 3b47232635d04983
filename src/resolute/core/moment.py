"""Moments as people and programs write them, in seconds since 1970."""

import re
from datetime import UTC, datetime

from resolute.core.errors import ConfigError

# A whole number of fewer digits is a year, a month or a day to whoever writes it: 2026, 202611,
# 20261127. As seconds all of these lie in 1970.
_SECONDS = re.compile(r"[+-]?(\d{9,}|\d+\.\d*|\d+(\.\d*)?e[+-]?\d+)", re.ASCII | re.IGNORECASE)
_LATEST = 1e11  # the year 5138; today in milliseconds is beyond it


def read_moment(text: str) -> float:
    """Read a moment: ISO 8601, UTC where no zone is given, or seconds since 1970.

    Eight digits are a day. Seconds are a whole number of nine digits or more, or any number with
    a point or an exponent.

    Args:
        text: what was written.

    Returns:
        Seconds since 1970, finite.

    Raises:
        ConfigError: if it is neither, or so many seconds that they must be milliseconds.

    Examples:
        >>> read_moment("2026-01-01T00:00Z"), read_moment("20260101"), read_moment("1767225600")
        (1767225600.0, 1767225600.0, 1767225600.0)
    """
    written = text.strip()
    wanted = (
        "expected a time such as 2026-10-05T14:30, or seconds since 1970 such as 1791210600, got "
        f"{text!r}"
    )
    if _SECONDS.fullmatch(written):
        if abs(seconds := float(written)) < _LATEST:
            return seconds
        raise ConfigError(f"{wanted}; of milliseconds give the thousandth part")
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise ConfigError(wanted) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
