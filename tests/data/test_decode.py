import io
import os
import pickle
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data.trees import draw, noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps
from PIL import features as pil_features
from PIL.PngImagePlugin import PngInfo

from resolute.core.errors import DatasetError
from resolute.data.decode import DecodeLimits, FileSource, decode_image, image_size

FORMATS = ["JPEG", "PNG", "BMP", "WEBP"]


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        stream, kind, **options
    )
    return stream.getvalue()


def png(width, height, *, depth=8, colour=2, data=b""):
    """A PNG by hand: the header can declare any size."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", check)

    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def webp_header(width, height):
    """An extended WebP that declares a size and holds nothing."""
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<L", len(canvas)) + canvas
    return b"RIFF" + struct.pack("<L", len(body)) + body


def exif(orientation, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHLHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(f"{order}LH", 8, 1) + entry + b"\0\0\0\0"


class TestPixels:
    @pytest.mark.parametrize("kind", ["PNG", "BMP"])
    def test_lossless_formats_give_the_very_pixels(self, kind):
        picture = noise(0, (7, 5))
        result = decode_image(encoded(picture, kind))
        assert result.dtype == np.uint8
        assert np.array_equal(result, picture)

    def test_lossless_webp(self):
        picture = noise(0, (7, 5))
        assert np.array_equal(decode_image(encoded(picture, "WEBP", lossless=True)), picture)

    def test_jpeg_is_pillows_decoding(self):
        data = encoded(noise(0, (33, 17)), "JPEG")
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode_image(data), expected)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_path_and_bytes_agree_and_the_array_is_ours(self, tmp_path, kind):
        data = encoded(noise(3, (9, 4)), kind)
        path = tmp_path / "no_suffix_needed"
        path.write_bytes(data)
        result = decode_image(path)
        assert np.array_equal(result, decode_image(data))
        assert np.array_equal(result, decode_image(str(path)))
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert image_size(path) == result.shape[:2] == (9, 4)

    def test_grey_and_one_bit_are_repeated_over_channels(self):
        grey = noise(1)[..., 0]
        assert np.array_equal(decode_image(encoded(grey)), np.stack([grey] * 3, axis=-1))
        bit = Image.fromarray(grey > 127)
        assert np.array_equal(decode_image(encoded(bit))[..., 1], 255 * (grey > 127))

    def test_palette(self):
        image = Image.fromarray(noise(1)).quantize(16)
        assert np.array_equal(decode_image(encoded(image)), np.asarray(image.convert("RGB")))

    def test_cmyk_jpeg(self):
        image = Image.fromarray(noise(1, (16, 16))).convert("CMYK")
        data = encoded(image, "JPEG")
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode_image(data), expected)

    def test_sixteen_bit_grey_keeps_the_high_byte(self):
        values = np.array([[0, 255, 256], [32768, 65280, 65535]], dtype=np.uint16)
        result = decode_image(encoded(Image.fromarray(values)))
        assert result[..., 0].tolist() == [[0, 0, 1], [128, 255, 255]]

    def test_large_see_through_pictures_are_mixed_in_bounded_memory(self):
        rgba = np.full((2000, 1000, 4), 99, np.uint8)
        data = encoded(rgba, "PNG")
        tracemalloc.start()
        mixed = decode_image(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (mixed == (99 * 99 + 128 * (255 - 99) + 127) // 255).all()
        assert peak < 3 * rgba.nbytes

    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    def test_see_through_pixels_are_laid_over_mid_grey(self, kind):
        rgba = np.zeros((1, 3, 4), np.uint8)
        rgba[0, :, :3] = 200
        rgba[0, :, 3] = [255, 0, 51]
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        result = decode_image(encoded(rgba, kind, **options))
        assert result[0, :, 0].tolist() == [200, 128, round(0.2 * 200 + 0.8 * 128)]

    def test_palette_with_a_see_through_entry(self):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        result = decode_image(encoded(image, "PNG", transparency=bytes([255, 0])))
        assert result.tolist() == [[[10, 20, 30], [128, 128, 128]]]

    def test_first_frame_of_an_animation(self):
        frames = [Image.fromarray(noise(i)) for i in range(2)]
        data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
        assert np.array_equal(decode_image(data), noise(0))

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_exif_orientation_as_pillow_applies_it(self, tmp_path, kind, orientation, order):
        options = {"exif": exif(orientation, order)}
        if kind == "WEBP":
            options["lossless"] = True
        data = encoded(noise(2, (24, 16)), kind, **options)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        result = decode_image(data)
        assert np.array_equal(result, expected)
        assert result.flags.c_contiguous
        path = tmp_path / "image"
        path.write_bytes(data)
        assert image_size(path) == result.shape[:2]

    @pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
    def test_text_called_exif_is_no_orientation(self, kind, tmp_path):
        chunks = PngInfo()
        if kind == "iTXt":
            chunks.add_itxt("exif", "x")
        else:
            chunks.add_text("exif", "x", zip=kind == "zTXt")
        picture = noise(2)
        data = encoded(picture, "PNG", pnginfo=chunks)
        np.testing.assert_array_equal(decode_image(data), picture)
        (tmp_path / "a.png").write_bytes(data)
        assert image_size(tmp_path / "a.png") == picture.shape[:2]

    @pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0II*\0", exif(9), exif(0), b"junk"])
    def test_damaged_exif_means_upright(self, block):
        data = encoded(noise(2), "PNG", exif=block)
        assert np.array_equal(decode_image(data), noise(2))

    def test_threads_agree(self, tmp_path):
        paths = [draw(tmp_path / f"{i}.jpg", seed=i, size=(40, 20)) for i in range(24)]
        alone = [decode_image(p) for p in paths]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(decode_image, paths))
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))

    def test_pillows_settings_stay(self):
        before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
        decode_image(encoded(noise(0)))
        assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


class TestRefusals:
    def refuse(self, tmp_path, data, match):
        """Bytes, file and header alone: all three say the same of the file."""
        path = tmp_path / "broken.jpg"
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=rf"^upload 7: {match}.*; replace or remove"):
            decode_image(data, name="upload 7")
        with pytest.raises(DatasetError, match=rf"broken\.jpg: {match}"):
            decode_image(path)
        return path

    def test_empty_file(self, tmp_path):
        path = self.refuse(tmp_path, b"", "the file is empty")
        with pytest.raises(DatasetError, match=r"broken\.jpg: the file is empty"):
            image_size(path)

    @pytest.mark.parametrize(
        "data", [b"GIF89a" + bytes(40), b"hello", b"%PDF-1.7" + bytes(40), b"II*\0" + bytes(40)]
    )
    def test_other_formats(self, tmp_path, data):
        path = self.refuse(tmp_path, data, "expected a JPEG, PNG, BMP or WebP image")
        with pytest.raises(DatasetError, match="expected a JPEG, PNG, BMP or WebP"):
            image_size(path)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_truncated_in_the_pixels(self, tmp_path, kind):
        data = encoded(noise(0, (64, 64)), kind)
        self.refuse(tmp_path, data[: len(data) // 2], f"the .*{kind} image is truncated or damaged")

    @pytest.mark.parametrize("kind", FORMATS)
    def test_truncated_in_the_header(self, tmp_path, kind):
        data = encoded(noise(0, (64, 64)), kind)
        self.refuse(tmp_path, data[:20], f"the header of this {kind} image is truncated")

    @pytest.mark.parametrize(
        "data",
        [png(30_000, 30_000), png(16_385, 1), webp_header(16_000, 16_000)],
        ids=["png-bomb", "png-line", "webp-bomb"],
    )
    def test_decompression_bomb_is_refused_by_its_header(self, tmp_path, data):
        assert len(data) < 1000
        path = self.refuse(tmp_path, data, "the header declares [0-9]+x[0-9]+ pixels")
        with pytest.raises(DatasetError, match="the header declares"):
            image_size(path)

    def test_a_bomb_is_refused_without_any_pillow_limit(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        with pytest.raises(DatasetError, match="30000x30000"):
            decode_image(png(30_000, 30_000))

    def test_a_jpeg_of_very_many_scans_is_refused(self, tmp_path):
        data = encoded(noise(0, (64, 64)), "JPEG", progressive=True)
        last = data.rindex(b"\xff\xda")
        scan, end = data[last:-2], data[-2:]
        assert decode_image(data[:-2] + scan * 20 + end).shape == (64, 64, 3)
        path = self.refuse(
            tmp_path, data[:-2] + scan * 100 + end, "the JPEG image has more than 64 scans"
        )
        assert image_size(path) == (64, 64)

    def test_what_is_no_scan_is_not_counted(self):
        data = encoded(noise(0, (64, 64)), "JPEG")
        marks = b"\xff\xda" * 100
        comment = b"\xff\xfe" + struct.pack(">H", 2 + len(marks)) + marks
        found = decode_image(data[:2] + comment + data[2:] + marks)  # a film behind a photograph
        assert np.array_equal(found, decode_image(data))

    def test_limits_can_be_set(self):
        data = encoded(noise(0, (8, 4)))
        for limits in (DecodeLimits(max_pixels=31), DecodeLimits(max_side=7)):
            with pytest.raises(DatasetError, match="declares 8x4 pixels"):
                decode_image(data, limits=limits)
        assert decode_image(data, limits=DecodeLimits(max_pixels=32, max_side=8)).shape == (8, 4, 3)

    def test_large_file(self, tmp_path):
        data = encoded(noise(0))
        limits = DecodeLimits(max_bytes=len(data) - 1)
        path = tmp_path / "large.png"
        path.write_bytes(data)
        for call in (
            lambda: decode_image(data, limits=limits),
            lambda: decode_image(path, limits=limits),
            lambda: image_size(path, limits=limits),
        ):
            with pytest.raises(DatasetError, match=f"{len(data)} bytes, more than the"):
                call()

    def test_a_file_that_grows_while_it_is_read(self, tmp_path, monkeypatch):
        path = draw(tmp_path / "growing.png")
        size = path.stat().st_size
        monkeypatch.setattr("resolute.data.decode._checked_size", lambda *_: size - 1)
        with pytest.raises(DatasetError, match=r"growing\.png: the file grew while it"):
            decode_image(path)

    @pytest.mark.parametrize("call", [decode_image, image_size])
    def test_no_file(self, tmp_path, call):
        with pytest.raises(DatasetError, match=r"gone\.jpg: cannot be read: no such file"):
            call(tmp_path / "gone.jpg")
        with pytest.raises(DatasetError, match="expected an image file, got a folder"):
            call(tmp_path)
        (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
        with pytest.raises(DatasetError, match=r"loop\.jpg: cannot be read: .*symbolic links"):
            call(tmp_path / "loop.jpg")
        with pytest.raises(DatasetError, match=r"cannot be read: .*null"):
            call("a\0b.jpg")

    def test_a_pipe_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(DatasetError, match="got a folder or device"):
            decode_image(tmp_path / "pipe.jpg")

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data(), kind=st.sampled_from(FORMATS))
    def test_damaged_bytes_give_pixels_or_one_error(self, data, kind):
        options = {"exif": exif(6)} if kind != "BMP" else {}
        content = bytearray(encoded(noise(0, (16, 12)), kind, **options))
        places = st.integers(0, len(content) - 1)
        for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
            content[place] = value
        del content[data.draw(st.integers(1, len(content))) :]
        limits = DecodeLimits(max_pixels=10_000)
        try:
            result = decode_image(bytes(content), limits=limits)
        except DatasetError:
            return
        assert result.dtype == np.uint8
        assert result.ndim == 3
        assert result.shape[2] == 3


class TestFileSource:
    def test_pixels_and_pickle(self, tmp_path):
        path = draw(tmp_path / "a.png", seed=4)
        source = pickle.loads(pickle.dumps(FileSource(path)))
        assert np.array_equal(source.pixels(), noise(4))

    def test_token_changes_with_place_size_and_time(self, tmp_path):
        source = FileSource(draw(tmp_path / "a.bmp", seed=1))
        first = source.token()
        assert source.token() == first
        # The same size and time in another folder, as unpacking gives.
        twin = FileSource(draw(tmp_path / "b" / "a.bmp", seed=2))
        os.utime(twin.path, ns=(0, 0))
        os.utime(source.path, ns=(0, 0))
        assert len({first, source.token(), twin.token()}) == 3
        draw(source.path, seed=1, size=(9, 9))
        os.utime(source.path, ns=(0, 0))
        assert source.token() != first

    def test_token_of_no_file(self):
        with pytest.raises(DatasetError, match=r"gone\.bmp: cannot be read"):
            FileSource(Path("gone.bmp")).token()


def test_webp_is_there():
    assert pil_features.check("webp")
