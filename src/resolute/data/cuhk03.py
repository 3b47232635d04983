"""CUHK03: 1,467 people at five camera pairs, boxes drawn by hand or detected [Li 2014].

Read from the raw ``cuhk-03.mat``, from Torchreid's folders of images made of it, or from the
``cuhk03-np`` layout; whole or in part, with what is missing said in the notes.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resolute.core.errors import DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Record, Split
from resolute.data.counts import ROLES, RoleCount, SplitCounts, with_differences
from resolute.data.cuhk03_images import (
    PAIR_OFFSETS,
    PAIR_SIZES,
    Boxes,
    Cuhk03Folder,
    find_images,
    number_pid,
    parse_stem,
    read_images,
)
from resolute.data.cuhk03_mat import read_config, read_test_sets
from resolute.data.files import NoLayoutError, find_base, listed, read_text
from resolute.data.market_style import assemble, has_market_folders, naming, read_market_folders
from resolute.data.views import check_trial, draw_test_pids, split_by_view

NUM_TRIALS = 20
NUM_TEST = 100
# Of camera pair 1 read alone, people 001-743 train and 744-843 test [ours].
LAST_TRAIN_PAIR_ONE = 743

COUNTS_CLASSIC = SplitCounts(
    train=RoleCount(1_367, None), query=RoleCount(100, None), gallery=RoleCount(100, None)
)
COUNTS_NEW: dict[Boxes, SplitCounts] = {
    "labeled": SplitCounts(
        train=RoleCount(767, 7_368), query=RoleCount(700, 1_400), gallery=RoleCount(700, 5_328)
    ),
    "detected": SplitCounts(
        train=RoleCount(767, 7_365), query=RoleCount(700, 1_400), gallery=RoleCount(700, 5_332)
    ),
}
COUNTS_PAIR_ONE = SplitCounts(
    train=RoleCount(743, 7_239), query=RoleCount(100, 487), gallery=RoleCount(100, 451)
)

_NP_NAMING = naming(r"_[0-9]+", example="0001_c1_1.png", num_cameras=2)


def read_classic(root: Path, *, trial: int, streams: Streams, boxes: Boxes) -> Split:
    """Read the classic protocol: 1,367 people to train on, 100 to test, twenty splits.

    Test people come from ``splits_classic_*.json`` if it stands beside the images, else from the
    raw file, else they are drawn. Queries are of view 2 (camid 1), the gallery is view 1.

    Args:
        root: the folder with ``images_labeled``, ``images_detected`` or ``cuhk-03.mat``, or one
            above it.
        trial: which split, 0..19.
        streams: all random streams of the run; used only where no list of test people exists.
        boxes: ``labeled`` by hand or ``detected``.

    Returns:
        The split; where its test people come from and what is missing is in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if there is no such trial.
    """
    name = f"cuhk03-classic-{boxes}"
    check_trial(name, trial, NUM_TRIALS)
    folder = find_images(root, boxes)
    records = read_images(folder)
    pids = {r.pid for r in records.values()}
    test, origin = _published_test_pids(folder, trial)
    if not origin:
        test = draw_test_pids(name, pids, num_test=NUM_TEST, trial=trial, streams=streams)
        origin = (
            f"drawn with seed {streams.seed}, as neither splits_classic_{boxes}.json nor "
            "cuhk-03.mat is there"
        )
    notes = [f"test identities: {origin}", *_missing_pairs(pids)]
    split = split_by_view(f"{name} trial {trial}", records.values(), test, notes=notes)
    return with_differences(_check_filled(split, folder.base), COUNTS_CLASSIC)


def read_new(root: Path, *, trial: int, streams: Streams, boxes: Boxes) -> Split:  # noqa: ARG001
    """Read the new protocol: 767 people to train on, 700 to test [Zhong 2017].

    Its lists are ``cuhk03_new_protocol_config_*.mat`` or ``splits_new_*.json``; the layout
    ``cuhk03-np`` needs none.

    Args:
        root: the folder of CUHK03 or of ``cuhk03-np``, or one above it.
        trial: 0, as the split is fixed.
        streams: not used, nothing is drawn.
        boxes: ``labeled`` by hand or ``detected``.

    Returns:
        The split; what is missing is in its notes.

    Raises:
        DatasetError: if a file is not of this data set.
        NoLayoutError: if the layout or its lists are not there.
        ConfigError: if ``trial`` is not 0.
    """
    name = f"cuhk03-new-{boxes}"
    check_trial(name, trial, 1)
    base = _find_np(root, boxes)
    if base is not None:
        split = assemble(name, base, read_market_folders(base, _NP_NAMING))
        return with_differences(split, COUNTS_NEW[boxes])
    folder = find_images(root, boxes)
    config = folder.beside(f"cuhk03_new_protocol_config_{boxes}.mat")
    lists = folder.beside(f"splits_new_{boxes}.json")
    if config is not None:
        stems = read_config(config)
    elif lists is not None:
        stems = _read_json_split(lists, 0)
    else:
        raise NoLayoutError(
            f"{folder.base}: images of CUHK03, but no list of the new protocol; put "
            f"cuhk03_new_protocol_config_{boxes}.mat beside them"
        )
    split = _pick(name, read_images(folder), stems)
    return with_differences(_check_filled(split, folder.base), COUNTS_NEW[boxes])


def read_pair_one(root: Path, *, trial: int, streams: Streams) -> Split:  # noqa: ARG001
    """Read camera pair 1 alone, labelled boxes: people 001-743 train, 744-843 test.

    Queries are of view 2 (camid 1), the gallery is view 1 (camid 0).

    Args:
        root: the folder with ``images_labeled`` or ``cuhk-03.mat``, or one above it.
        trial: 0, as the split is fixed.
        streams: not used, nothing is drawn.

    Returns:
        The split; other counts than expected are in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if ``trial`` is not 0.
    """
    check_trial("cuhk03-p1", trial, 1)
    folder = find_images(root, "labeled")
    records = [r for r in read_images(folder).values() if r.pid <= PAIR_SIZES[0]]
    test = {r.pid for r in records if r.pid > LAST_TRAIN_PAIR_ONE}
    split = split_by_view("cuhk03-p1", records, test)
    return with_differences(_check_filled(split, folder.base), COUNTS_PAIR_ONE)


def _find_np(root: Path, boxes: Boxes) -> Path | None:
    spellings = ("cuhk03-np", "cuhk03/cuhk03-np", "CUHK03-np", ".")
    try:
        base = find_base(
            root, spellings, holds=lambda f: has_market_folders(f / boxes), what="cuhk03-np"
        )
    except NoLayoutError:
        return None
    return base / boxes


def _published_test_pids(folder: Cuhk03Folder, trial: int) -> tuple[set[int] | frozenset[int], str]:
    # The test people and the name of the list; neither where no list is there.
    lists = folder.beside(f"splits_classic_{folder.boxes}.json")
    if lists is not None:
        stems = _read_json_split(lists, trial)
        test = (*stems["query"], *stems["gallery"])
        return {parse_stem(stem, where=lists)[0] for stem in test}, lists.name
    if folder.raw is None:
        return frozenset(), ""
    sets = read_test_sets(folder.raw)
    if trial >= len(sets):
        raise DatasetError(f"{folder.raw}: holds {len(sets)} test sets, no trial {trial}")
    test_set = {number_pid(pair, person, where=folder.raw) for pair, person in sets[trial]}
    return test_set, folder.raw.name


def _read_json_split(path: Path, trial: int) -> dict[str, list[str]]:
    # Base names alone: the absolute paths that Torchreid writes do not outlive a move.
    try:
        splits = json.loads(read_text(path))
        if trial >= len(splits):
            raise DatasetError(f"{path}: holds {len(splits)} splits, no trial {trial}")
        return {role: [_stem(item) for item in splits[trial][role]] for role in ROLES}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{path}: not a list of splits as Torchreid writes it ({error!r}); remove it"
        ) from error


def _stem(item: Any) -> str:
    name: str = re.split(r"[/\\]", item[0])[-1]
    return name.rpartition(".")[0]


def _pick(name: str, records: Mapping[str, Record], stems: Mapping[str, list[str]]) -> Split:
    # Roles as listed; images listed but not there are counted in the notes.
    notes = _missing_pairs({r.pid for r in records.values()})
    roles: dict[str, tuple[Record, ...]] = {}
    for role, wanted in stems.items():
        missing = [stem for stem in wanted if stem not in records]
        if missing:
            notes.append(f"{role}: {listed(missing)} of {len(wanted)} listed are missing")
        here = [records[stem] for stem in wanted if stem in records]
        roles[role] = tuple(sorted(here, key=lambda r: r.key))
    return Split(name=name, notes=tuple(notes), **roles)


def _check_filled(split: Split, base: Path) -> Split:
    empty = [role for role in ROLES if not getattr(split, role)]
    if empty:
        raise DatasetError(
            f"{base}: {split.name} has no image for {' and '.join(empty)}; the part of CUHK03 that "
            "stands there does not allow this split"
        )
    return split


def _missing_pairs(pids: set[int]) -> list[str]:
    notes = []
    for pair, (offset, size) in enumerate(zip(PAIR_OFFSETS, PAIR_SIZES, strict=True), start=1):
        here = sum(offset < pid <= offset + size for pid in pids)
        if here < size:
            notes.append(f"camera pair {pair}: {here} of {size} identities are there")
    return notes
