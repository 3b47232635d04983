import contextlib
import io
import sqlite3

import numpy as np
import pytest
import torch
from inference.small import noise
from PIL import Image

from resolute.core.errors import ConfigError, DatasetError, ShapeError
from resolute.data.decode import decode_image
from resolute.inference.inputs import crops, decoded, each_image

PICTURE = noise(9, 6)


def one(image, **settings):
    (pixels,) = decoded(image, **settings)
    return pixels


def test_every_kind_of_image_gives_the_same_pixels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    tensor = torch.from_numpy(PICTURE).permute(2, 0, 1)
    kinds = [path, str(path), path.read_bytes(), Image.fromarray(PICTURE), PICTURE, tensor]
    kinds += [
        tensor.float() / 255,
        tensor.double() / 255,
        np.dstack([PICTURE, PICTURE[..., 0] | 255]),
    ]
    for kind in kinds:
        assert np.array_equal(one(kind), PICTURE)
        assert np.array_equal(one([kind]), PICTURE)
    assert len(list(decoded(kinds))) == len(kinds)
    stacked = list(decoded(np.stack([PICTURE, PICTURE])))
    assert len(stacked) == len(list(decoded(torch.stack([tensor, tensor])))) == 2
    assert len(list(decoded(iter(kinds)))) == len(kinds)
    assert np.array_equal(one(np.array([str(path)])), PICTURE)


@pytest.mark.parametrize("is_tensor", [False, True])
def test_a_generator_may_fill_one_array_again(is_tensor):
    pictures = [noise(9, 6, seed=i) for i in range(20)]
    buffer = np.empty_like(PICTURE)

    def refilled():
        for picture in pictures:
            buffer[:] = picture
            yield torch.from_numpy(buffer).permute(2, 0, 1) if is_tensor else buffer

    assert np.array_equal(np.stack(list(decoded(refilled()))), np.stack(pictures))


def test_rows_of_a_database_are_read_in_the_thread_that_opened_it():
    blob = io.BytesIO()
    Image.fromarray(PICTURE).save(blob, "PNG")
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        base.execute("create table crops (picture blob)")
        base.executemany("insert into crops values (?)", [(blob.getvalue(),)] * 20)
        rows = base.execute("select picture from crops")
        found = list(decoded(picture for (picture,) in rows))
    assert len(found) == 20
    assert np.array_equal(found[-1], PICTURE)


def test_large_images_of_a_generator_are_taken_by_their_bytes():
    frames = iter([np.zeros((1000, 2000, 3), dtype=np.uint8)] * 200)
    pictures = decoded(frames)
    next(pictures)
    assert len(list(frames)) > 170  # 6 MB each, and twice 64 MiB may wait


def test_channel_order_is_that_of_arrays_and_tensors(tmp_path):
    bgr = PICTURE[..., ::-1]
    assert np.array_equal(one(bgr, channel_order="bgr"), PICTURE)
    tensor = torch.from_numpy(bgr.copy()).permute(2, 0, 1)
    assert np.array_equal(one(tensor, channel_order="bgr"), PICTURE)
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    assert np.array_equal(one(path, channel_order="bgr"), PICTURE)
    assert np.array_equal(one(Image.open(path), channel_order="bgr"), PICTURE)
    with pytest.raises(ConfigError, match="unknown channel order 'brg': did you mean"):
        each_image(PICTURE, channel_order="brg")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGBA", "png"), ("P", "png"), ("CMYK", "jpg"), ("1", "png"), ("LA", "png"),
     ("I;16", "png")],
)  # fmt: skip
def test_pil_images_are_read_as_files_are(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    picture = Image.fromarray(PICTURE)
    if mode == "I;16":
        picture = Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 200)
    elif mode == "RGBA":
        picture = Image.fromarray(np.dstack([PICTURE, PICTURE[..., :1]]))
    else:
        picture = picture.convert(mode)
    picture.save(path)
    assert np.array_equal(one(Image.open(path)), decode_image(path))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_sixteen_bits_keep_the_high_byte_and_other_integers_can_be_brought_there(mode):
    levels = np.array([[0, 255, 256, 65535]], dtype=np.int32)
    wide = Image.fromarray(levels)
    assert wide.mode == "I"
    assert one(wide.convert("I;16"))[0, :, 0].tolist() == [0, 0, 1, 255]
    kind = ">u2" if mode == "I;16B" else "<u2"
    sixteen = Image.frombytes(mode, (4, 1), levels.astype(kind).tobytes())
    assert one(sixteen)[0, :, 0].tolist() == [0, 0, 1, 255]
    assert one(Image.fromarray(levels % 256).convert("L"))[0, :, 0].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_to_pil_images_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path, exif=exif)
    assert np.array_equal(one(Image.open(path)), decode_image(path))


def test_grey_arrays_become_rgb():
    assert np.array_equal(one(PICTURE[..., 0]), np.repeat(PICTURE[..., :1], 3, axis=2))
    assert np.array_equal(one(PICTURE[..., :1]), np.repeat(PICTURE[..., :1], 3, axis=2))
    clear = np.dstack([PICTURE, np.zeros_like(PICTURE[..., 0])])
    assert (one(clear) == 128).all()


def test_boxes_cut_native_crops():
    frame = noise(20, 30)
    boxes = [[2, 3, 12, 18], [-5, -5, 4.4, 4.6], [25, 10, 99, 99]]
    cut = list(decoded(frame, boxes=boxes))
    assert [c.shape[:2] for c in cut] == [(15, 10), (5, 4), (10, 5)]
    assert np.array_equal(cut[0], frame[3:18, 2:12])
    assert list(decoded(frame, boxes=np.empty((0, 4)))) == []
    bgr = list(decoded(frame[..., ::-1], boxes=boxes, channel_order="bgr"))
    assert np.array_equal(bgr[0], cut[0])


@pytest.mark.parametrize(
    ("box", "error", "message"),
    [
        ([5, 5, 5, 9], DatasetError, r"boxes\[0\]: expected x1 < x2 .* 20x30"),
        ([40, 5, 50, 9], DatasetError, "inside a picture"),
        ([0, 0, np.nan, 9], DatasetError, "nan"),
        ([0, 0, 9], ShapeError, "as x1, y1, x2, y2, got"),
    ],
)
def test_boxes_that_cut_nothing_are_refused(box, error, message):
    with pytest.raises(error, match=message):
        crops(noise(20, 30), [box])


def test_boxes_belong_to_one_image():
    with pytest.raises(ShapeError, match="expected one image to cut them from, got 2"):
        each_image([PICTURE, PICTURE], boxes=[[0, 0, 2, 2]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PICTURE.astype(np.float32), "expected uint8 levels 0..255, got float32"),
        (PICTURE.transpose(2, 0, 1), r"is it \(C, H, W\)\? move the channels"),
        (np.zeros((0, 4, 3), np.uint8), r"expected shape \(H, W, 3\), got \(0, 4, 3\)"),
        (torch.zeros(5, 4, 3), "expected a tensor"),
        (torch.randn(3, 4, 5) * 3, r"images\[1\]: expected floats in 0..1, got .* normalises them"),
        (torch.full((3, 4, 5), torch.nan), "expected floats in 0..1, got nan"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), "expected uint8 or floats"),
        (7, r"images\[1\]: expected a path, bytes, PIL image, array or tensor, got int"),
        (b"nothing", r"images\[1\]: expected a JPEG, PNG, BMP or WebP"),
        ("/nowhere/a.jpg", "/nowhere/a.jpg: cannot be read"),
        ("/", "expected an image file, got a folder"),
        (Image.new("F", (3, 3)), r"images\[1\]: expected 8 bits per channel"),
        (Image.new("I", (3, 3), 200), r"images\[1\]: .* mode I, 32 bits; convert levels 0\.\.255"),
    ],
)
def test_what_is_no_image_is_named(image, message):
    with pytest.raises(DatasetError, match=message):
        list(decoded([PICTURE, image]))


def test_truncated_pil_image(tmp_path):
    blob = io.BytesIO()
    Image.fromarray(noise(60, 60)).save(blob, "JPEG")
    image = Image.open(io.BytesIO(blob.getvalue()[:-400]))
    with pytest.raises(DatasetError, match=r"images\[0\]: the PIL image cannot be read"):
        one(image)


def test_what_holds_no_images_at_all():
    with pytest.raises(DatasetError, match="or several of them, got int"):
        each_image(7)
    with pytest.raises(DatasetError, match="expected 2 to 4 axes"):
        each_image(np.zeros((1, 1, 2, 2, 3), np.uint8))
    assert list(decoded([])) == list(decoded(np.empty(0))) == []
