"""Readers on generated trees: every layout, every root spelling, every note, every refusal."""

from pathlib import Path

import numpy as np
import pytest
from data import trees

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Resolution
from resolute.data import caviar, cuhk01, dukemtmc, folders, market1501, msmt17, viper
from resolute.data.catalogue import DATASETS
from resolute.data.files import NoLayoutError

SEED = Streams(0)
DRAWN = {"viper": viper, "caviar": caviar, "cuhk01": cuhk01}


def keys(records):
    return [r.key for r in records]


def pids(records):
    return sorted({r.pid for r in records})


def build_drawn(name, base):
    if name == "caviar":
        return trees.caviar(base)
    return {"viper": trees.viper, "cuhk01": trees.cuhk01}[name](base, people=24)


class TestDrawnHalves:
    @pytest.fixture(params=sorted(DRAWN))
    def built(self, request, tmp_path):
        return DRAWN[request.param], build_drawn(request.param, tmp_path / "set")

    def test_roles_are_disjoint_by_people_and_split_by_view(self, built):
        module, base = built
        for trial in range(module.NUM_TRIALS):
            split = module.read(base, trial=trial, streams=SEED)
            assert not set(pids(split.train)) & set(pids(split.query))
            assert pids(split.query) == pids(split.gallery)
            assert {r.camid for r in split.query} == {1}
            assert {r.camid for r in split.gallery} == {0}
            assert {r.camid for r in split.train} == {0, 1}
            for role in (split.train, split.query, split.gallery):
                assert keys(role) == sorted(set(keys(role)))
                assert min(r.pid for r in role) >= 1

    def test_ten_distinct_trials_that_a_seed_fixes(self, built):
        module, base = built
        digests = [module.read(base, trial=t, streams=Streams(5)).digest() for t in range(10)]
        assert len(set(digests)) == 10
        assert digests == [
            module.read(base, trial=t, streams=Streams(5)).digest() for t in range(10)
        ]
        assert digests[0] != module.read(base, trial=0, streams=Streams(6)).digest()

    @pytest.mark.parametrize("trial", [-1, 10])
    def test_no_such_trial(self, built, trial):
        module, base = built
        with pytest.raises(ConfigError, match=f"no trial {trial}; expected 0 to 9"):
            module.read(base, trial=trial, streams=SEED)

    def test_pixels_come_from_the_file_of_the_key(self, built):
        module, base = built
        record = module.read(base, trial=0, streams=SEED).query[0]
        trees.draw(base / record.key, seed=77)
        assert record.source.pixels().shape == (8, 4, 3)
        if not record.key.endswith("jpg"):
            assert np.array_equal(record.source.pixels(), trees.noise(77))


class TestViper:
    @pytest.mark.parametrize("spelling", ["viper/VIPeR", "VIPeR", "viper", "."])
    def test_roots(self, tmp_path, spelling):
        trees.viper(tmp_path / spelling)
        split = viper.read(tmp_path, trial=0, streams=SEED)
        assert len(split.train) == 8
        assert split.name == "viper trial 0"

    def test_home_folder(self, tmp_path, monkeypatch):
        trees.viper(tmp_path / "VIPeR")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert viper.read(Path("~"), trial=0, streams=SEED).train

    def test_pairs_by_number_and_keeps_the_number_in_the_key(self, tmp_path):
        trees.viper(tmp_path)
        trees.draw(tmp_path / "cam_a" / "990_0.bmp")  # would shift a pairing by sort order
        trees.draw(tmp_path / "cam_b" / "500_0.bmp")
        split = viper.read(tmp_path, trial=0, streams=SEED)
        for r in (*split.train, *split.query, *split.gallery):
            folder, number = r.key.split("/")[0], int(r.key.split("/")[1][:3])
            assert (r.camid, r.pid) == ((folder == "cam_b"), number + 1)
        assert "left out 2 identities seen by one view only (2 images)" in split.notes
        assert "train: found 4 of 316 identities and 8 of 632 images" in split.notes

    def test_order_of_files_on_disk_does_not_matter(self, tmp_path, monkeypatch):
        trees.viper(tmp_path)
        before = viper.read(tmp_path, trial=3, streams=SEED)
        listing = Path.iterdir
        monkeypatch.setattr(Path, "iterdir", lambda p: iter(sorted(listing(p), reverse=True)))
        assert viper.read(tmp_path, trial=3, streams=SEED) == before

    def test_published_halves_stay_as_they_are(self, tmp_path):
        """The draw is part of every result: another numpy must not move it."""
        trees.viper(tmp_path, people=20)
        test = [pids(viper.read(tmp_path, trial=t, streams=SEED).query)[:5] for t in (0, 9)]
        assert test == [[4, 10, 13, 22, 28], [4, 7, 16, 22, 25]]

    def test_a_view_is_missing(self, tmp_path):
        trees.draw(tmp_path / "cam_a" / "001_45.bmp")
        with pytest.raises(DatasetError, match="cam_b: no such folder; unpack"):
            viper.read(tmp_path, trial=0, streams=SEED)

    def test_no_pair(self, tmp_path):
        trees.draw(tmp_path / "cam_a" / "001_45.bmp")
        trees.draw(tmp_path / "cam_b" / "002_45.bmp")
        with pytest.raises(DatasetError, match="no identity is seen by both views"):
            viper.read(tmp_path, trial=0, streams=SEED)


class TestCaviar:
    @pytest.mark.parametrize("pattern", ["{:04d}{:03d}.jpg", "{:04d}_{:03d}.jpg"])
    def test_published_counts_and_real_resolution(self, tmp_path, pattern):
        trees.caviar(tmp_path / "CAVIAR4REID", pattern)
        split = caviar.read(tmp_path, trial=0, streams=SEED)
        assert (len(split.train), len(split.query), len(split.gallery)) == (500, 250, 250)
        assert len(pids(split.train)) == len(pids(split.query)) == 25
        assert split.notes == ("left out 22 identities seen by one view only (220 images)",)
        for r in (*split.train, *split.query, *split.gallery):
            number = int(r.key[-7:-4])
            assert r.camid == (number > 10)
            assert r.resolution is (Resolution.LR if number > 10 else Resolution.HR)
            assert r.pid == int(r.key[:4]) <= 50

    @pytest.mark.parametrize(
        "spelling", ["CAVIAR4REID/archive", "CAVIAR4REID", "CAVIARa", "caviar", "."]
    )
    def test_roots(self, tmp_path, spelling):
        trees.caviar(tmp_path / spelling)
        assert len(caviar.read(tmp_path, trial=0, streams=SEED).query) == 250

    def test_image_number_out_of_range(self, tmp_path):
        trees.draw(tmp_path / "0001021.jpg")
        with pytest.raises(DatasetError, match=r"0001021\.jpg: image number 21; .* has 1 to 20"):
            caviar.read(tmp_path, trial=0, streams=SEED)

    def test_cuhk01_is_not_taken_for_it(self, tmp_path):
        trees.cuhk01(tmp_path)
        with pytest.raises(NoLayoutError):
            caviar.read(tmp_path, trial=0, streams=SEED)


class TestCuhk01:
    @pytest.mark.parametrize(
        "spelling", ["cuhk01/campus", "CUHK01/campus", "campus", "cuhk01", "."]
    )
    def test_roots_and_views(self, tmp_path, spelling):
        trees.cuhk01(tmp_path / spelling)
        split = cuhk01.read(tmp_path, trial=0, streams=SEED)
        assert len(pids(split.train)) == 4
        assert len(pids(split.query)) == 5
        assert {r.key[-5] for r in split.query} == {"3", "4"}
        assert {r.key[-5] for r in split.gallery} == {"1", "2"}


class TestMarket:
    def test_junk_distractors_cameras_and_order(self, tmp_path):
        trees.market_style(tmp_path, trees.MARKET)
        split = market1501.read(tmp_path, trial=0, streams=SEED)
        assert [(r.key, r.pid, r.camid) for r in split.gallery] == [
            ("bounding_box_test/0000_c2s1_000151_01.jpg", 0, 1),
            ("bounding_box_test/0001_c2s1_001051_01.jpg", 1, 1),
            ("bounding_box_test/0003_c4s2_000002_01.jpg", 3, 3),
        ]
        assert [(r.pid, r.camid) for r in split.train] == [(2, 0), (2, 1), (7, 5)]
        assert split.notes == (
            "gallery: dropped 2 junk images (identity -1)",
            "gallery: kept 1 distractor images (identity 0)",
            "train: found 2 of 751 identities and 3 of 12936 images",
            "query: found 2 of 750 identities and 2 of 3368 images",
            "gallery: found 3 of 751 identities and 3 of 15913 images",
        )

    @pytest.mark.parametrize(
        "spelling",
        ["market1501/Market-1501-v15.09.15", "Market-1501-v15.09.15", "market1501", "Market", "."],
    )
    def test_roots(self, tmp_path, spelling):
        trees.market_style(tmp_path / spelling, trees.MARKET)
        assert len(market1501.read(tmp_path, trial=0, streams=SEED).query) == 2

    def test_a_parent_folder_that_looks_like_a_name(self, tmp_path):
        trees.market_style(tmp_path / "9999_c6s6_run", trees.MARKET)
        split = market1501.read(tmp_path / "9999_c6s6_run", trial=0, streams=SEED)
        assert [r.pid for r in split.query] == [1, 3]

    def test_camera_out_of_range(self, tmp_path):
        trees.market_style(tmp_path, trees.MARKET)
        trees.draw(tmp_path / "query" / "0001_c7s1_000001_00.jpg")
        with pytest.raises(DatasetError, match=r"0001_c7s1_.* expected cameras 1 to 6"):
            market1501.read(tmp_path, trial=0, streams=SEED)

    def test_fixed_split_has_one_trial(self, tmp_path):
        trees.market_style(tmp_path, trees.MARKET)
        with pytest.raises(ConfigError, match="no trial 1; its one split is trial 0"):
            market1501.read(tmp_path, trial=1, streams=SEED)

    def test_junk_alone(self, tmp_path):
        trees.market_style(tmp_path, {**trees.MARKET, "gallery": ["-1_c1s1_000401_03.jpg"]})
        with pytest.raises(DatasetError, match="gallery holds no image but junk"):
            market1501.read(tmp_path, trial=0, streams=SEED)

    def test_part_of_it_is_missing(self, tmp_path):
        trees.draw_all(tmp_path / "query", trees.MARKET["query"])
        with pytest.raises(DatasetError, match="bounding_box_train: no such folder; unpack"):
            market1501.read(tmp_path, trial=0, streams=SEED)


class TestDuke:
    @pytest.mark.parametrize(
        "spelling", ["dukemtmc-reid/DukeMTMC-reID", "DukeMTMC-reID", "dukemtmcreid", "."]
    )
    def test_roots_and_names(self, tmp_path, spelling):
        trees.market_style(tmp_path / spelling, trees.DUKE)
        split = dukemtmc.read(tmp_path, trial=0, streams=SEED)
        assert [(r.pid, r.camid) for r in split.gallery] == [(5, 4), (11, 0)]
        assert [r.camid for r in split.train] == [1, 7]

    def test_market_and_duke_do_not_read_each_other(self, tmp_path):
        trees.market_style(tmp_path / "m", trees.MARKET)
        trees.market_style(tmp_path / "d", trees.DUKE)
        with pytest.raises(
            NoLayoutError, match=r"no DukeMTMC-reID .* found; tried .*DukeMTMC-reID"
        ):
            dukemtmc.read(tmp_path / "m", trial=0, streams=SEED)
        with pytest.raises(
            NoLayoutError, match=r"tried .*Market-1501-v15\.09\.15.*the folder itself"
        ):
            market1501.read(tmp_path / "d", trial=0, streams=SEED)


class TestMsmt17:
    @pytest.mark.parametrize("version", [1, 2])
    def test_lists(self, tmp_path, version):
        trees.msmt17(tmp_path / f"msmt17/MSMT17_V{version}", version)
        split = msmt17.read(tmp_path, trial=0, streams=SEED)
        assert split.notes[:2] == (f"version {version}", "left out 1 images of val")
        assert [(r.pid, r.camid) for r in split.gallery] == [(1, 3), (3, 4)]
        assert [(r.pid, r.camid) for r in split.query] == [(1, 2)]
        # Listed as 0 and 1 too, but other people: behind those of the test lists.
        assert [(r.pid, r.camid) for r in split.train] == [(4, 0), (5, 14)]
        folder = {1: "train", 2: "mask_train_v2"}[version]
        assert split.train[0].key == f"{folder}/0000/0000_000_01_0303morning_0015_0.jpg"
        assert split.train[0].source.pixels().shape == (8, 4, 3)

    def test_val_joins_when_asked(self, tmp_path):
        trees.msmt17(tmp_path, 1)
        split = msmt17.read(tmp_path, trial=0, streams=SEED, has_val=True)
        assert split.name == "msmt17-trainval"
        assert len(split.train) == 3
        assert not any("val" in note for note in split.notes)
        assert keys(split.train) == sorted(keys(split.train))

    @pytest.mark.parametrize("spelling", ["MSMT17_V1", "MSMT17_V2", "msmt17", "MSMT17", "."])
    def test_roots(self, tmp_path, spelling):
        trees.msmt17(tmp_path / spelling, 2)
        assert msmt17.read(tmp_path, trial=0, streams=SEED).query

    @pytest.mark.parametrize(
        "line",
        ["../../etc/0000_000_01_x.jpg 0", "/0000/0000_000_01_x.jpg 0", "0000/0000_000_01_x.jpg",
         "0000/0000_000_01_d/../../../x.jpg 0",
         "0000/0000_000_16_x.jpg 0", "0000/0000_000_01_x.jpg -1", "nonsense"],
    )  # fmt: skip
    def test_a_line_that_does_not_parse_or_climbs_out(self, tmp_path, line):
        trees.msmt17(tmp_path, 1)
        with (tmp_path / "list_query.txt").open("a") as file:
            file.write(f"\n{line}\n")
        with pytest.raises(DatasetError, match=r"list_query\.txt, line 3: expected a path and an"):
            msmt17.read(tmp_path, trial=0, streams=SEED)

    def test_images_missing_or_empty(self, tmp_path):
        trees.msmt17(tmp_path, 1)
        first, second = (tmp_path / "test" / path for path, _ in trees.MSMT["gallery"])
        first.unlink()
        second.write_bytes(b"")
        with pytest.raises(DatasetError, match=r"2 files: 0000/0000_001.*missing or empty; unpack"):
            msmt17.read(tmp_path, trial=0, streams=SEED)

    def test_lists_missing_empty_or_binary(self, tmp_path):
        trees.msmt17(tmp_path, 1)
        path = tmp_path / "list_gallery.txt"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(DatasetError, match=r"list_gallery\.txt: cannot be read as text"):
            msmt17.read(tmp_path, trial=0, streams=SEED)
        path.write_text("\n\n")
        with pytest.raises(DatasetError, match=r"list_gallery\.txt: no line with an image"):
            msmt17.read(tmp_path, trial=0, streams=SEED)
        path.unlink()
        with pytest.raises(DatasetError, match=r"list_gallery\.txt: not there; unpack"):
            msmt17.read(tmp_path, trial=0, streams=SEED)


class TestFolders:
    def test_market_style(self, tmp_path):
        base = trees.market_style(tmp_path / "mlr_viper", trees.NUMPY)
        split = folders.read(base, trial=0, streams=SEED)
        assert split.name == "folder mlr_viper"
        assert [(r.pid, r.camid) for r in split.gallery] == [(900, 1), (1400, 0)]
        assert split.notes == ()
        assert {r.resolution for r in split.train} == {Resolution.UNKNOWN}

    def test_one_folder_per_identity_and_cameras_from_zero(self, tmp_path):
        roles = {
            "train": ["00001_c0_00001.jpg", "00001_c1_00002.jpg"],
            "val": ["00003_c0_00001.jpg"],
            "query": ["00002_c0_00001.jpg"],
            "gallery": ["00002_c1_00001.jpg", "-1_c1_00001.jpg"],
        }
        split = folders.read(trees.by_identity(tmp_path, roles), trial=0, streams=SEED)
        assert [(r.key, r.pid, r.camid) for r in split.train] == [
            ("train/00001/00001_c0_00001.jpg", 1, 0),
            ("train/00001/00001_c1_00002.jpg", 1, 1),
        ]
        assert [(r.pid, r.camid) for r in split.gallery] == [(2, 1)]
        assert split.notes == (
            "the folder val is not used",
            "gallery: dropped 1 junk images (identity -1)",
        )

    def test_identity_zero_is_a_person_where_it_trains_or_asks(self, tmp_path):
        names = {
            "train": ["0001_c1.jpg"],
            "query": ["0000_c1.jpg"],
            "gallery": ["0000_c2.jpg", "0005_c2.jpg"],
        }
        split = folders.read(trees.market_style(tmp_path, names), trial=0, streams=SEED)
        assert [r.pid for r in (*split.train, *split.query, *split.gallery)] == [2, 1, 1, 6]
        assert split.notes == ("identity 0 is a person here: all identities are raised by one",)

    def test_rates_in_names_are_noted_and_not_believed(self, tmp_path):
        names = {**trees.NUMPY, "query": ["0900_c1_2_4x.png"]}
        split = folders.read(trees.market_style(tmp_path, names), trial=0, streams=SEED)
        assert split.query[0].rate == 1.0
        assert "1 file names end in a rate (_2x)" in split.notes[0]

    def test_the_same_number_in_train_and_test_is_noted(self, tmp_path):
        names = {**trees.NUMPY, "train": ["0900_c1_1.png"]}
        split = folders.read(trees.market_style(tmp_path, names), trial=0, streams=SEED)
        assert split.notes[0].startswith("1 identity numbers stand in train and in test")

    def test_folder_and_file_disagree(self, tmp_path):
        roles = {r: ["0002_c1_1.jpg"] for r in ("train", "query", "gallery")}
        trees.by_identity(tmp_path, roles)
        trees.draw(tmp_path / "query" / "0002" / "0003_c1_1.jpg")
        with pytest.raises(DatasetError, match=r"0003_c1_1\.jpg: the file says identity 3, its"):
            folders.read(tmp_path, trial=0, streams=SEED)

    def test_a_folder_that_is_no_identity(self, tmp_path):
        roles = {r: ["0002_c1_1.jpg"] for r in ("train", "query", "gallery")}
        trees.by_identity(tmp_path, roles)
        (tmp_path / "train" / "someone").mkdir()
        with pytest.raises(DatasetError, match="someone: expected folders named by identity"):
            folders.read(tmp_path, trial=0, streams=SEED)


BUILT = {
    "viper": (trees.viper, "cam_b"),
    "caviar": (trees.caviar, "."),
    "cuhk01": (trees.cuhk01, "."),
    "cuhk03-p1": (lambda b: trees.cuhk03_folder(b, {1: 800}), "images_labeled"),
    "market1501": (lambda b: trees.market_style(b, trees.MARKET), "query"),
    "dukemtmc-reid": (lambda b: trees.market_style(b, trees.DUKE), "bounding_box_test"),
    "folder": (lambda b: trees.market_style(b, trees.NUMPY), "bounding_box_train"),
}


@pytest.fixture(scope="module", params=sorted(BUILT))
def any_set(request, tmp_path_factory):
    build, images = BUILT[request.param]
    base = build(tmp_path_factory.mktemp(request.param))
    return DATASETS[request.param].read, base, base / images


class TestBadInput:
    """The same bad input to every reader: one error that names the file, never a skip or a loop."""

    def fail(self, any_set, match):
        read, base, _ = any_set
        with pytest.raises(DatasetError, match=match):
            read(base, trial=0, streams=SEED)

    def test_it_reads_as_built(self, any_set):
        read, base, _ = any_set
        assert read(base, trial=0, streams=SEED).query

    @pytest.mark.parametrize(
        "name", ["person.jpg", "0001.png", "a_c1.tif", "x.gif", "0001_cat.bmp"]
    )
    def test_name_that_does_not_parse(self, any_set, name):
        bad = any_set[2] / name
        bad.write_bytes(b"x")
        self.fail(any_set, rf"1 file: {name} not named like .*; rename or remove")
        bad.unlink()

    def test_name_outside_ascii_is_printed_safely(self, any_set):
        bad = any_set[2] / "0001_c1_\udcff\n.jpg"
        bad.write_bytes(b"x")
        self.fail(any_set, r"1 file: 0001_c1_\\udcff\\x0a|1 file: 0001_c1_\\udcff")
        bad.unlink()

    def test_folder_among_the_images(self, any_set):
        bad = any_set[2] / "more"
        bad.mkdir()
        self.fail(any_set, "1 file: more not named like")
        bad.rmdir()

    def test_link_to_its_own_parent(self, any_set):
        bad = any_set[2] / "loop"
        bad.symlink_to(any_set[2], target_is_directory=True)
        self.fail(any_set, "1 file: loop not named like")
        bad.unlink()

    def test_empty_file(self, any_set):
        good = next(p for p in sorted(any_set[2].iterdir()) if p.is_file())
        content = good.read_bytes()
        good.write_bytes(b"")
        self.fail(any_set, rf"1 file: {good.name} \(empty\) unusable; replace or remove")
        good.write_bytes(content)

    def test_broken_and_circular_links(self, any_set):
        good = next(p for p in sorted(any_set[2].iterdir()) if p.is_file())
        content = good.read_bytes()
        for target in (good, good.with_name("nowhere")):
            good.unlink()
            good.symlink_to(target)
            self.fail(any_set, rf"{good.name} \(broken link\) unusable")
        good.unlink()
        good.mkdir()
        self.fail(any_set, rf"{good.name} \(not a file\) unusable")
        good.rmdir()
        good.write_bytes(content)

    def test_side_files_are_passed_over(self, any_set):
        read, base, images = any_set
        before = read(base, trial=0, streams=SEED)
        names = ["Thumbs.db", ".DS_Store", "._0001_c1.jpg", "readme.txt", "README", "splits.json"]
        for name in names:
            (images / name).write_bytes(b"")
        assert read(base, trial=0, streams=SEED) == before
        for name in names:
            (images / name).unlink()

    def test_linked_folder_is_followed(self, any_set, tmp_path):
        read, base, _ = any_set
        (tmp_path / "link").symlink_to(base, target_is_directory=True)
        linked = read(tmp_path / "link", trial=0, streams=SEED)
        assert keys(linked.query) == keys(read(base, trial=0, streams=SEED).query)

    @pytest.mark.parametrize("name", sorted(DATASETS))
    def test_missing_and_empty_roots(self, tmp_path, name):
        read = DATASETS[name].read
        if not DATASETS[name].has_files:
            return
        with pytest.raises(DatasetError, match="gone: no such folder; give the folder that holds"):
            read(tmp_path / "gone", trial=0, streams=SEED)
        with pytest.raises(NoLayoutError, match=r"found; tried .*the folder itself"):
            read(tmp_path, trial=0, streams=SEED)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DatasetError, match="file: no such folder"):
            read(tmp_path / "file", trial=0, streams=SEED)
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(DatasetError, match="loop: no such folder"):
            read(tmp_path / "loop", trial=0, streams=SEED)

    def test_image_folder_without_images(self, tmp_path):
        trees.viper(tmp_path)
        for path in (tmp_path / "cam_b").iterdir():
            path.unlink()
        with pytest.raises(
            DatasetError, match=r"cam_b: no images; expected names like 001_45\.bmp"
        ):
            viper.read(tmp_path, trial=0, streams=SEED)

    def test_truncated_image_is_found_when_decoded(self, tmp_path):
        base = trees.market_style(tmp_path, trees.MARKET)
        path = base / "query" / trees.MARKET["query"][0]
        path.write_bytes(path.read_bytes()[:-60])
        record = market1501.read(base, trial=0, streams=SEED).query[0]
        with pytest.raises(DatasetError, match=rf"{path.name}: the .*JPEG image is truncated"):
            record.source.pixels()
