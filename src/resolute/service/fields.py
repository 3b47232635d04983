"""From the text fields of a request to what the library takes."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from resolute.core.errors import GalleryError
from resolute.retrieval.types import Item, Where
from resolute.service.problem import Problem


def where_of(
    camera: Sequence[str],
    not_camera: Sequence[str],
    start: str,
    end: str,
    min_reliability: float | None,
) -> Where:
    """Read the conditions of a request.

    Args:
        camera: only these.
        not_camera: none of these.
        start: earliest time, see :func:`time_of`.
        end: time before which.
        min_reliability: 0..1.

    Returns:
        The conditions.

    Raises:
        Problem: if a value cannot be.
    """
    for name, cameras in (("camera", camera), ("not_camera", not_camera)):
        if not all(map(is_text, cameras)):
            raise Problem(422, "bad_value", f"{name}: expected text, got half a character")
    if min_reliability is not None and not 0 <= min_reliability <= 1:
        raise Problem(422, "bad_value", f"min_reliability: expected 0 to 1, got {min_reliability}")
    return Where(
        camera=tuple(camera),
        not_camera=tuple(not_camera),
        start=time_of("start", start),
        end=time_of("end", end),
        min_reliability=min_reliability,
    )


def is_text(text: str) -> bool:
    r"""Tell whether a text is whole: JSON can bring half of a character, which cannot be stored.

    Args:
        text: of the request.

    Returns:
        False where it holds a surrogate.

    Examples:
        >>> is_text("cam0/7.png"), is_text("\ud800")
        (True, False)
    """
    return not any(0xD800 <= ord(c) < 0xE000 for c in text)


def time_of(name: str, text: str) -> float | None:
    """Read a time: seconds since the epoch, or ISO 8601; without a zone it is UTC.

    Args:
        name: of the field, for messages.
        text: of the request; empty for none.

    Returns:
        Seconds since the epoch; None where the text is empty.

    Raises:
        Problem: if it is neither.

    Examples:
        >>> time_of("start", "2026-01-01T00:00:00Z"), time_of("end", "")
        (1767225600.0, None)
    """
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
            value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            value = math.nan
    if not math.isfinite(value):
        raise Problem(
            422, "bad_value", f"{name}: expected seconds since the epoch or ISO 8601, got {text!r}"
        )
    return value


def item_of(key: str, camera: str, time: str) -> Item:
    """Read what is to be kept of a new image.

    Args:
        key: its name.
        camera: its camera; empty where unknown.
        time: see :func:`time_of`.

    Returns:
        The item, without a picture.

    Raises:
        Problem: if a text is too long or holds control characters.
    """
    try:
        return Item(key=key, camera=camera, time=time_of("time", time))
    except GalleryError as error:
        raise Problem(422, "bad_value", str(error)) from None
