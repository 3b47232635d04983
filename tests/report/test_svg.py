import numpy as np
import pytest
from report.reading import Page

from resolute.report.axes import Axis, linear, nice_step
from resolute.report.svg import WIDTH, Plot


@pytest.mark.parametrize("seed", range(30))
def test_round_marks_enclose_the_values(seed):
    rng = np.random.default_rng(seed)
    low = float(rng.normal() * 10.0 ** rng.integers(-6, 6))
    high = low + float(rng.uniform(0.01, 1)) * 10.0 ** int(rng.integers(-3, 4))
    axis = linear(low, high, "x")
    assert axis.low <= low + 1e-9 * abs(low)
    assert axis.high >= high - 1e-9 * abs(high)
    assert 2 <= len(axis.marks) <= 8
    texts = [text for _, text in axis.marks]
    assert len(set(texts)) == len(texts)
    for value, text in axis.marks:
        assert float(text) == pytest.approx(value, abs=1e-9 + 1e-6 * abs(value))


def test_one_value_still_has_an_axis():
    for value in (0.0, 3.0, -2.0):
        axis = linear(value, value, "x")
        assert axis.low < axis.high
        assert 0 <= axis.share(value) <= 1


def test_percent_labels():
    marks = linear(0, 1, "x", scale=100).marks
    assert marks[0] == (0.0, "0")
    assert marks[-1] == (1.0, "100")


def test_steps_are_one_two_or_five():
    for span in np.geomspace(1e-6, 1e6, 50):
        step = nice_step(span)
        assert round(step / 10.0 ** np.floor(np.log10(step) + 1e-9)) in (1, 2, 5)
        assert span / step <= 5 + 1e-9


def test_places():
    plot = Plot(x=Axis(low=1, high=100, marks=(), title="", is_log=True), y=linear(0, 1, ""))
    left, bottom = plot.at(1, 0)
    right, top = plot.at(100, 1)
    assert (left, right) == (plot.left, WIDTH - 12)
    assert top < bottom
    assert plot.at(10, 0.5) == pytest.approx(((left + right) / 2, (top + bottom) / 2))
    assert plot.at(1000, 2) == (right, top)  # nothing is drawn outside
    assert plot.at(0.1, -1) == (left, bottom)


def test_histogram_outline_is_the_counts():
    plot = Plot(x=linear(0, 2, "x"), y=linear(0, 4, "y"))
    outline = plot.steps([0, 1, 2], [4, 2], kind="positive")
    points = [
        tuple(map(float, p.split(","))) for p in Page(outline).all("polygon")[0]["points"].split()
    ]
    expected = [(0, 0), (0, 4), (1, 4), (1, 2), (2, 2), (2, 0)]
    assert points == [pytest.approx(plot.at(*p), abs=0.01) for p in expected]
