"""The gate of branch auto: what it measures, how it is set, what it tells apart."""

import numpy as np
import pytest
import torch
from export.fakes import few_people
from PIL import Image

from resolute.core.errors import ConfigError
from resolute.core.images import Images
from resolute.core.types import InputSpec
from resolute.data.degrade import collate, degrade, to_input
from resolute.data.kernels import BICUBIC
from resolute.export.gate import Gate, Versions

SPEC = InputSpec()


def inputs_of(pixels, spec=SPEC):
    canvas, sizes = collate(pixels)
    flags = torch.zeros(len(pixels), dtype=torch.int64)
    return to_input(Images(pixels=canvas, native_sizes=sizes, resolution=flags), spec)


def sharpness_of(pixels, *, height_reference, spec=SPEC):
    return Gate(spec, height_reference=height_reference)(inputs_of(pixels, spec)).numpy()


@pytest.fixture(scope="module")
def people():
    return few_people(30)


def test_sharpness_by_its_definition(people):
    """Octave energies of the luma, written out with Pillow's resampling of float images."""
    found = sharpness_of(people.hr[:3], height_reference=128)
    mean, std = np.array(SPEC.mean), np.array(SPEC.std)
    for i, image in enumerate(inputs_of(people.hr[:3]).numpy()):
        rgb = image.transpose(1, 2, 0) * std + mean
        luma = rgb @ [0.299, 0.587, 0.114]

        def resized(x, height, width):
            picture = Image.fromarray(x.astype(np.float32))
            return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))

        one = resized(luma, 128, 64)
        half = resized(one, 64, 32)
        quarter = resized(half, 32, 16)
        upper = ((one - resized(half, 128, 64)) ** 2).mean()
        lower = ((half - resized(quarter, 64, 32)) ** 2).mean()
        assert found[i] == pytest.approx(upper / lower, rel=0.02)


def test_sharpness_falls_with_the_rate_and_ignores_contrast(people):
    medians = []
    for rate in (1, 2, 3, 4):
        low = [degrade(p, rate, BICUBIC) for p in people.hr]
        medians.append(np.median(sharpness_of(low, height_reference=people.height)))
    assert medians == sorted(medians, reverse=True)
    paler = [(p // 2 + 60).astype(np.uint8) for p in people.hr]
    whole, faded = (sharpness_of(p, height_reference=people.height) for p in (people.hr, paler))
    np.testing.assert_allclose(faded, whole, rtol=0.05)


def test_flat_images_count_as_low():
    flat = [np.full((128, 64, 3), 90, dtype=np.uint8)]
    assert sharpness_of(flat, height_reference=128)[0] < 1e-3


def test_a_set_gate_separates_people_it_has_not_seen(people):
    gate = Gate(SPEC, height_reference=people.height)
    hr, lr = (gate(inputs_of(images[::2])).numpy() for images in (people.hr, people.lr))
    report = gate.set_threshold(hr, lr, source="half")
    assert report.accuracy > 0.9
    assert float(gate.threshold) == pytest.approx(report.threshold)
    others = gate(inputs_of(people.hr[1::2])).numpy()
    assert (others > report.threshold).mean() > 0.85
    for rate in (3, 4, 8):
        low = [degrade(p, rate, BICUBIC) for p in people.hr[1::2]]
        assert (gate(inputs_of(low)).numpy() <= report.threshold).mean() > 0.9, rate


def test_threshold_is_the_best_cut_by_trying_all():
    rng = np.random.default_rng(0)
    gate = Gate(SPEC, height_reference=128)
    hr = rng.normal(1.0, 0.3, 60).astype(np.float32)
    lr = rng.normal(0.4, 0.3, 40).astype(np.float32)
    report = gate.set_threshold(hr, lr, source="numbers")
    best = max(((hr > t).mean() + (lr <= t).mean()) / 2 for t in np.linspace(-1, 3, 4001))
    assert report.accuracy == pytest.approx(best, abs=1e-9)
    assert (report.num_hr, report.num_lr, report.measured_on) == (60, 40, "numbers")
    assert report.to_mapping()["accuracy"] == report.accuracy
    apart = gate.set_threshold(np.float32([4, 3]), np.float32([1, 2]), source="apart")
    assert apart.threshold == pytest.approx(2.5)


def test_a_gate_that_cannot_tell_is_refused():
    gate = Gate(SPEC, height_reference=128)
    same = np.linspace(0, 1, 50, dtype=np.float32)
    with pytest.raises(ConfigError, match=r"on noise the gate tells only \d+% .* --branch hr"):
        gate.set_threshold(same, same, source="noise")
    with pytest.raises(ConfigError, match="needs HR and LR images"):
        gate.set_threshold(same, same[:0], source="none")


def test_versions_in_the_graph_come_close_to_those_of_native_pixels(people):
    canvas, sizes = collate(people.hr[:8])
    flags = torch.zeros(8, dtype=torch.int64)
    images = Images(pixels=canvas, native_sizes=sizes, resolution=flags)
    versions = Versions(SPEC, (1.0, 2.0, 4.0), height_reference=144.0)(to_input(images, SPEC))
    assert torch.equal(versions[0], to_input(images, SPEC))
    for rate, version in zip((2.0, 4.0), versions[1:], strict=True):
        native = to_input(images, SPEC, rates=torch.full((8,), rate))
        error = (version - native).square().mean()
        assert error < 0.03 * native.var(), rate
        shrunk_enlarged = Versions(SPEC, (rate,), height_reference=256.0)(to_input(images, SPEC))[0]
        assert error < (shrunk_enlarged - native).square().mean()


def test_versions_never_exceed_the_input():
    spec = InputSpec(height=64, width=32)
    x = torch.rand(1, 3, 64, 32)
    same, lower = Versions(spec, (2.0, 4.0), height_reference=128.0)(x)
    torch.testing.assert_close(same, x)  # 128 / 2 lines fill the input
    assert not torch.allclose(lower, x, atol=0.05)
