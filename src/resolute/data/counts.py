"""Count identities and images per role, and compare with what was published."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from resolute.core.types import Record, Split


@dataclass(frozen=True, slots=True)
class RoleCount:
    """Size of one role.

    Attributes:
        identities: number of identities, distractors counted as one.
        images: number of images; None where it differs from trial to trial.
    """

    identities: int
    images: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCounts:
    """Sizes of the three roles.

    Attributes:
        train: training identities and images.
        query: query identities and images.
        gallery: gallery identities and images.
    """

    train: RoleCount
    query: RoleCount
    gallery: RoleCount


ROLES = tuple(f.name for f in fields(SplitCounts))


def count(split: Split) -> SplitCounts:
    """Count a split.

    Args:
        split: any split.

    Returns:
        Identities and images per role.
    """
    return SplitCounts(**{role: _count(getattr(split, role)) for role in ROLES})


def differences(found: SplitCounts, published: SplitCounts) -> tuple[str, ...]:
    """Say where counts differ from the published ones.

    Args:
        found: what was read.
        published: what the data set's authors or the literature state.

    Returns:
        One line per role that differs.
    """
    lines = []
    for role in ROLES:
        here, there = getattr(found, role), getattr(published, role)
        if not agree(here, there):
            images = "" if there.images is None else f" and {here.images} of {there.images} images"
            lines.append(
                f"{role}: found {here.identities} of {there.identities} identities{images}"
            )
    return tuple(lines)


def agree(found: RoleCount, published: RoleCount) -> bool:
    """Tell whether one role has its published size.

    Args:
        found: what was read.
        published: what it is compared with; ``images`` may be None, which fits any number.

    Returns:
        True if both numbers agree.
    """
    return found.identities == published.identities and published.images in (None, found.images)


def with_differences(split: Split, published: SplitCounts) -> Split:
    """Add what differs from the published counts to the notes of a split.

    Args:
        split: what was read.
        published: what it should hold.

    Returns:
        The same records with more notes.
    """
    return replace(split, notes=(*split.notes, *differences(count(split), published)))


def _count(records: Iterable[Record]) -> RoleCount:
    pids = [r.pid for r in records]
    return RoleCount(identities=len(set(pids)), images=len(pids))
