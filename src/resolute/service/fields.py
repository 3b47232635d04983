"""From the text fields of a request to what the library takes."""

import time as clock
from collections.abc import Sequence

from resolute.core.errors import ConfigError, GalleryError
from resolute.core.moment import read_moment
from resolute.retrieval.gallery import DAY_S
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
    try:
        return Where(
            camera=tuple(camera),
            not_camera=tuple(not_camera),
            start=time_of("start", start),
            end=time_of("end", end),
            min_reliability=min_reliability,
        )
    except ConfigError as error:
        raise Problem(422, "bad_value", str(error)) from None


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
    """Read a time, see :func:`resolute.core.moment.read_moment`.

    Args:
        name: of the field, for messages.
        text: of the request; empty for none.

    Returns:
        Seconds since 1970; None where the text is empty.

    Raises:
        Problem: if it is neither.

    Examples:
        >>> time_of("start", "2026-01-01T00:00:00Z"), time_of("end", "")
        (1767225600.0, None)
    """
    if not text.strip():
        return None
    try:
        return read_moment(text)
    except ConfigError as error:
        raise Problem(422, "bad_value", f"{name}: {error}") from None


def item_of(key: str, camera: str, time: str) -> Item:
    """Read what is to be kept of a new image.

    Args:
        key: its name.
        camera: its camera; empty where unknown.
        time: see :func:`time_of`.

    Returns:
        The item, without a picture.

    Raises:
        Problem: if a text is too long or holds control characters, or the time is to come.
    """
    taken = time_of("time", time)
    # A day for clocks and zones that differ.
    if taken is not None and taken > clock.time() + DAY_S:
        raise Problem(
            422, "bad_value",
            f"time: expected when the image was taken, got {time!r}, which lies in the future; "
            "correct the date",
        )  # fmt: skip
    try:
        return Item(key=key, camera=camera, time=taken)
    except GalleryError as error:
        raise Problem(422, "bad_value", str(error)) from None
