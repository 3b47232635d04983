import pytest
from data import trees

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Streams
from resolute.data import catalogue
from resolute.data import check as check_module
from resolute.data.check import check
from resolute.data.counts import RoleCount
from resolute.data.files import NoLayoutError


def by_name(report):
    return {s.name: s for s in report.sets}


def test_a_complete_set(tmp_path):
    trees.caviar(tmp_path / "CAVIAR4REID")
    report = check(tmp_path)
    assert [s.name for s in report.sets] == ["caviar"]
    found = report.sets[0]
    assert found.is_complete
    assert report.is_usable
    assert [(r.role, r.found, r.is_complete) for r in found.roles] == [
        ("train", RoleCount(25, 500), True),
        ("query", RoleCount(25, 250), True),
        ("gallery", RoleCount(25, 250), True),
    ]
    assert found.num_images == 1000
    assert 64 <= found.num_decoded < 140
    assert "viper" in report.absent


def test_several_sets_and_what_is_missing(tmp_path):
    trees.viper(tmp_path / "viper" / "VIPeR")
    trees.market_style(tmp_path / "market1501", trees.MARKET)
    trees.cuhk03_folder(tmp_path / "cuhk03", {1: 750})
    found = by_name(check(tmp_path))
    assert set(found) == {"viper", "market1501", "cuhk03-classic-labeled", "cuhk03-p1"}
    assert not any(s.is_complete for s in found.values())
    assert all(s.is_usable for s in found.values())
    assert "gallery: kept 1 distractor images (identity 0)" in found["market1501"].notes
    assert "camera pair 2: 0 of 440 identities are there" in found["cuhk03-classic-labeled"].notes
    role = found["viper"].roles[0]
    assert (role.found, role.published) == (RoleCount(4, 8), RoleCount(316, 632))


def test_a_folder_of_the_users_own(tmp_path):
    report = check(trees.market_style(tmp_path, trees.NUMPY))
    assert [s.name for s in report.sets] == ["folder"]
    assert report.sets[0].roles[0].published is None
    assert report.sets[0].is_complete


def test_the_folder_of_a_named_set_is_not_counted_twice(tmp_path):
    assert set(by_name(check(trees.market_style(tmp_path, trees.DUKE)))) == {"dukemtmc-reid"}


def test_one_set_by_name(tmp_path):
    trees.viper(tmp_path)
    assert [s.name for s in check(tmp_path, "viper").sets] == ["viper"]
    with pytest.raises(NoLayoutError, match=r"no MSMT17 .* found; tried"):
        check(tmp_path, "msmt17")
    with pytest.raises(ConfigError, match="unknown data set 'vipr'"):
        check(tmp_path, "vipr")


def test_broken_images_are_all_named(tmp_path):
    trees.viper(tmp_path, people=200)
    images = sorted((tmp_path / "cam_a").iterdir())
    for path in (images[1], images[101]):
        path.write_bytes(path.read_bytes()[:60])
    report = check(tmp_path, full=True)
    assert not report.is_usable
    assert report.sets[0].num_decoded == report.sets[0].num_images == 400
    assert sorted(m.split(":")[0] for m in report.sets[0].broken) == [
        str(images[1]), str(images[101])
    ]  # fmt: skip
    assert all("truncated or damaged" in m for m in report.sets[0].broken)


def test_every_image_of_a_small_set_is_in_the_sample(tmp_path):
    trees.viper(tmp_path)
    report = check(tmp_path)
    assert report.sets[0].num_decoded == report.sets[0].num_images == 16


def test_a_set_that_cannot_be_read_is_reported_beside_the_others(tmp_path):
    trees.viper(tmp_path / "viper")
    trees.market_style(tmp_path / "market1501", trees.MARKET)
    (tmp_path / "viper" / "cam_a" / "me.jpg").write_bytes(b"x")
    found = by_name(check(tmp_path))
    assert "1 file: me.jpg not named like" in found["viper"].error
    assert not found["viper"].is_usable
    assert not found["viper"].is_complete
    assert found["market1501"].is_usable


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetError, match=r"no data set found; looked for viper, .*folder"):
        check(tmp_path)
    with pytest.raises(DatasetError, match="gone: no such folder"):
        check(tmp_path / "gone")


def test_a_drawn_set_has_no_files(tmp_path, monkeypatch):
    info = catalogue.DatasetInfo(
        title="drawn",
        read=catalogue.DATASETS["viper"].read,
        num_trials=1,
        counts=None,
        lr_camid=1,
        terms="ours",
        is_verified=True,
        has_files=False,
    )
    table = {**catalogue.DATASETS, "drawn": info}
    monkeypatch.setattr(catalogue, "DATASETS", table)
    monkeypatch.setattr(check_module, "DATASETS", table)
    with pytest.raises(ConfigError, match="drawn: this data set is drawn and has no files"):
        check(tmp_path, "drawn")
    trees.viper(tmp_path)
    assert "drawn" not in {*by_name(check(tmp_path)), *check(tmp_path).absent}


def test_counts_do_not_depend_on_the_seed(tmp_path):
    trees.viper(tmp_path)
    assert check(tmp_path, seed=1).sets[0].roles == check(tmp_path, seed=2).sets[0].roles


@pytest.mark.data
def test_real_folder(shared):
    found = by_name(check(shared / "data"))
    assert set(found) == {"viper", "cuhk03-classic-labeled", "cuhk03-p1"}
    assert found["viper"].is_complete
    assert found["cuhk03-p1"].is_complete
    assert not found["cuhk03-classic-labeled"].is_complete


@pytest.mark.data
@pytest.mark.slow
def test_every_real_image_decodes(shared):
    found = by_name(check(shared / "data", full=True))
    assert found["viper"].num_decoded == 1264
    assert found["cuhk03-p1"].num_decoded == 8177
    assert all(s.is_usable for s in found.values())


@pytest.mark.data
class TestRealData:
    def test_viper_has_ten_distinct_published_halves(self, shared):
        read = catalogue.DATASETS["viper"].read
        splits = [read(shared / "data", trial=t, streams=Streams(0)) for t in range(10)]
        for split in splits:
            assert split.notes == ()
            assert (len(split.train), len(split.query), len(split.gallery)) == (632, 316, 316)
            test = {r.pid for r in split.query}
            assert test == {r.pid for r in split.gallery}
            assert len(test) == len({r.pid for r in split.train} - test) == 316
            assert {r.key.split("/")[0] for r in split.query} == {"cam_b"}
        # docs/datasets.md states them; results quote them.
        assert [s.digest()[:8] for s in splits] == [
            "9877af7e", "345599a1", "5ec5fad5", "21ef8dae", "50520835",
            "a3287e2c", "7864396b", "75502f6f", "f44561e1", "4fbf2f3a",
        ]  # fmt: skip
        assert splits[0].query[0].source.pixels().shape == (128, 48, 3)

    def test_cuhk03_pair_one(self, shared):
        read = catalogue.DATASETS["cuhk03-p1"].read
        split = read(shared / "data", trial=0, streams=Streams(0))
        assert split.notes == ()
        assert split.digest().startswith("56a700fa")
        assert len(split.train) + len(split.query) + len(split.gallery) == 8177
        assert len({r.pid for r in split.train}) == 743
        assert (
            {r.pid for r in split.query} == {r.pid for r in split.gallery} == set(range(744, 844))
        )
