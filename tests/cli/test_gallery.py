"""``index``, ``search`` and ``gallery`` as a user meets them."""

import json
import os
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from cli.test_cli import run
from inference.small import person, save_small
from PIL import Image

from resolute.core.errors import ConfigError
from resolute.inference.indexing import camera_of
from resolute.inference.load import load
from resolute.inference.shipped import shipped_folder
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.rows import facts_type


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_small(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    for pid in range(1, 5):
        for camid in (0, 1):
            name = f"{pid:04d}_c{camid + 1}s1_000000_00.png"
            (folder / f"day{camid}").mkdir(exist_ok=True)
            Image.fromarray(person(pid, camid)).save(folder / f"day{camid}" / name)
    (folder / "readme.txt").write_text("side file")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model, crops):
    folder = tmp_path_factory.mktemp("whole") / "gallery"
    words = ["--model", model, "--out", str(folder), "--camera-pattern", "market", "--quiet"]
    from resolute.cli import main as cli

    cli.main(["index", str(crops), *words, "--time-from-files", "--retention-days", "30"])
    return str(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, model, crops):
    folder = tmp_path_factory.mktemp("plain") / "gallery"
    from resolute.cli import main as cli

    cli.main(["index", str(crops), "--model", model, "--out", str(folder), "--quiet"])
    return str(folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, crops):
    folder = tmp_path_factory.mktemp("fitted") / "gallery"
    from resolute.cli import main as cli

    cli.main(["index", str(crops), "--model", "ftwa-drawn", "--out", str(folder), "--quiet"])
    return str(folder)


def test_index_goes_on_where_it_stopped(capsys, model, crops, tmp_path):
    part = tmp_path / "part"
    (part / "day0").mkdir(parents=True)
    for path in sorted((crops / "day0").iterdir())[:3]:
        (part / "day0" / path.name).write_bytes(path.read_bytes())
    words = ["--model", model, "--out", str(tmp_path / "g"), "--threads", "1", "--batch-size", "2"]
    code, out, err = run(capsys, "index", str(part), *words)
    assert code == 0, err
    assert "3 images added, 0 were there already" in out
    assert "3 of 3 images" in err
    code, out, _ = run(capsys, "index", str(crops), *words, "--quiet")
    assert "5 images added, 3 were there already, 1 side files passed over" in out
    code, out, _ = run(capsys, "index", str(crops), *words, "--quiet")
    assert "0 images added, 8 were there already" in out
    code, out, _ = run(capsys, "index", str(part), *words, "--quiet", "--prefix", "again/")
    assert "3 images added" in out
    with Gallery.open(tmp_path / "g") as gallery:
        keys = list(gallery.keys())
        assert len(keys) == 11
        assert keys[0] == "day0/0001_c1s1_000000_00.png"
        assert keys[-1] == "again/day0/0003_c1s1_000000_00.png"
        picture = gallery.thumbnail(keys[0])
        assert picture.startswith(b"\xff\xd8")
        assert gallery.entry(keys[0]).native_size == person(1).shape[:2]
    assert all(str(tmp_path).encode() not in p.read_bytes() for p in (tmp_path / "g").rglob("*.*"))


def test_search_finds_itself_first_and_its_other_view(capsys, model, crops, whole):
    query = str(crops / "day1" / "0002_c2s1_000000_00.png")
    code, out, err = run(capsys, "search", whole, query, "--model", model, "-k", "3")
    assert code == 0, err
    assert "of 8 images, proven exact" in out
    lines = out.splitlines()
    assert len(lines) == 5
    assert lines[2].split()[:2] == ["1", "0.0000"]
    assert lines[2].endswith("day1/0002_c2s1_000000_00.png")
    words = ["--json", "--not-camera", "c2", "--from", "2000-01-01", "--until", "4e9"]
    code, out, _ = run(capsys, "search", whole, query, "--model", model, *words)
    (found,) = json.loads(out)
    assert found["num_compared"] == 4
    assert found["exact"] is True
    assert {hit["camera"] for hit in found["hits"]} == {"c1"}
    assert [hit["distance"] for hit in found["hits"]] == sorted(
        hit["distance"] for hit in found["hits"]
    )
    words = ["search", whole, query, "--model", model]
    assert run(capsys, *words, "--until", "19710101")[1].count("\n") == 2
    assert run(capsys, *words, "--from", "20990101")[1].count("\n") == 2


def test_several_queries_one_by_one_or_pooled(capsys, model, crops, whole):
    queries = [str(crops / f"day{c}" / f"0003_c{c + 1}s1_000000_00.png") for c in (0, 1)]
    for accelerator in ([], ["--accelerator", "int8"]):
        words = ["--model", model, "--json", *accelerator]
        apart = json.loads(run(capsys, "search", whole, *queries, *words)[1])
        assert all(one["hits"][0]["distance"] < 1e-9 for one in apart)
        (pooled,) = json.loads(run(capsys, "search", whole, *queries, *words, "--same-person")[1])
        assert pooled["query"] == " + ".join(queries)
        assert pooled["hits"][0]["distance"] > 0


def test_looking_after_a_gallery(capsys, model, crops, tmp_path):
    place = str(tmp_path / "g")
    words = ["--camera-pattern", "market", "--quiet", "--retention-days", "0.5"]
    run(capsys, "index", str(crops), "--model", model, "--out", place, *words)
    code, out, _ = run(capsys, "gallery", "stats", place, "--json")
    stats = json.loads(out)
    assert (code, stats["num_images"], stats["cameras"]) == (0, 8, {"c1": 4, "c2": 4})
    key = "day0/0001_c1s1_000000_00.png"
    code, out, _ = run(
        capsys, "gallery", "export", place, "--key", key, "--out", str(tmp_path / "one")
    )
    held = json.loads((tmp_path / "one" / "held.json").read_text())
    assert (held["key"], held["camera"]) == (key, "c1")
    # All that is stored of an image, but what serves to find it and to check it.
    names = {*facts_type(2).names} - {"hash", "squares", "key_end", "thumbnail_end", "size"}
    assert names | {"native_size", "vectors", "space"} <= set(held)
    with Gallery.open(place) as gallery:
        stored, space = gallery.embedding([key]), gallery.space
    assert held["norms"] == stored.norms[0].tolist()
    assert held["vectors"] == stored.vectors[0].tolist()
    assert held["space"] == asdict(space)
    with Image.open(tmp_path / "one" / "thumbnail.jpg") as picture:
        assert picture.height <= 160
    code, out, _ = run(capsys, "gallery", "export", place, "--out", str(tmp_path / "all.npz"))
    with np.load(tmp_path / "all.npz", allow_pickle=False) as arrays:
        assert arrays["vectors"].shape[0] == len(arrays["keys"]) == 8
        assert arrays["ids"].tolist() == list(range(8))
        assert arrays["norms"].shape == arrays["quality"].shape == (8, 2)
        assert arrays["norms"][0].tolist() == held["norms"]
        assert {name: arrays[name].item() for name in asdict(space)} == asdict(space)
    assert "8" in run(capsys, "gallery", "verify", place)[1]
    code, out, _ = run(capsys, "gallery", "delete", place, key)
    assert "resolute gallery purge" in out
    assert run(capsys, "gallery", "purge", place)[1].split()[:2] == ["purged", "1"]
    code, out, _ = run(capsys, "gallery", "delete", place, "--camera", "c2", "--purge")
    assert out.split() == ["deleted", "4", "purged", "4"]
    assert run(capsys, "gallery", "expire", place)[1].split()[:4] == ["erased", "0", "images", "3"]
    index = ["index", str(crops), "--model", model, "--out", place, *words[:-2]]
    out = run(capsys, *index)[1]
    assert "0 images added, 3 were there already, 5 deleted or expired before" in out
    out = run(capsys, *index, "--again")[1]
    assert "5 images added, 3 were there already, 1 side" in out


def test_an_export_that_fails_leaves_no_half_of_it(capsys, whole, tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resolute.cli.gallery.np.savez", full)
    code, _, err = run(capsys, "gallery", "export", whole, "--out", str(tmp_path / "all.npz"))
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "all.npz: could not be written: No space left on device" in err
    assert "goes on" not in err


def test_an_export_of_one_image_that_fails_can_be_tried_again(capsys, whole, tmp_path, monkeypatch):
    calls = []

    def full(file):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    key, one = "day0/0001_c1s1_000000_00.png", tmp_path / "one"
    words = ["gallery", "export", whole, "--key", key, "--out", str(one)]
    with monkeypatch.context() as patch:
        patch.setattr("resolute.inference.block._sync", full)
        code, _, err = run(capsys, *words)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "one: could not be written: No space left on device; mend that and run the same" in err
    assert run(capsys, *words)[0] == 0
    assert sorted(path.name for path in one.iterdir()) == ["held.json", "thumbnail.jpg"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_says_who_may_read_an_export(capsys, whole, tmp_path, umask):
    key = "day0/0001_c1s1_000000_00.png"
    before = os.umask(umask)
    try:
        run(capsys, "gallery", "export", whole, "--out", str(tmp_path / "all.npz"))
        run(capsys, "gallery", "export", whole, "--key", key, "--out", str(tmp_path / "one"))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    file = 0o666 & ~umask
    assert modes == {
        "all.npz": file, "one": 0o777 & ~umask, "held.json": file, "thumbnail.jpg": file,
    }  # fmt: skip


def test_index_says_what_is_beyond_the_retention(capsys, model, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for pid in (1, 2):
        Image.fromarray(person(pid)).save(folder / f"{pid}.png")
    os.utime(folder / "1.png", (1e9, 1e9))
    words = ["--model", model, "--out", str(tmp_path / "g"), "--quiet", "--time-from-files"]
    out = run(capsys, "index", str(folder), *words, "--retention-days", "30")[1]
    assert "1 images added, 0 were there already, 1 older than the retention" in out


def test_broken_images_stop_or_are_listed(capsys, model, crops, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"broken")
    Image.fromarray(person(1)).save(folder / "b.png")
    words = ["index", str(folder), "--model", model, "--out", str(tmp_path / "g"), "--quiet"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "a.jpg" in err
    code, out, err = run(capsys, *words, "--on-error", "skip")
    assert code == 0
    assert "1 images added, 0 were there already, 1 skipped" in out
    assert "skipped a.jpg" in err


def test_mistakes_are_one_line(capsys, model, crops, whole, tmp_path):
    other = str(save_small(tmp_path / "other", seed=5))
    picture = str(crops / "day0" / "0001_c1s1_000000_00.png")
    for words, message in (
        (["search", whole, picture, "--model", other], "their vectors cannot be compared"),
        (["index", str(crops), "--model", other, "--out", whole], "cannot be compared"),
        (["search", str(tmp_path / "no"), picture, "--model", model], "no gallery there"),
        (
            ["search", whole, picture, "--model", model, "--from", "noon"],
            "--from: expected a time such as",
        ),
        (
            ["search", whole, picture, "--model", model, "--until", "2026"],
            "--until: expected a time such as",
        ),
        (
            [
                "search",
                whole,
                picture,
                "--model",
                model,
                "--from",
                "2027-01-01",
                "--until",
                "20260101",
            ],
            "expected start <= end",
        ),
        (
            ["search", whole, picture, "--model", model, "--min-reliability", "50"],
            "expected min_reliability 0..1, got 50",
        ),
        (
            ["search", whole, picture, "--model", model, "--not-camera", "C2"],
            "unknown camera 'C2': did you mean 'c2'?",
        ),
        (
            ["search", whole, picture, "--model", model, "--camera", "nope"],
            "unknown camera 'nope': choose one of c1, c2",
        ),
        (
            ["search", whole, picture, "--model", model, "--min-reliability", "0.05"],
            "no image of the gallery has a reliability; calibrate the model (resolute calibrate",
        ),
        (
            ["gallery", "delete", whole, "--camera", "c1", "--camera", "nope", "--purge"],
            "unknown camera 'nope': choose one of c1, c2",
        ),
        (
            ["gallery", "delete", whole, "--camera", "c1", "--camera", "", "--purge"],
            "--camera: expected the name of a camera, got ''; to delete images without a camera, "
            "give their keys",
        ),
        (["search", whole, picture, "--model", model, "-k", "0"], "k: expected at least 1"),
        (["search", "http://host", picture, "--model", model], "http://host:6333/collection"),
        (["index", str(crops), "--model", model, "--out", "x", "--camera-pattern", "("], "pattern"),
        (["index", str(crops), "--model", model, "--out", "x", "--camera-pattern", "c"], "a group"),
        (
            ["index", str(crops), "--model", model, "--out", "x", "--camera-pattern", "(zz)"],
            "finds no camera",
        ),
        (
            ["index", str(crops), "--model", model, "--out", whole, "--retention-days", "9"],
            "the retention is fixed",
        ),
        (["index", str(crops), "--model", model, "--out", "x", "--on-error", "no"], "on_error"),
        (["index", str(crops), "--model", model, "--out", "x", "--batch-size", "0"], "batch_size"),
        (["gallery", "delete", whole], "expected keys, or --camera"),
        (["gallery", "delete", whole, "nobody"], "1 of 1 keys are not in the gallery"),
        (["gallery", "stats", whole, "x"], "unexpected word 'x'"),
        (["gallery", "export", whole], "expected --out PATH"),
        (["gallery", "export", whole, "--out", "x.csv"], "ends in .npz"),
        (["gallery", "export", whole, "--out", str(crops)], "is there already"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 2, words
        assert message in err
        assert err.count("\n") == 1
    with Gallery.open(whole) as gallery:
        assert gallery.stats().cameras == {"c1": 4, "c2": 4}


def test_a_camera_is_asked_of_a_gallery_without_any(capsys, model, crops, plain):
    words = ["search", plain, str(crops / "day0" / "0001_c1s1_000000_00.png"), "--model", model]
    refused = "camera 'c2': no image of the gallery has a camera; index with --camera-pattern"
    code, _, err = run(capsys, *words, "--not-camera", "c2")
    assert (code, refused in err) == (2, True)
    assert "of 8 images" in run(capsys, *words, "--camera", "")[1]
    code, _, err = run(capsys, "gallery", "delete", plain, "--camera", "c2", "--purge")
    assert (code, refused in err) == (2, True)


def test_an_empty_camera_erases_nothing(capsys, plain):
    code, _, err = run(capsys, "gallery", "delete", plain, "--camera", "", "--purge")
    assert code == 2
    assert "to delete images without a camera, give their keys" in err
    with Gallery.open(plain) as gallery:
        assert len(gallery) == 8


@pytest.mark.parametrize("option", ["--from", "--until"])
def test_a_time_is_asked_of_a_gallery_without_any(capsys, model, crops, plain, option):
    picture = str(crops / "day0" / "0001_c1s1_000000_00.png")
    code, _, err = run(capsys, "search", plain, picture, "--model", model, option, "20260101")
    assert code == 2
    assert "no image of the gallery has a time; index into a new gallery with --time-from" in err


def test_nothing_found_is_an_answer_where_the_condition_could_pass(
    capsys, model, crops, fitted, tmp_path
):
    picture = str(crops / "day0" / "0001_c1s1_000000_00.png")
    words = ["search", fitted, picture, "--model", "ftwa-drawn", "--min-reliability"]
    code, out, err = run(capsys, *words, "1")
    assert (code, "of 0 images, proven exact" in out) == (0, True), err
    assert "of 8 images, proven exact" in run(capsys, *words, "0")[1]
    # Of a gallery that was emptied nobody knows what its images had.
    place = str(tmp_path / "g")
    run(capsys, "index", str(crops), "--model", model, "--out", place, "--quiet")
    with Gallery.open(place) as gallery:
        gallery.delete(list(gallery.keys()))
    for condition in (["--from", "20260101"], ["--min-reliability", "0.5"]):
        code, out, err = run(capsys, "search", place, picture, "--model", model, *condition)
        assert (code, "of 0 images, proven exact" in out) == (0, True), err


def test_a_probability_names_its_prior_and_its_data(capsys, model, crops, whole, fitted):
    picture = str(crops / "day0" / "0001_c1s1_000000_00.png")
    words = ["search", fitted, picture, "--model", "ftwa-drawn"]
    data = load("ftwa-drawn").calibration.data
    assert f"\nprobability from a prior of 0.5; calibrated on {data}\n" in run(capsys, *words)[1]
    out = run(capsys, *words, "--prior", "0.125")[1]
    assert f"\nprobability from a prior of 0.125; calibrated on {data}\n" in out
    for more, prior in (([], 0.5), (["--prior", "0.125"], 0.125)):
        (found,) = json.loads(run(capsys, *words, *more, "--json")[1])
        assert (found["prior"], found["calibrated_on"]) == (prior, data)
    # A prior that is none is refused even where there is no hit to word.
    code, _, err = run(capsys, *words, "--prior", "5", "--min-reliability", "1")
    assert (code, "prior: expected a chance between 0 and 1, got 5" in err) == (2, True)
    (found,) = json.loads(run(capsys, "search", whole, picture, "--model", model, "--json")[1])
    assert (found["prior"], found["calibrated_on"]) == (None, "")


def test_search_warns_of_a_query_as_compare_does(capsys, model, crops, whole, fitted, tmp_path):
    good, dot = str(crops / "day0" / "0001_c1s1_000000_00.png"), str(tmp_path / "dot.png")
    Image.fromarray(person(1)[:1, :1]).save(dot)
    told = "too small to say: detail of 1 pixels of height, trained on people of 128"
    words = ["--model", model]
    out = run(capsys, "search", whole, good, dot, *words)[1]
    assert out.count("warning: ") == 1
    assert f"{dot}: of 8 images, proven exact\nwarning: {told}\n" in out
    first, second = json.loads(run(capsys, "search", whole, good, dot, *words, "--json")[1])
    assert (first["warnings"], second["warnings"]) == ([], [told])
    assert (first["reliability"], second["reliability"]) == (None, None)
    # Pooled, the best image speaks for the person.
    together = ["--same-person", "--json"]
    (pooled,) = json.loads(run(capsys, "search", whole, dot, good, *words, *together)[1])
    assert pooled["warnings"] == []
    words = ["--model", "ftwa-drawn"]
    out = run(capsys, "search", fitted, dot, *words)[1]
    assert "of 8 images, proven exact; reliability of the query 0.00\nwarning: too small" in out
    first, second = json.loads(run(capsys, "search", fitted, good, dot, *words, "--json")[1])
    kept = load("ftwa-drawn").embed([good, dot]).reliability.tolist()
    assert [first["reliability"], second["reliability"]] == kept
    (pooled,) = json.loads(run(capsys, "search", fitted, dot, good, *words, *together)[1])
    assert pooled["reliability"] == kept[0]


def test_expire_wants_a_retention(capsys, model, crops, tmp_path):
    run(capsys, "index", str(crops), "--model", model, "--out", str(tmp_path / "g"), "--quiet")
    assert "nothing expires" in run(capsys, "gallery", "expire", str(tmp_path / "g"))[2]


def test_cameras_are_found_in_keys():
    assert camera_of("bounding_box_test/0002_c1s1_000451_03.jpg", "market") == "c1"
    assert camera_of("c9/0002_c12.jpg", "market") == "c12"
    assert camera_of("hall/1.jpg", r"^(\w+)/") == "hall"
    assert camera_of("any", "") == ""
    with pytest.raises(ConfigError, match=r"'run_c2/1\.jpg': the camera pattern 'market'"):
        camera_of("run_c2/1.jpg", "market")


def test_a_calibration_of_other_distances_says_why_there_is_no_chance(capsys, crops, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(shipped_folder("ftwa-drawn"), model)
    kept = json.loads((model / "calibration.json").read_text())
    (model / "calibration.json").write_text(json.dumps({**kept, "fusion": "lr"}))
    words = ("--model", str(model))
    assert run(capsys, "index", str(crops), *words, "--out", str(tmp_path / "g"), "--quiet")[0] == 0
    query = str(crops / "day1" / "0002_c2s1_000000_00.png")
    code, out, err = run(capsys, "search", str(tmp_path / "g"), query, *words, "--json")
    assert code == 0, err
    assert err.startswith("no probability: calibrated for lr ")
    assert json.loads(out)[0]["hits"][0]["probability"] is None
