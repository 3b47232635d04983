import inspect

import pytest
from data import trees

from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.catalogue import (
    DATASETS,
    data_name,
    find_dataset,
    merge,
    scored_training,
    shows_same_people,
)
from resolute.data.counts import RoleCount, SplitCounts, agree, count, differences
from resolute.data.decode import FileSource

SEED = Streams(0)


def record(key, pid, camid=0):
    return Record(
        key=key, pid=pid, camid=camid, resolution=Resolution.UNKNOWN, source=FileSource(key)
    )


def split(name, train, test, note="n"):
    return Split(
        name=name,
        train=tuple(record(f"t{i}", p, c) for i, (p, c) in enumerate(train)),
        query=tuple(record(f"q{i}", p, c) for i, (p, c) in enumerate(test)),
        gallery=tuple(record(f"g{i}", p, c) for i, (p, c) in enumerate(test)),
        notes=(note,),
    )


class TestTable:
    @pytest.mark.parametrize("name", sorted(DATASETS))
    def test_each_line_is_whole(self, name):
        info = DATASETS[name]
        parameters = inspect.signature(info.read).parameters
        assert list(parameters)[:3] == ["root", "trial", "streams"]
        assert info.num_trials >= 1
        assert info.title
        assert info.terms

    def test_names_printed_by_readers_are_those_of_the_table(self, tmp_path):
        """`merge` and reports take the first word of a split's name for the data set's."""
        built = {
            "viper": trees.viper(tmp_path / "v"),
            "market1501": trees.market_style(tmp_path / "m", trees.MARKET),
            "msmt17": trees.msmt17(tmp_path / "ms", 1),
            "msmt17-trainval": tmp_path / "ms",
            "cuhk03-classic-labeled": trees.cuhk03_folder(tmp_path / "c", {1: 750}),
            "cuhk03-p1": tmp_path / "c",
            "folder": trees.market_style(tmp_path / "f", trees.NUMPY),
        }
        for name, root in built.items():
            assert DATASETS[name].read(root, trial=0, streams=SEED).name.split()[0] == name

    @pytest.mark.parametrize(("name", "near"), [("market1502", "market1501"), ("vipr", "viper")])
    def test_unknown_name(self, name, near):
        with pytest.raises(ConfigError, match=f"unknown data set '{name}': did you mean '{near}'"):
            find_dataset(name)

    def test_a_name_with_several_forms(self):
        with pytest.raises(
            ConfigError, match=r"'cuhk03' has several forms: .*new-detected, cuhk03-p1"
        ):
            find_dataset("cuhk03")

    def test_withdrawn_sets_are_not_linked(self):
        for info in DATASETS.values():
            assert "http" not in info.terms


class TestCounts:
    def test_count_and_differences(self):
        found = count(split("a", [(1, 0), (1, 1), (2, 0)], [(3, 0)]))
        assert found.train == RoleCount(2, 3)
        assert found.query == found.gallery == RoleCount(1, 1)
        published = SplitCounts(
            train=RoleCount(2, 4), query=RoleCount(1, 1), gallery=RoleCount(5, None)
        )
        assert differences(found, published) == (
            "train: found 2 of 2 identities and 3 of 4 images",
            "gallery: found 1 of 5 identities",
        )
        assert differences(found, found) == ()

    def test_unknown_number_of_images_fits_any(self):
        assert agree(RoleCount(1, 7), RoleCount(1, None))
        assert not agree(RoleCount(2, 7), RoleCount(1, None))
        assert not agree(RoleCount(1, 7), RoleCount(1, 8))


class TestMerge:
    def test_people_and_cameras_stay_apart(self):
        first = split("viper trial 3", [(1, 0), (2, 1)], [(9, 1), (0, 0), (-1, 0)])
        second = split("market1501", [(1, 0), (4, 5)], [(7, 3)])
        third = split("folder x", [(1, 0)], [(1, 0)])
        merged = merge([first, second, third])
        assert merged.name == "viper trial 3 + market1501 + folder x"
        assert [(r.key, r.pid, r.camid) for r in merged.train] == [
            ("viper/t0", 1, 0),
            ("viper/t1", 2, 1),
            ("market1501/t0", 10, 2),
            ("market1501/t1", 13, 7),
            ("folder/t0", 17, 8),
        ]
        assert [(r.key, r.pid, r.camid) for r in merged.query] == [
            ("viper/q0", 9, 1), ("viper/q1", 0, 0), ("viper/q2", -1, 0)
        ]  # fmt: skip
        assert merged.notes == ("viper: n", "market1501: n", "folder: n")
        assert merged.train[2].source is second.train[0].source
        assert [r.key for r in scored_training(merged)] == ["viper/t0", "viper/t1"]
        assert scored_training(first) == first.train

    def test_read_sets_merge(self, tmp_path):
        parts = [
            DATASETS["viper"].read(trees.viper(tmp_path / "v"), trial=0, streams=SEED),
            DATASETS["msmt17"].read(trees.msmt17(tmp_path / "m", 1), trial=0, streams=SEED),
        ]
        merged = merge(parts)
        own = {r.pid for part in parts[:1] for r in (*part.train, *part.query, *part.gallery)}
        added = {r.pid for r in merged.train if r.key.startswith("msmt17/")}
        assert len(added) == 2
        assert not own & added

    def test_one_part_only_gets_its_prefix(self):
        one = split("viper trial 0", [(1, 0)], [(2, 1)])
        assert [r.pid for r in merge([one]).train] == [1]

    def test_two_trials_of_one_set(self):
        parts = [split(f"viper trial {t}", [(1, 0)], [(2, 1)]) for t in range(2)]
        with pytest.raises(ConfigError, match=r"splits of different data sets, got .*viper.*viper"):
            merge(parts)

    def test_nothing(self):
        with pytest.raises(ConfigError, match="expected splits of different data sets"):
            merge([])


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("viper trial 0", "mlr-viper/default/lr=cam1/trial3/validation=9", True),
        ("mlr-cuhk03-p1/default", "cuhk03-classic-labeled trial 1", True),
        ("mlr-viper/default/trial0", "mlr-cuhk01/default/trial0", False),
        ("mlr-synthetic-seed7/a/trial0", "mlr-synthetic-seed7/a/trial1", True),
        ("mlr-synthetic-seed7/a/trial0", "mlr-synthetic/a/trial0", False),
    ],
)
def test_who_is_shown_follows_from_the_name(first, second, same):
    assert shows_same_people(first, second) is same is shows_same_people(second, first)


def test_the_name_of_a_split_holds_that_of_its_data_set():
    for name in ("viper trial 0", "caviar trial 1", "cuhk03-p1", "mlr-market1501/default/lr=cam2"):
        assert data_name(name) == name.split()[0].split("/")[0]
    assert data_name("synthetic-seed12 trial 0") == "synthetic"
    assert data_name("mlr-synthetic-seed7/a/trial0 + mlr-viper/a/trial0") == "mlr-synthetic"
