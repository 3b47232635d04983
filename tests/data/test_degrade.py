import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from data.sources import ArraySource, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.images import Images
from resolute.core.types import InputSpec
from resolute.data.degrade import (
    Degraded,
    canvas,
    collate,
    degrade,
    degraded_size,
    normalise,
    resize,
    to_input,
)
from resolute.data.kernels import BICUBIC, Kernel, matrix

NAMES = ["box", "bilinear", "hamming", "bicubic", "lanczos"]
OPENCV = Kernel(library="opencv", name="bilinear", antialias=False)
SIZES = [(128, 48), (61, 23), (17, 39), (5, 3), (1, 1), (160, 70)]


def images_of(arrays):
    pixels, sizes = collate(arrays)
    return Images(
        pixels=pixels, native_sizes=sizes, resolution=torch.zeros(len(arrays), dtype=torch.int64)
    )


def pillow(array, height, width, name):
    """Pillow's own resampling, columns first (the order before Pillow 13, for every size)."""
    method = Image.Resampling[name.upper()]
    image = Image.fromarray(array).resize((width, array.shape[0]), method)
    return np.asarray(image.resize((width, height), method)).astype(int)


def difference(a, b):
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


# One axis


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "target"), [(9, 4), (4, 9), (128, 42), (7, 7), (1, 5), (5, 1)])
def test_matrix_is_the_kernel_weighed_pixel_by_pixel(name, size, target):
    supports = {"box": 0.5, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3}

    def sinc(x):
        return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)

    def weigh(x):
        y = abs(x)
        if name == "box":
            return 1.0 if -0.5 < x <= 0.5 else 0.0
        if y >= supports[name]:
            return 0.0
        if name == "bilinear":
            return 1 - y
        if name == "hamming":
            return sinc(x) * (0.54 + 0.46 * math.cos(math.pi * x))
        if name == "lanczos":
            return sinc(x) * sinc(x / 3)
        return 1.5 * y**3 - 2.5 * y**2 + 1 if y < 1 else -0.5 * (y**3 - 5 * y**2 + 8 * y - 4)

    scale = size / target
    stretch = max(scale, 1)
    expected = np.zeros((target, size))
    for out in range(target):
        centre = (out + 0.5) * scale
        first = max(0, int(centre - supports[name] * stretch + 0.5))
        end = min(size, int(centre + supports[name] * stretch + 0.5))
        for i in range(first, end):
            expected[out, i] = weigh((i - centre + 0.5) / stretch)
        expected[out] /= expected[out].sum()
    np.testing.assert_allclose(matrix(size, target, Kernel(name=name)), expected, atol=1e-6)


def test_large_matrices_are_not_kept():
    for kernel in (BICUBIC, Kernel(name="lanczos")):
        assert matrix(512, 256, kernel) is matrix(512, 256, kernel)
        assert matrix(513, 256, kernel) is not matrix(513, 256, kernel)
        np.testing.assert_array_equal(matrix(513, 256, kernel), matrix(513, 256, kernel))


def test_matrix_cannot_be_changed_by_its_users():
    with pytest.raises(ValueError, match="read-only"):
        matrix(8, 4, BICUBIC)[0, 0] = 1


# One image


@pytest.mark.parametrize("rate", [2, 3, 4, 8, 2.71])
@pytest.mark.parametrize("name", NAMES)
def test_degraded_is_pillow_with_floor(name, rate):
    array = picture(1, 61, 23)
    made = Degraded(ArraySource(array), rate, Kernel(name=name)).pixels()
    assert made.dtype == np.uint8
    assert made.shape == (math.floor(61 / rate), math.floor(23 / rate), 3)
    assert difference(made, pillow(array, *made.shape[:2], name)) == 0


def test_rate_one_leaves_the_image_alone():
    array = picture(1)
    assert Degraded(ArraySource(array), 1, BICUBIC).pixels() is array


def test_a_rate_above_the_size_leaves_one_pixel():
    assert degraded_size(5, 3, 100) == (1, 1)
    assert degrade(picture(1, 5, 3), 100.0, BICUBIC).shape == (1, 1, 3)
    assert degrade(picture(1, 5, 3), 100.0, OPENCV).shape == (1, 1, 3)


def test_constant_images_stay_constant():
    grey = np.full((50, 31, 3), 113, dtype=np.uint8)
    for kernel in (*(Kernel(name=name) for name in NAMES), OPENCV):
        assert (degrade(grey, 3.3, kernel) == 113).all()


def test_opencv_kernel_does_not_filter_before_sampling():
    array = picture(3, 60, 30)
    made = degrade(array, 3, OPENCV)
    tensor = torch.from_numpy(array).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, (20, 10), mode="bilinear", antialias=False)
    assert difference(made, expected[0].permute(1, 2, 0).numpy().round()) <= 1
    filtered = degrade(array, 3, Kernel(name="bilinear"))
    assert difference(made, filtered) > 10


@pytest.mark.parametrize("rate", [0.5, 0, -2, math.nan, math.inf])
def test_rates_below_one_are_refused(rate):
    with pytest.raises(ConfigError, match="rate: expected a finite number of at least 1"):
        Degraded(ArraySource(picture(0)), rate, BICUBIC)


def test_token_tells_apart_whatever_changes_pixels():
    source, other = ArraySource(picture(0)), ArraySource(picture(1))
    kernels = (BICUBIC, OPENCV, Kernel(name="bilinear"))
    made = [Degraded(s, r, k) for s in (source, other) for r in (2, 2.5) for k in kernels]
    assert len({d.token() for d in made}) == len(made)
    assert Degraded(source, 2, BICUBIC).token() == Degraded(source, 2.0, BICUBIC).token()


def test_kernels_that_no_library_has_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'bicubic'"):
        Kernel(name="bicubik")
    with pytest.raises(ConfigError, match="pillow always filters"):
        Kernel(antialias=False)
    with pytest.raises(ConfigError, match="opencv offers name = 'bilinear'"):
        Kernel(library="opencv", name="bicubic", antialias=False)
    with pytest.raises(ConfigError, match="opencv offers"):
        Kernel(library="opencv", name="bilinear")
    assert [str(BICUBIC), str(OPENCV)] == ["bicubic", "opencv-bilinear"]


# Many images


def test_canvas_keeps_every_pixel_and_fills_with_zeros():
    arrays = [picture(i, *size) for i, size in enumerate(SIZES)]
    pixels, sizes = canvas(arrays)
    assert pixels.shape == (6, 3, 160, 70)
    for array, row, (height, width) in zip(arrays, pixels, sizes, strict=True):
        np.testing.assert_array_equal(row[:, :height, :width].transpose(1, 2, 0), array)
        assert not row[:, height:].any()
        assert not row[:, :, width:].any()
    with pytest.raises(ShapeError, match="expected at least one image"):
        canvas([])
    with pytest.raises(ShapeError, match=r"expected shape \(height, width, 3\), got \(4, 4\) at 0"):
        canvas([np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("target", [(256, 128), (64, 32)])
@pytest.mark.parametrize("name", NAMES)
def test_resize_is_pillow_image_by_image(name, target):
    arrays = [picture(i, *size) for i, size in enumerate(SIZES)]
    rates = [2.0, 3.0, 1.0, 2.0, 4.0, 2.75]
    out = resize(images_of(arrays), *target, rates=torch.tensor(rates), kernel=Kernel(name=name))
    for array, rate, row in zip(arrays, rates, out, strict=True):
        small = degrade(array, rate, Kernel(name=name))
        made = row.permute(1, 2, 0).numpy()
        assert (made == made.round()).all()
        assert difference(made, pillow(small, *target, "bilinear")) <= 1
        at_once = Image.fromarray(small).resize(target[::-1], Image.Resampling.BILINEAR)
        assert difference(made, at_once) <= 2


@pytest.mark.parametrize(
    ("name", "limit"), [("box", 1), ("hamming", 1), ("bicubic", 3), ("lanczos", 3)]
)
def test_other_interpolations_are_pillows_too(name, limit):
    # Kernels with negative lobes enlarge the rare single-level tie that float32 breaks otherwise.
    arrays = [picture(i, *size) for i, size in enumerate(SIZES)]
    out = resize(images_of(arrays), 96, 40, interpolation=name)
    for array, row in zip(arrays, out, strict=True):
        assert difference(row.permute(1, 2, 0), pillow(array, 96, 40, name)) <= limit


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 40),
    rate=st.floats(1, 9, width=32),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_builder_and_loader_degrade_alike(height, width, rate, seed):
    array = picture(seed, height, width)
    small = degrade(array, rate, BICUBIC)
    size = small.shape[:2]
    out = resize(images_of([array]), *size, rates=torch.tensor([rate]))
    assert difference(out[0].permute(1, 2, 0), small) <= 1


def test_opencv_kernel_in_batch_is_the_builders():
    arrays = [picture(i, *size) for i, size in enumerate(SIZES[:2])]
    for array in arrays:
        small = degrade(array, 3, OPENCV)
        out = resize(images_of([array]), *small.shape[:2], rates=torch.tensor([3.0]), kernel=OPENCV)
        assert difference(out[0].permute(1, 2, 0), small) <= 1


def test_nothing_outside_of_an_image_leaks_in():
    arrays = [picture(0, 40, 20), picture(1, 11, 33)]
    clean = images_of(arrays)
    dirty = clean.pixels.clone()
    dirty[0, :, 40:], dirty[0, :, :, 20:], dirty[1, :, 11:] = 255, 255, 255
    smeared = Images(pixels=dirty, native_sizes=clean.native_sizes, resolution=clean.resolution)
    for rates in (None, torch.tensor([2.0, 3.0])):
        torch.testing.assert_close(
            resize(clean, 32, 16, rates=rates), resize(smeared, 32, 16, rates=rates), rtol=0, atol=0
        )


def test_an_image_does_not_depend_on_its_neighbours():
    arrays = [picture(i, *size) for i, size in enumerate(SIZES)]
    rates = torch.tensor([2.0, 3.0, 1.0, 2.0, 4.0, 1.5])
    together = resize(images_of(arrays), 64, 32, rates=rates)
    for i, array in enumerate(arrays):
        alone = resize(images_of([array]), 64, 32, rates=rates[i : i + 1])
        assert difference(together[i], alone[0]) <= 1


def test_window_shows_lines_of_the_resized_image():
    arrays = [picture(0, 40, 20), picture(1, 64, 33)]
    whole = resize(images_of(arrays), 16, 8)
    rows = torch.stack([torch.arange(16) - 3, torch.arange(16)]).clamp(min=-1)
    columns = torch.stack([torch.arange(8), 7 - torch.arange(8)])
    out = resize(images_of(arrays), 16, 8, window=(rows, columns))
    torch.testing.assert_close(out[0, :, 3:], whole[0, :, :13], rtol=0, atol=0)
    assert not out[0, :, :2].any()
    torch.testing.assert_close(out[1], whole[1].flip(-1), rtol=0, atol=0)


def test_mixed_precision_does_not_reach_the_pixels():
    images = images_of([picture(0, 40, 20)])
    rates = torch.tensor([2.0])
    plain = resize(images, 64, 32, rates=rates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resize(images, 64, 32, rates=rates)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


def test_to_input_is_resize_and_normalise():
    spec = InputSpec(height=32, width=16)
    images, rates = images_of([picture(0, 40, 20), picture(1, 9, 9)]), torch.tensor([2.0, 1.0])
    levels = resize(images, 32, 16, rates=rates)
    out = to_input(images, spec, rates=rates)
    expected = (levels / 255 - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(
        3, 1, 1
    )
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normalise(levels, spec), out, rtol=0, atol=0)
    assert out.is_contiguous()
    assert out.dtype == torch.float32


def test_wrong_calls_say_what_was_expected():
    images = images_of([picture(0), picture(1)])
    with pytest.raises(ShapeError, match=r"rates: expected shape \(2,\), got \(1,\)"):
        resize(images, 32, 16, rates=torch.tensor([2.0]))
    with pytest.raises(ConfigError, match="finite number of at least 1"):
        resize(images, 32, 16, rates=torch.tensor([2.0, 0.5]))
    with pytest.raises(ConfigError, match="unknown kernel 'cubic'"):
        to_input(images, InputSpec(interpolation="cubic"))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_pixels():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    images = images_of([picture(i, *size) for i, size in enumerate(SIZES)])
    rates = torch.tensor([2.0, 3.0, 1.0, 2.0, 4.0, 1.5])
    here = resize(images, 64, 32, rates=rates)
    there = resize(images.to("cuda"), 64, 32, rates=rates.to("cuda"))
    assert difference(here, there.cpu()) <= 1


@pytest.mark.data
def test_real_images_are_within_one_level_of_pillow(shared):
    paths = sorted((shared / "data/viper/VIPeR/cam_b").glob("*.bmp"))[:24]
    paths += sorted((shared / "data/cuhk03/images_labeled").glob("*.jpg"))[:24]
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    rates = [float(2 + i % 3) for i in range(len(arrays))]
    out = resize(images_of(arrays), 256, 128, rates=torch.tensor(rates))
    for array, rate, row in zip(arrays, rates, out, strict=True):
        small = degrade(array, rate, BICUBIC)
        assert difference(row.permute(1, 2, 0), pillow(small, 256, 128, "bilinear")) <= 1


def test_crops_that_fit_already_keep_their_pixels():
    pixels = levels(2, 40, 24)
    images = Images(
        pixels=pixels, native_sizes=torch.tensor([[40, 24]] * 2), resolution=torch.zeros(2).long()
    )
    assert torch.equal(resize(images, 40, 24), pixels.float())
    # On a canvas that larger neighbours stretched they are cut out.
    wide = torch.nn.functional.pad(pixels, (0, 9, 0, 5))
    assert torch.equal(resize(replace(images, pixels=wide), 40, 24), pixels.float())
    # One axis that fits and one that does not: the same numbers as with both matrices.
    across = torch.tensor(matrix(24, 12, Kernel(name="bilinear")))
    expected = (pixels.float() @ across.T).add(0.5).floor()
    assert torch.equal(resize(images, 40, 12), expected)


def levels(*shape):
    n, height, width = shape
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)
