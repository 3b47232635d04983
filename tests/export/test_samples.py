"""The images that an export is set and checked with."""

import numpy as np
import pytest

from resolute.export.samples import Samples


@pytest.mark.parametrize(("num_hr", "num_lr"), [(40, 4), (4, 40), (1, 1)])
def test_a_mixture_goes_round_each_kind(num_hr, num_lr):
    shades = [np.full((2, 2, 3), shade, dtype=np.uint8) for shade in range(80)]
    samples = Samples(hr=tuple(shades[:num_hr]), lr=tuple(shades[40 : 40 + num_lr]), source="")
    found = samples.mixture(17).pixels[:, 0, 0, 0].tolist()
    assert found[::2] == [i % num_hr for i in range(9)]
    assert found[1::2] == [40 + i % num_lr for i in range(8)]
