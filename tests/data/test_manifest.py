import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.sources import ArraySource, picture, two_views
from PIL import Image

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Resolution
from resolute.data.kernels import Kernel
from resolute.data.manifest import (
    FOLDERS,
    MANIFEST,
    Origin,
    read_manifest,
    read_origin,
    verify,
)
from resolute.data.mlr import PRESETS, build
from resolute.data.written import rebuild, write

POLICY = replace(PRESETS["default"], lr_camids=(1,))


@pytest.fixture
def split():
    return build(two_views(8, per_view=2), POLICY, streams=Streams(0))


@pytest.fixture
def written(split, tmp_path):
    write(split, tmp_path / "set", policy=POLICY, seed=0)
    return tmp_path / "set"


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def edit(folder, change):
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


# Writing and reading


def test_a_written_set_reads_back_as_the_split(split, written):
    back = read_manifest(written)
    assert back.digest() == split.digest()
    assert (back.name, back.notes) == (split.name, split.notes)
    for role in ("train", "query", "gallery"):
        for a, b in zip(getattr(split, role), getattr(back, role), strict=True):
            assert (a.key, a.pid, a.camid, a.resolution, a.rate) == (
                b.key, b.pid, b.camid, b.resolution, b.rate
            )  # fmt: skip
            np.testing.assert_array_equal(a.source.pixels(), b.source.pixels())
    assert read_manifest(written / MANIFEST).digest() == split.digest()


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("mlr-viper/default/lr=cam1/thirds(2,3,4)/bicubic/trial3", ("mlr-viper", 3)),
        ("mlr-viper/default/lr=cam1/thirds(2,3,4)/bicubic/trial3/validation=9", ("mlr-viper", 3)),
        ("mlr-cuhk03-p1/default/lr=cam1/thirds(2,3,4)/bicubic", ("mlr-cuhk03-p1", 0)),
        ("mlr-synthetic-seed7/a/trial2 + mlr-viper/a/trial0", ("mlr-synthetic", 2)),
    ],
)
def test_the_name_says_what_a_set_was_made_of(split, tmp_path, name, origin):
    write(replace(split, name=name), tmp_path / "set", policy=POLICY, seed=5)
    assert read_origin(tmp_path / "set") == Origin(name=origin[0], trial=origin[1], seed=5)
    assert read_origin(tmp_path / "set" / MANIFEST).seed == 5


def test_names_are_market_styled_and_never_collide(split, written):
    files = content(written)
    assert len(files) == 1 + sum(len(getattr(split, role)) for role in FOLDERS)
    record = split.query[0]
    assert f"query/{record.pid:04d}_c2s1_000000_00.png" in files
    assert {name.split("/")[0] for name in files} == {*FOLDERS.values(), MANIFEST}


def test_the_manifest_says_where_everything_comes_from(split, written):
    data = json.loads((written / MANIFEST).read_text())
    assert data["name"] == split.name
    assert data["split_digest"] == split.digest()
    assert (data["seed"], data["rounding"], data["storage"]) == (0, "floor", "png")
    assert data["policy"]["lr_camids"] == [1]
    entry = next(i for i in data["images"] if i["role"] == "query")
    assert entry.keys() == {
        "path", "key", "role", "pid", "camid", "resolution", "rate", "height", "width", "sha256",
        "sha256_pixels",
    }  # fmt: skip
    assert str(written.parent) not in json.dumps(data)


def test_writing_again_changes_nothing(split, written):
    before = {p: p.stat().st_mtime_ns for p in written.rglob("*")}
    assert write(split, written, policy=POLICY, seed=0) == written / MANIFEST
    assert {p: p.stat().st_mtime_ns for p in written.rglob("*")} == before


def test_an_empty_folder_is_used_and_nothing_else_is_left_behind(split, tmp_path):
    folder = tmp_path / "deep" / "set"
    folder.mkdir(parents=True)
    write(split, folder, policy=POLICY, seed=0)
    assert list(folder.parent.iterdir()) == [folder]
    assert verify(folder).num_images == len(split.train) + len(split.query) + len(split.gallery)


def test_foreign_folders_are_refused(split, written, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(DatasetError, match="photos: expected a new or empty folder"):
        write(split, folder, policy=POLICY, seed=0)
    with pytest.raises(DatasetError, match="expected a new or empty folder"):
        write(split, folder / "mine.txt", policy=POLICY, seed=0)
    other = build(two_views(8, per_view=2), POLICY, streams=Streams(1))
    with pytest.raises(
        DatasetError, match=r"holds another set \(mlr-viper/.*; split_digest differs"
    ):
        write(other, written, policy=POLICY, seed=1)
    assert content(folder) == {"mine.txt": b"keep"}


def test_a_policy_that_did_not_make_the_split_is_refused(split, tmp_path):
    policy = replace(POLICY, kernel=Kernel(name="lanczos"))
    with pytest.raises(ConfigError, match=r"expected the one that mlr-viper.* got kernel lanczos"):
        write(split, tmp_path / "set", policy=policy, seed=0)


def test_a_full_disk_leaves_nothing_and_says_what_to_do(split, tmp_path, monkeypatch):
    real, calls = Path.write_bytes, []

    def fill_up(self, data):
        calls.append(self)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(DatasetError, match="set: the disk is full before all 32 images"):
        write(split, tmp_path / "set", policy=POLICY, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_rights_says_so(split, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        write(split, tmp_path / "file" / "set", policy=POLICY, seed=0)


def test_a_broken_image_stops_the_writing_and_leaves_nothing(split, tmp_path):
    class Broken(ArraySource):
        def pixels(self):
            raise DatasetError("x.png: truncated")

    bad = replace(split.query[0], source=Broken(picture(0)))
    with pytest.raises(DatasetError, match=r"x\.png: truncated"):
        write(replace(split, query=(bad,)), tmp_path / "set", policy=POLICY, seed=0)
    assert list(tmp_path.iterdir()) == []


# Rebuilding


def test_rebuilding_gives_the_same_bytes_without_any_draw(written, tmp_path):
    manifest = tmp_path / "alone.json"
    shutil.copy(written / MANIFEST, manifest)
    # Another trial: the same images in other roles and another order.
    rebuild(manifest, two_views(8, trial=5, per_view=2), tmp_path / "again")
    assert content(tmp_path / "again") == content(written)


def test_rebuilding_from_other_originals_is_refused(written, tmp_path):
    fewer = two_views(8, per_view=2)
    kept = tuple(r for r in fewer.train if r.pid != fewer.train[0].pid)
    fewer = replace(fewer, train=kept)
    with pytest.raises(
        DatasetError, match="4 of its originals are not in viper trial 0, the first"
    ):
        rebuild(written / MANIFEST, fewer, tmp_path / "again")
    changed = two_views(8, per_view=2)
    other = replace(changed.gallery[0], source=ArraySource(picture(999)))
    with pytest.raises(DatasetError, match="gives other pixels than the manifest's"):
        rebuild(
            written / MANIFEST,
            replace(changed, gallery=(other, *changed.gallery[1:])),
            tmp_path / "again",
        )
    assert not (tmp_path / "again").exists()
    with pytest.raises(DatasetError, match="expected a new or empty folder"):
        rebuild(written / MANIFEST, changed, written)


# Verifying


def test_verify_finds_every_kind_of_damage(written):
    image = next((written / "query").iterdir())
    good = image.read_bytes()
    image.write_bytes(good[:60])
    with pytest.raises(DatasetError, match="truncated or damaged"):
        verify(written)
    Image.fromarray(picture(7)).save(image)
    with pytest.raises(DatasetError, match="the pixels differ from the manifest's"):
        verify(written)
    with pytest.raises(DatasetError, match="the pixels differ from the manifest's"):
        [r.source.pixels() for r in read_manifest(written).query]
    image.unlink()
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        verify(written)
    image.write_bytes(good)
    (written / "query" / "extra.png").write_bytes(good)
    with pytest.raises(
        DatasetError, match=r"1 files are not in the manifest, the first: query/extra"
    ):
        verify(written)


def test_verify_looks_at_what_the_manifest_says_of_images(written):
    edit(written, lambda data: data["images"][0].update(pid=77))
    with pytest.raises(DatasetError, match="the images listed are not those"):
        verify(written)


def test_another_png_encoder_is_no_damage(written):
    image = next((written / "query").iterdir())
    pixels = np.asarray(Image.open(image))
    Image.fromarray(pixels).save(image, compress_level=1)
    assert verify(written).num_reencoded == 1


# Manifests that lie


@pytest.mark.parametrize(
    "path", ["../outside.png", "/etc/hostname", "query/../../outside.png", "query\\..\\x.png",
             "C:/x.png", "", "link/outside.png"],
)  # fmt: skip
def test_no_path_leaves_the_folder(written, path):
    outside = written.parent / "outside.png"
    Image.fromarray(picture(0)).save(outside)
    (written / "link").symlink_to(written.parent)
    edit(written, lambda data: data["images"][0].update(path=path))
    for use in (read_manifest, verify):
        with pytest.raises(DatasetError, match="points outside of the folder"):
            use(written)
    if path != "link/outside.png":
        with pytest.raises(DatasetError, match="points outside of the folder"):
            rebuild(written / MANIFEST, two_views(8, per_view=2), written.parent / "again")
        assert not (written.parent / "again").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="other"), "expected resolute-mlr version 1, got other"),
        (lambda d: d.update(version=2), "got resolute-mlr version 2"),
        (lambda d: d.pop("policy"), "not a manifest of a multi-resolution set"),
        (lambda d: d["policy"].update(rates="x"), "not a manifest"),
        (lambda d: d["policy"].update(colour="x"), "unknown setting 'colour'"),
        (lambda d: d["images"][0].update(pid="7"), "has the wrong type"),
        (lambda d: d["images"][0].update(rate=0.5), "has the wrong type"),
        (lambda d: d["images"][0].update(rate=float("nan")), "has the wrong type"),
        (lambda d: d["images"][0].update(rate=10**400), "not a manifest"),
        (lambda d: d["images"][0].update(path="a\0b"), "has the wrong type"),
        (lambda d: d["images"][0].update(key="\ud800"), "not a manifest"),
        (lambda d: d.update(policy=[]), "not a manifest"),
        (lambda d: d.update(policy=None), "not a manifest"),
        (lambda d: d["policy"].update(rates=[10**400]), "not a manifest"),
        (lambda d: d.update(seed=-5), "has the wrong type"),
        (lambda d: d["images"][0].update(role="test"), "has the wrong type"),
        (lambda d: d["images"][0].pop("key"), "not a manifest"),
        (lambda d: d.update(images=7), "not a manifest"),
        (lambda d: d.update(notes="x"), "has the wrong type"),
        (lambda d: d["images"][0].update(rate=9), "the images listed are not those"),
        (lambda d: d["images"].pop(), "the images listed are not those"),
    ],
)
def test_manifests_that_were_edited_are_refused(written, change, message):
    edit(written, change)
    with pytest.raises(DatasetError, match=message):
        read_manifest(written)


def test_files_that_are_no_manifest_are_refused(written):
    (written / MANIFEST).write_text('{"format": ')
    with pytest.raises(DatasetError, match="not a manifest of a multi-resolution set"):
        read_manifest(written)
    (written / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(DatasetError, match="not a manifest of a multi-resolution set"):
        read_manifest(written)
    (written / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="not a text file"):
        read_manifest(written)
    (written / MANIFEST).unlink()
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read_manifest(written)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_manifests_say_so(written):
    (written / MANIFEST).chmod(0)
    with pytest.raises(DatasetError, match="cannot be read: Permission denied"):
        read_manifest(written)


def test_a_real_low_resolution_set_is_written_as_it_is(tmp_path):
    split = two_views(8, name="caviar")
    lr = tuple(replace(r, resolution=Resolution.LR) for r in split.query)
    split = replace(split, query=lr)
    write(split, tmp_path / "set", policy=POLICY, seed=0)
    rebuild(tmp_path / "set" / MANIFEST, two_views(8), tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "set")
    assert {r.resolution for r in read_manifest(tmp_path / "again").query} == {Resolution.LR}
