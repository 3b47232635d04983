"""CUHK03 in all its forms: folders, raw file, both protocols' lists, np layout, parts of it."""

import builtins
import pickle

import numpy as np
import pytest
from data import trees

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Streams
from resolute.data import cuhk03
from resolute.data.cuhk03_images import PAIR_OFFSETS, PAIR_SIZES, number_pid, parse_stem
from resolute.data.cuhk03_mat import MatSource, list_images, read_config, read_test_sets
from resolute.data.files import NoLayoutError

SEED = Streams(0)
PEOPLE = {1: 4, 2: 3, 5: 2}
TEST_SETS = [[(1, 2), (5, 1)], [(2, 3), (1, 1)]]


def classic(root, trial=0, streams=SEED, boxes="labeled"):
    return cuhk03.read_classic(root, trial=trial, streams=streams, boxes=boxes)


def new(root, boxes="labeled"):
    return cuhk03.read_new(root, trial=0, streams=SEED, boxes=boxes)


def pids(records):
    return sorted({r.pid for r in records})


@pytest.fixture
def without(monkeypatch):
    """Make a package look as if it were not installed."""

    def hide(package):
        real = builtins.__import__

        def fake(name, *args, **kwargs):
            if name.split(".")[0] == package:
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", fake)

    return hide


class TestNames:
    def test_offsets_are_the_running_sum_of_the_pairs(self):
        assert tuple(np.cumsum((0, *PAIR_SIZES[:-1])).tolist()) == PAIR_OFFSETS
        assert sum(PAIR_SIZES) == 1467

    def test_people_of_two_pairs_never_share_a_number(self):
        numbers = [
            number_pid(pair, person, where="")
            for pair, size in enumerate(PAIR_SIZES, start=1)
            for person in range(1, size + 1)
        ]
        assert numbers == list(range(1, 1468))

    def test_parse(self):
        assert parse_stem("2_007_2_06", where="") == (850, 1)
        assert parse_stem("1_001_1_01", where="") == (1, 0)

    @pytest.mark.parametrize("stem", ["6_001_1_01", "1_001_3_01", "1_1_1_1", "../1_001_1_01"])
    def test_no_name_of_cuhk03(self, stem):
        with pytest.raises(DatasetError, match=r"list: '.*' is no image of CUHK03"):
            parse_stem(stem, where="list")

    @pytest.mark.parametrize("stem", ["1_000_1_01", "1_844_1_01", "5_050_1_01"])
    def test_a_person_the_pair_does_not_have(self, stem):
        with pytest.raises(DatasetError, match=r"list: person .* of camera pair .*843, 440"):
            parse_stem(stem, where="list")


class TestClassic:
    @pytest.mark.parametrize("spelling", ["cuhk03", "CUHK03", "."])
    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_drawn_where_there_is_no_list(self, tmp_path, spelling, suffix):
        trees.cuhk03_folder(tmp_path / spelling, {1: 120}, suffix=suffix)
        split = classic(tmp_path)
        assert (len(split.train), len(split.query), len(split.gallery)) == (40, 100, 100)
        assert not set(pids(split.train)) & set(pids(split.query))
        assert pids(split.query) == pids(split.gallery)
        assert {r.camid for r in split.query} == {1}
        assert {r.camid for r in split.gallery} == {0}
        assert split.query[0].key.startswith("images_labeled/1_")
        assert "drawn with seed 0" in split.notes[0]
        assert split.notes[1:] == (
            "camera pair 1: 120 of 843 identities are there",
            "camera pair 2: 0 of 440 identities are there",
            "camera pair 3: 0 of 77 identities are there",
            "camera pair 4: 0 of 58 identities are there",
            "camera pair 5: 0 of 49 identities are there",
            "train: found 20 of 1367 identities",
        )

    def test_twenty_distinct_draws(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 120})
        assert len({classic(tmp_path, t).digest() for t in range(20)}) == 20
        assert classic(tmp_path, 3) == classic(tmp_path, 3)
        with pytest.raises(ConfigError, match="no trial 20; expected 0 to 19"):
            classic(tmp_path, 20)

    def test_too_few_people_to_draw(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 100})
        with pytest.raises(DatasetError, match="only 100 identities found; a split tests on 100"):
            classic(tmp_path)

    def test_torchreids_list_by_base_name(self, tmp_path):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        stems = trees.cuhk03_stems(PEOPLE)
        tests = [["1_002_1_01", "1_002_2_06"], ["5_001_1_01", "2_003_2_06"]]
        lists = trees.cuhk03_json(
            tmp_path / "splits_classic_labeled.json",
            [([s for s in stems if s not in test], test) for test in tests],
        )
        assert pids(classic(tmp_path, 0).query) == [2]
        split = classic(tmp_path, 1)
        assert pids(split.query) == [843 + 3, 1418 + 1]
        assert len(split.train) == len(stems) - 4
        assert split.notes[0] == "test identities: splits_classic_labeled.json"
        with pytest.raises(DatasetError, match=rf"{lists.name}: holds 2 splits, no trial 2"):
            classic(tmp_path, 2)

    @pytest.mark.parametrize(
        "text", ["", "{", "[1]", '[{"train": []}]', '[{"query": 3}]', "[" * 9999]
    )
    def test_a_list_that_is_none(self, tmp_path, text):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        (tmp_path / "splits_classic_labeled.json").write_text(text)
        with pytest.raises(DatasetError, match=r"splits_classic_labeled\.json: (not a list|empty)"):
            classic(tmp_path)

    def test_a_list_of_other_images(self, tmp_path):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        trees.cuhk03_json(tmp_path / "splits_classic_labeled.json", [(["a"], ["b"])])
        with pytest.raises(DatasetError, match="'b' is no image of CUHK03"):
            classic(tmp_path)

    def test_a_part_without_any_test_person(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 2})
        trees.cuhk03_json(
            tmp_path / "splits_classic_labeled.json", [(["1_001_1_01"], ["2_001_1_01"])]
        )
        with pytest.raises(DatasetError, match="has no image for query and gallery; the part"):
            classic(tmp_path)

    def test_an_image_in_two_formats(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 120})
        trees.draw(tmp_path / "images_labeled" / "1_001_1_01.jpg")
        with pytest.raises(DatasetError, match="1 images are there twice, with two suffixes"):
            classic(tmp_path)

    def test_boxes_do_not_mix(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 120}, boxes="detected")
        assert classic(tmp_path, boxes="detected").name == "cuhk03-classic-detected trial 0"
        with pytest.raises(NoLayoutError, match="folder images_labeled or file"):
            classic(tmp_path)


class TestRawFile:
    @pytest.fixture
    def raw(self, tmp_path):
        path = tmp_path / "cuhk03" / "cuhk03_release" / "cuhk-03.mat"
        return path, trees.cuhk03_mat(path, PEOPLE, TEST_SETS)

    def test_published_test_sets_and_lazy_pixels(self, tmp_path, raw):
        _, pictures = raw
        split = classic(tmp_path)
        assert split.notes[0] == "test identities: cuhk-03.mat"
        assert pids(split.query) == [2, 1419]
        assert pids(classic(tmp_path, 1).query) == [1, 846]
        records = (*split.train, *split.query, *split.gallery)
        assert sorted(r.key for r in records) == sorted(f"images_labeled/{s}.png" for s in pictures)
        for r in records:
            stem = r.key.rpartition("/")[2][:-4]
            assert (r.pid, r.camid) == parse_stem(stem, where="")
            assert np.array_equal(pickle.loads(pickle.dumps(r.source)).pixels(), pictures[stem])
        assert len({r.source.token() for r in records}) == len(records)

    def test_same_split_as_the_folder_made_of_it(self, tmp_path, raw):
        trees.cuhk03_folder(tmp_path / "made", PEOPLE)
        trees.cuhk03_mat(tmp_path / "made" / "cuhk-03.mat", PEOPLE, TEST_SETS)
        from_folder, from_file = classic(tmp_path / "made"), classic(tmp_path)
        assert from_folder.digest() == from_file.digest()
        assert from_folder.query[0].source != from_file.query[0].source

    def test_more_trials_than_it_holds(self, tmp_path, raw):
        with pytest.raises(DatasetError, match=r"cuhk-03\.mat: holds 2 test sets, no trial 2"):
            classic(tmp_path, 2)

    def test_token_changes_with_the_file(self, raw):
        path, _ = raw
        source = list_images(path, "detected")[0]
        before = source.token()
        with path.open("ab") as file:
            file.write(b"\0")
        assert source.token() != before
        path.unlink()
        with pytest.raises(DatasetError, match=r"cuhk-03\.mat: cannot be read"):
            source.token()

    def test_a_cell_that_is_no_image(self, raw):
        path, _ = raw
        with pytest.raises(DatasetError, match=r"labeled/0/0/1: expected a colour image of bytes"):
            MatSource(path, "labeled", 0, 0, 1).pixels()
        with pytest.raises(DatasetError, match="or damaged"):
            MatSource(path, "labeled", 0, 99, 1).pixels()

    def test_truncated_or_something_else(self, tmp_path, raw):
        path, _ = raw
        content = path.read_bytes()
        for data in (content[: len(content) // 2], b"no HDF5 at all"):
            path.write_bytes(data)
            with pytest.raises(
                DatasetError, match=r"cuhk-03\.mat: not the HDF5 file of CUHK03, or"
            ):
                classic(tmp_path)

    def test_without_images(self, tmp_path):
        trees.cuhk03_mat(tmp_path / "cuhk-03.mat", {}, TEST_SETS)
        with pytest.raises(DatasetError, match="no labeled image in it"):
            classic(tmp_path)

    def test_test_sets_of_another_shape(self, tmp_path):
        trees.cuhk03_mat(tmp_path / "cuhk-03.mat", PEOPLE, [[(1, 2, 3)]])
        with pytest.raises(DatasetError, match="testsets are not lists of pairs"):
            read_test_sets(tmp_path / "cuhk-03.mat")

    def test_without_h5py(self, tmp_path, raw, without):
        without("h5py")
        with pytest.raises(DatasetError, match=r'needs h5py; .*pip install "resolute-reid\[mat\]"'):
            classic(tmp_path)


STEMS = trees.cuhk03_stems(PEOPLE)
INDEX = {"train": [1, 2, 3, 4], "query": [5], "gallery": [6, len(STEMS)]}


class TestNew:
    def check(self, split):
        assert [r.key.rpartition("/")[2][:-4] for r in split.train] == STEMS[:4]
        assert [(r.pid, r.camid) for r in split.query] == [(3, 0)]
        assert [(r.pid, r.camid) for r in split.gallery] == [(3, 1), (1420, 1)]

    @pytest.mark.parametrize("place", [".", "cuhk03_release"])
    def test_config_beside_folder_or_raw_file(self, tmp_path, place):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        name = "cuhk03_new_protocol_config_labeled.mat"
        trees.cuhk03_config(tmp_path / place / name, STEMS, INDEX)
        self.check(new(tmp_path))

    def test_config_and_raw_file_alone(self, tmp_path):
        base = tmp_path / "cuhk03"
        trees.cuhk03_mat(base / "cuhk03_release" / "cuhk-03.mat", PEOPLE, TEST_SETS)
        for boxes in ("labeled", "detected"):
            trees.cuhk03_config(base / f"cuhk03_new_protocol_config_{boxes}.mat", STEMS, INDEX)
            self.check(new(tmp_path, boxes))

    def test_torchreids_list(self, tmp_path):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        trees.cuhk03_json(tmp_path / "splits_new_labeled.json", [(STEMS[:4], STEMS[4:6])])
        split = new(tmp_path)
        assert pids(split.train) == [1, 2]
        assert len(split.query) == len(split.gallery) == 2

    def test_images_listed_and_not_there_are_counted(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 4, 2: 3})
        trees.cuhk03_config(tmp_path / "cuhk03_new_protocol_config_labeled.mat", STEMS, INDEX)
        split = new(tmp_path)
        assert [r.pid for r in split.gallery] == [3]
        assert "gallery: 1 file: 5_002_2_06 of 2 listed are missing" in split.notes
        assert "camera pair 5: 0 of 49 identities are there" in split.notes

    @pytest.mark.parametrize("place", [0, 99])
    def test_an_index_outside_the_list(self, tmp_path, place):
        path = tmp_path / "config.mat"
        trees.cuhk03_config(path, STEMS, {**INDEX, "query": [place]})
        with pytest.raises(DatasetError, match=r"config\.mat: not a list of the new protocol"):
            read_config(path)

    def test_a_config_that_is_none(self, tmp_path):
        path = tmp_path / "config.mat"
        for data in (b"", b"text", b"MATLAB 5.0 MAT-file" + bytes(200)):
            path.write_bytes(data)
            with pytest.raises(DatasetError, match=r"config\.mat: not readable as MATLAB 5"):
                read_config(path)

    def test_a_config_with_a_flipped_bit(self, tmp_path):
        path = tmp_path / "config.mat"
        trees.cuhk03_config(path, STEMS * 100, INDEX, do_compression=True)
        whole = path.read_bytes()
        for position in range(200, len(whole), len(whole) // 20):
            data = bytearray(whole)
            data[position] ^= 0x10
            path.write_bytes(data)
            with pytest.raises(DatasetError, match=r"config\.mat: not "):
                read_config(path)

    def test_without_scipy(self, tmp_path, without):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        trees.cuhk03_config(tmp_path / "cuhk03_new_protocol_config_labeled.mat", STEMS, INDEX)
        without("scipy")
        with pytest.raises(
            DatasetError, match=r'needs scipy; .*pip install "resolute-reid\[mat\]"'
        ):
            new(tmp_path)

    def test_images_without_a_list(self, tmp_path):
        trees.cuhk03_folder(tmp_path, PEOPLE)
        with pytest.raises(
            NoLayoutError, match=r"put cuhk03_new_protocol_config_labeled.mat beside"
        ):
            new(tmp_path)

    @pytest.mark.parametrize("spelling", ["cuhk03-np", "cuhk03/cuhk03-np", "."])
    def test_np_layout(self, tmp_path, spelling):
        trees.market_style(tmp_path / spelling / "labeled", trees.NUMPY)
        split = new(tmp_path)
        assert [(r.key, r.pid, r.camid) for r in split.gallery] == [
            ("bounding_box_test/0900_c2_7.png", 900, 1),
            ("bounding_box_test/1400_c1_3.png", 1400, 0),
        ]
        with pytest.raises(NoLayoutError):
            new(tmp_path, "detected")


class TestPairOne:
    def test_other_pairs_are_left_out(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 750, 2: 2})
        split = cuhk03.read_pair_one(tmp_path, trial=0, streams=SEED)
        assert pids(split.train) == list(range(1, 744))
        assert pids(split.query) == pids(split.gallery) == list(range(744, 751))
        assert {r.camid for r in split.query} == {1}
        assert "query: found 7 of 100 identities and 7 of 487 images" in split.notes

    def test_no_test_person(self, tmp_path):
        trees.cuhk03_folder(tmp_path, {1: 743})
        with pytest.raises(DatasetError, match="has no image for query and gallery"):
            cuhk03.read_pair_one(tmp_path, trial=0, streams=SEED)
