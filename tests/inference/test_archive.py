"""One file from a folder: the same bits however the work is divided, killed or repeated."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from inference.small import noise, person, save_small
from PIL import Image
from waiting import wait_until

from resolute.core.errors import CheckpointError, ConfigError, DatasetError
from resolute.data.decode import DecodeLimits
from resolute.inference import block as blocks
from resolute.inference.archive import embed_folder, merge
from resolute.inference.folder import list_images, stamp_of
from resolute.inference.joined import read_archive
from resolute.inference.load import load
from resolute.inference.plan import ArchiveOptions

HOW = ArchiveOptions(block_size=4, batch_size=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(save_small(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    for pid in range(1, 12):
        picture = Image.fromarray(person(pid))
        picture.thumbnail((200, 30 + 12 * (pid % 5)))
        picture.save(folder / f"{pid:02d}.png")
    (folder / "notes.txt").write_text("beside")
    return folder


@pytest.fixture(scope="module")
def single(model, crops, tmp_path_factory):
    out = tmp_path_factory.mktemp("single") / "all.npz"
    return out, embed_folder(model, crops, out, options=HOW)


def test_content_is_what_embed_gives(model, crops, single):
    out, manifest = single
    keys, embedding = read_archive(out)
    paths = sorted(p for p in crops.iterdir() if p.suffix == ".png")
    assert list(keys) == [p.name for p in paths]
    direct = model.embed(paths)
    assert np.allclose(embedding.vectors, direct.vectors, atol=1e-5)
    assert np.allclose(embedding.quality, direct.quality, atol=1e-5)
    assert np.array_equal(embedding.native_sizes, direct.native_sizes)
    for name in ("metric", "fusion", "constant", "fingerprint"):
        assert getattr(embedding, name) == getattr(direct, name), name
    assert embedding.fingerprint == model.fingerprint == manifest["fingerprint"]
    assert (manifest["num_embedded"], manifest["num_skipped"], manifest["num_ignored"]) == (
        11,
        0,
        1,
    )
    assert json.loads(out.with_name("all.npz.json").read_text()) == manifest
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["vectors"].shape == embedding.vectors.shape


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_and_merge_give_the_bytes_of_the_single_run(model, crops, single, tmp_path, count):
    out = tmp_path / "all.npz"
    for number in reversed(range(count)):
        shard = embed_folder(model, crops, out, options=HOW, shard=(number, count))
        again = embed_folder(model, crops, out, options=HOW, shard=(number, count))
        assert shard == again
    assert merge(out) == single[1] == merge(out)
    assert out.read_bytes() == single[0].read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.npz", "all.npz.json"]
    assert embed_folder(model, crops, out, options=HOW, shard=(0, count)) == single[1]


def test_parquet_holds_the_same(model, crops, single, tmp_path):
    pytest.importorskip("pyarrow")
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    embed_folder(model, crops, one, options=HOW)
    for number in range(3):
        embed_folder(model, crops, two, options=HOW, shard=(number, 3))
    merge(two)
    assert one.read_bytes() == two.read_bytes()
    keys, embedding = read_archive(one)
    expected_keys, expected = read_archive(single[0])
    assert (keys, embedding.fingerprint) == (expected_keys, model.fingerprint)
    for name in ("vectors", "quality", "norms", "native_sizes"):
        assert np.array_equal(getattr(embedding, name), getattr(expected, name)), name


def test_interrupted_and_resumed_is_the_single_run(model, crops, single, tmp_path):
    out = tmp_path / "all.npz"

    class InterruptedError_(Exception):
        pass

    def stop(done, total, skipped):
        raise InterruptedError_

    made = []
    for _ in range(2):
        with pytest.raises(InterruptedError_):
            embed_folder(model, crops, out, options=HOW, told=stop)
        made.append(sorted(p.name for p in (tmp_path / "all.npz.parts").glob("*.*")))
    assert made[0] == made[1] == ["block-000000.npz", "plan.json"]
    embed_folder(model, crops, out, options=HOW)
    assert out.read_bytes() == single[0].read_bytes()


def kill_after(words, parts, number):
    """Run a command, but only until it has written that many blocks."""
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: process.poll() is not None or len(list(parts.glob("block-*"))) >= number,
            seconds=60,
        )
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_killed_at_any_time_and_resumed_is_the_single_run(model, crops, single, tmp_path):
    run = save_small(tmp_path / "run")
    out = tmp_path / "all.npz"
    words = [sys.executable, "-m", "resolute", "embed", str(crops), "--model", str(run), "--out"]
    words += [str(out), "--batch-size", "3", "--block-size", "1", "--threads", "1"]
    expected = tmp_path / "expected.npz"
    how = ArchiveOptions(block_size=1, batch_size=3)
    embed_folder(model, crops, expected, options=how)
    parts = tmp_path / "all.npz.parts"
    for number in (1, 4, 8):
        kill_after(words, parts, number)
    subprocess.run(words, check=True, capture_output=True)
    assert out.read_bytes() == expected.read_bytes()


def test_damaged_blocks_are_made_again_or_named(model, crops, single, tmp_path):
    out = tmp_path / "all.npz"
    for number in range(2):
        embed_folder(model, crops, out, options=HOW, shard=(number, 2))
    damaged = tmp_path / "all.npz.parts" / "block-000001.npz"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-30])
    with pytest.raises(CheckpointError, match=r"block-000001.npz: damaged .* run the same command"):
        merge(out)
    flipped = bytearray(whole)
    flipped[len(flipped) // 3] ^= 1
    damaged.write_bytes(flipped)
    with pytest.raises(CheckpointError, match=r"block-000001.npz: damaged"):
        merge(out)
    damaged.unlink()
    with pytest.raises(DatasetError, match="1 of 3 blocks are missing, the first is 1"):
        merge(out)
    damaged.write_bytes(whole[:100])
    embed_folder(model, crops, out, options=HOW)
    assert out.read_bytes() == single[0].read_bytes()


def test_another_model_or_other_images_are_refused(model, crops, tmp_path):
    out = tmp_path / "all.npz"
    embed_folder(model, crops, out, options=HOW, shard=(0, 2))
    other = load(save_small(tmp_path / "other", seed=1))
    with pytest.raises(ConfigError, match=r"all.npz.parts: was begun with another model"):
        embed_folder(other, crops, out, options=HOW)
    with pytest.raises(ConfigError, match="batch_size 3, not 5"):
        embed_folder(model, crops, out, options=ArchiveOptions(block_size=4, batch_size=5))
    embed_folder(model, crops, out, options=HOW)
    with pytest.raises(ConfigError, match=r"all.npz: was begun with another model"):
        embed_folder(other, crops, out, options=HOW)
    extra = crops / "99.png"
    Image.fromarray(person(40)).save(extra)
    try:
        with pytest.raises(ConfigError, match="was begun with another list of images"):
            embed_folder(model, crops, out, options=HOW)
    finally:
        extra.unlink()
    (tmp_path / "taken.npz").write_bytes(b"x")
    with pytest.raises(ConfigError, match="is there already and has no manifest"):
        embed_folder(model, crops, tmp_path / "taken.npz", options=HOW)


def test_broken_images_stop_or_are_listed(model, crops, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for path in crops.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "06.png").write_bytes((crops / "06.png").read_bytes()[:99])
    (folder / "video.mp4").write_bytes(b"no image")
    out = tmp_path / "all.npz"
    with pytest.raises(DatasetError, match=r"06.png: the PNG image is truncated"):
        embed_folder(model, folder, out, options=HOW)
    skip = ArchiveOptions(block_size=4, batch_size=3, on_error="skip")
    manifest = embed_folder(model, folder, out, options=skip)
    assert manifest["num_embedded"] == 10
    assert sorted(manifest["skipped"]) == ["06.png", "video.mp4"]
    assert str(tmp_path) not in json.dumps(manifest)
    assert "06.png" not in read_archive(out)[0]


def test_a_block_in_which_everything_is_broken(model, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(b"broken")
    Image.fromarray(person(1)).save(folder / "9.png")
    skip = ArchiveOptions(block_size=2, batch_size=3, on_error="skip")
    for name in ("all.npz", "all.parquet"):
        manifest = embed_folder(model, folder, tmp_path / name, options=skip)
        assert (manifest["num_embedded"], manifest["num_skipped"]) == (1, 5)
        assert read_archive(tmp_path / name)[0] == ("9.png",)


def test_a_replaced_image_is_embedded_again(model, crops, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for path in crops.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "all.npz"
    embed_folder(model, folder, out, options=HOW, shard=(0, 1))
    Image.fromarray(person(50)).save(folder / "03.png")
    embed_folder(model, folder, out, options=HOW)
    keys, embedding = read_archive(out)
    expected = model.embed(folder / "03.png")
    assert np.allclose(embedding.vectors[keys.index("03.png")], expected.vectors[0], atol=1e-5)


@pytest.fixture
def bitmaps(tmp_path):
    """A folder of three pictures that all have one size in bytes."""
    folder = tmp_path / "bitmaps"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(noise(60, 30, seed=seed)).save(folder / f"{seed}.bmp")
    assert len({path.stat().st_size for path in folder.iterdir()}) == 1
    return folder


@pytest.mark.parametrize("is_old", [False, True])
def test_a_picture_of_equal_size_is_another_picture(model, bitmaps, tmp_path, is_old):
    out = tmp_path / "all.npz"
    embed_folder(model, bitmaps, out, options=HOW, shard=(0, 1))
    times = (bitmaps / "1.bmp").stat()
    Image.fromarray(noise(60, 30, seed=50)).save(bitmaps / "1.bmp")
    if is_old:
        os.utime(bitmaps / "1.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    embed_folder(model, bitmaps, out, options=HOW)
    expected = model.embed(sorted(bitmaps.iterdir()))
    assert np.allclose(read_archive(out)[1].vectors, expected.vectors, atol=1e-5)
    Image.fromarray(noise(60, 30, seed=51)).save(bitmaps / "2.bmp")
    with pytest.raises(ConfigError, match="images have changed since"):
        embed_folder(model, bitmaps, out, options=HOW)


def test_a_copy_of_the_folder_is_the_same(model, bitmaps, tmp_path):
    out, copy = tmp_path / "all.npz", tmp_path / "copy"
    copy.mkdir()
    for path in bitmaps.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
        os.utime(copy / path.name, (0, 0))
    manifest = embed_folder(model, bitmaps, out, options=HOW)
    assert embed_folder(model, copy, out, options=HOW) == manifest


def test_what_can_be_no_image_is_not_read(model, bitmaps, tmp_path, monkeypatch):
    monkeypatch.setattr("resolute.inference.folder.LIMITS", DecodeLimits(max_bytes=100))
    listing = list_images(bitmaps)
    before = stamp_of(listing, listing.keys)
    Image.fromarray(noise(60, 30, seed=50)).save(bitmaps / "1.bmp")
    assert stamp_of(listing, listing.keys) == before
    os.mkfifo(bitmaps / "pipe")  # reading would wait for ever
    (bitmaps / "nowhere").symlink_to(tmp_path / "absent")
    listing = list_images(bitmaps)
    assert stamp_of(listing, listing.keys) == stamp_of(listing, listing.keys) != before


def test_two_runs_at_once_are_refused_and_leave_nothing(model, crops, single, tmp_path):
    out = tmp_path / "all.npz"
    refused = []

    def second(done, total, skipped):
        for start in (
            lambda: embed_folder(model, crops, out, options=HOW),
            lambda: embed_folder(model, crops, out, options=HOW, shard=(1, 2)),
            lambda: merge(out),
        ):
            with pytest.raises(DatasetError, match=r"all.npz.parts: another process works .*wait"):
                start()
            refused.append(start)

    embed_folder(model, crops, out, options=HOW, told=second)
    assert refused
    assert out.read_bytes() == single[0].read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.npz", "all.npz.json"]


def test_different_shards_run_at_once(model, crops, single, tmp_path):
    out = tmp_path / "all.npz"
    told = []

    def other(done, total, skipped):
        if not told:
            embed_folder(model, crops, out, options=HOW, shard=(1, 2))
            for start in (
                lambda: embed_folder(model, crops, out, options=HOW, shard=(0, 2)),
                lambda: merge(out),
            ):
                with pytest.raises(DatasetError, match=r"another process works on this \(lock"):
                    start()
        told.append(done)

    embed_folder(model, crops, out, options=HOW, shard=(0, 2), told=other)
    merge(out)
    assert out.read_bytes() == single[0].read_bytes()


def test_parts_left_beside_a_finished_archive_go(model, crops, tmp_path):
    out = tmp_path / "all.npz"
    manifest = embed_folder(model, crops, out, options=HOW)
    parts = tmp_path / "all.npz.parts"
    for again in (lambda: embed_folder(model, crops, out, options=HOW), lambda: merge(out)):
        parts.mkdir()
        (parts / "block-000002.npz").write_bytes(b"of a run that came second")
        assert again() == manifest
        assert not parts.exists()


def test_a_disk_without_locks_is_worked_on_with_a_warning(
    model, crops, single, tmp_path, monkeypatch, caplog
):
    def none(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("resolute.inference.lock.fcntl.flock", none)
    embed_folder(model, crops, tmp_path / "all.npz", options=HOW)
    assert (tmp_path / "all.npz").read_bytes() == single[0].read_bytes()
    assert "no locks on this disk" in caplog.text


@pytest.fixture
def half_broken(model, crops, tmp_path):
    """A folder with one broken image, and the archive without it."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for path in crops.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "06.png").write_bytes(b"half an image")
    skip = ArchiveOptions(block_size=4, batch_size=3, on_error="skip")
    out = tmp_path / "all.npz"
    return folder, out, skip, embed_folder(model, folder, out, options=skip)


@pytest.mark.parametrize("name", ["06.png", "03.png"])
def test_a_finished_archive_of_other_pictures_is_refused(model, half_broken, name):
    folder, out, skip, manifest = half_broken
    assert embed_folder(model, folder, out, options=skip) == manifest
    Image.fromarray(person(50)).save(folder / name)  # mended, or replaced
    before = out.read_bytes()
    for shard in (None, (0, 2)):
        with pytest.raises(ConfigError, match=r"images have changed since; remove it or choose"):
            embed_folder(model, folder, out, options=skip, shard=shard)
    assert out.read_bytes() == before


def test_a_finished_archive_of_a_version_without_digests_is_taken(model, half_broken):
    folder, out, skip, manifest = half_broken
    del manifest["contents"]
    manifest["stamps"] = "of sizes"
    out.with_name("all.npz.json").write_text(json.dumps(manifest))
    assert embed_folder(model, folder, out, options=skip) == manifest


def test_what_was_skipped_is_no_success_where_nothing_may_be(model, half_broken):
    folder, out, _, _ = half_broken
    with pytest.raises(ConfigError, match=r"1 images were skipped, first 06\.png \(.+--on-error"):
        embed_folder(model, folder, out, options=HOW)


def test_blocks_say_what_made_them(model, crops, tmp_path, monkeypatch):
    by_torch = embed_folder(model, crops, tmp_path / "a.npz", options=HOW)["made_by"][1]
    assert by_torch == f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    monkeypatch.setattr("resolute.inference.model.Model.runtime", "openvino bf16")
    by_other = embed_folder(model, crops, tmp_path / "b.npz", options=HOW)["made_by"][1]
    assert by_other == f"openvino bf16, {by_torch}"


def test_a_full_disk_is_one_message_and_loses_nothing(model, crops, single, tmp_path, monkeypatch):
    out = tmp_path / "all.npz"
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(blocks.os, "fsync", full)
    with pytest.raises(DatasetError, match=r"No space left on device; mend .* goes on from here"):
        embed_folder(model, crops, out, options=HOW)
    monkeypatch.undo()
    parts = tmp_path / "all.npz.parts"
    assert not [p for p in parts.iterdir() if p.name.startswith(".")]
    assert list(parts.glob("block-*"))
    embed_folder(model, crops, out, options=HOW)
    assert out.read_bytes() == single[0].read_bytes()


def test_killed_between_the_last_steps(model, crops, single, tmp_path, monkeypatch):
    out = tmp_path / "all.npz"
    monkeypatch.setattr("resolute.inference.archive.shutil.rmtree", lambda path: None)
    embed_folder(model, crops, out, options=HOW)
    monkeypatch.undo()
    Path(tmp_path / "all.npz.parts" / "block-000000.npz").unlink()
    assert merge(out) == single[1]
    assert not (tmp_path / "all.npz.parts").exists()


def test_mistakes(model, crops, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in .npz or .parquet"):
        embed_folder(model, crops, tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="lies among the images"):
        embed_folder(model, crops, crops / "a.npz")
    with pytest.raises(ConfigError, match="i from 0 to n - 1, got 2/2"):
        embed_folder(model, crops, tmp_path / "a.npz", shard=(2, 2))
    with pytest.raises(ConfigError, match="unknown on_error 'sikp': did you mean 'skip'"):
        ArchiveOptions(on_error="sikp")
    with pytest.raises(ConfigError, match="batch_size: expected at least 1, got 0"):
        ArchiveOptions(batch_size=0)
    with pytest.raises(ConfigError, match="no shards there"):
        merge(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match="damaged"):
        read_archive(tmp_path / "c.npz")


def test_a_folder_in_the_place_of_the_file_is_named_before_any_work(model, crops, tmp_path):
    (tmp_path / "all.npz").mkdir()
    with pytest.raises(ConfigError, match=r"all\.npz: is a folder; give the name of a file"):
        embed_folder(model, crops, tmp_path / "all.npz", options=HOW)
    assert [path.name for path in tmp_path.iterdir()] == ["all.npz"]
