"""Conditions on images that no image of a gallery can meet.

Such a condition would pass everything or nothing, and what comes back would look like an answer.
"""

from collections.abc import Sequence

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.types import Stats, Where


def check_cameras(cameras: Sequence[str], stats: Stats) -> None:
    """Refuse cameras that no image has.

    Args:
        cameras: names asked for.
        stats: of the gallery.

    Raises:
        ConfigError: if one is unknown.
    """
    known = list(stats.cameras)
    for name in cameras:
        if name in known:
            continue
        if not any(known):
            raise ConfigError(
                f"camera {name!r}: no image of the gallery has a camera; index with "
                "--camera-pattern, or leave the condition out"
            )
        raise ConfigError(unknown_name("camera", name, [one for one in known if one]))


def check_where(gallery: Gallery, where: Where) -> None:
    """Refuse cameras that no image has, and times where none is known.

    Args:
        gallery: to search.
        where: which of its images may be found.

    Raises:
        ConfigError: if a camera is unknown, or no image has a time.
    """
    is_timed = where.start is not None or where.end is not None
    if not (where.camera or where.not_camera or is_timed):
        return
    stats = gallery.stats()
    check_cameras([*where.camera, *where.not_camera], stats)
    # An empty gallery may have had times: that nothing is found is the answer then.
    if is_timed and stats.first_time is None and stats.num_images:
        raise ConfigError(
            "--from, --until: no image of the gallery has a time; index into a new gallery with "
            "--time-from-files, or leave the condition out"
        )


def check_reliability(gallery: Gallery) -> None:
    """Refuse a condition on reliability where no image has one.

    No count tells, so what is known of the images is read. Call it when no image has passed.

    Args:
        gallery: that was searched.

    Raises:
        ConfigError: if it holds images and none of them has a reliability.
    """
    if gallery.entries(where=Where(min_reliability=0), limit=1) or not len(gallery):
        return
    raise ConfigError(
        "--min-reliability: no image of the gallery has a reliability; calibrate the model "
        "(resolute calibrate RUN) and index into a new gallery, or leave the condition out"
    )
