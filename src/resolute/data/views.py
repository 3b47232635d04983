"""Assemble splits of data sets with two views and seeded or listed halves of their identities."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Record, Split

GALLERY_CAMID, QUERY_CAMID = 0, 1


def check_trial(name: str, trial: int, num_trials: int) -> None:
    """Check that a data set has the trial asked for.

    Args:
        name: of the data set, for the message.
        trial: number of the split, from 0.
        num_trials: how many splits there are.

    Raises:
        ConfigError: if there is no such trial.
    """
    if not 0 <= trial < num_trials:
        only = "its one split is trial 0" if num_trials == 1 else f"expected 0 to {num_trials - 1}"
        raise ConfigError(f"{name}: no trial {trial}; {only}")


def draw_test_pids(
    name: str, pids: Collection[int], *, num_test: int, trial: int, streams: Streams
) -> frozenset[int]:
    """Draw the test identities of one trial.

    A pure function of the identities, the seed, the data set's name and the trial.

    Args:
        name: of the data set; keeps the draws of two sets apart.
        pids: all identities.
        num_test: how many to draw.
        trial: number of the split, from 0.
        streams: all random streams of the run.

    Returns:
        ``num_test`` identities.

    Raises:
        DatasetError: if no identity would be left for training.
    """
    if len(pids) <= num_test:
        raise DatasetError(
            f"{name}: only {len(pids)} identities found; a split tests on {num_test} and needs "
            "more to train on"
        )
    order = streams.numpy(Stream.SPLIT, name, trial).permutation(sorted(pids))
    return frozenset(order[:num_test].tolist())


def seen_by_both(records: Sequence[Record]) -> tuple[list[Record], tuple[str, ...]]:
    """Keep the identities that both views have seen.

    Args:
        records: of two cameras, 0 and 1.

    Returns:
        The records kept, and a note on those that were not, if any.

    Raises:
        DatasetError: if no identity is seen by both.
    """
    views = Counter(pid for pid, _ in {(r.pid, r.camid) for r in records})
    kept = [r for r in records if views[r.pid] == 2]
    if not kept:
        raise DatasetError(
            f"{records[0].key}: no identity is seen by both views; unpack the data set again"
        )
    single = sum(number == 1 for number in views.values())
    if not single:
        return kept, ()
    dropped = len(records) - len(kept)
    return kept, (f"left out {single} identities seen by one view only ({dropped} images)",)


def split_by_view(
    name: str,
    records: Iterable[Record],
    test_pids: Collection[int],
    *,
    notes: Sequence[str] = (),
) -> Split:
    """Give each record its role: test images of view 1 are queries, of view 0 gallery.

    Args:
        name: printed name of the split.
        records: of two cameras, 0 and 1.
        test_pids: identities to test on; all others train, in both views.
        notes: what is worth saying.

    Returns:
        Records sorted by key in each role.
    """
    ordered = sorted(records, key=lambda r: r.key)
    test = [r for r in ordered if r.pid in test_pids]
    return Split(
        name=name,
        train=tuple(r for r in ordered if r.pid not in test_pids),
        query=tuple(r for r in test if r.camid == QUERY_CAMID),
        gallery=tuple(r for r in test if r.camid == GALLERY_CAMID),
        notes=tuple(notes),
    )
