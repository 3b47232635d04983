import math

import pytest

from resolute.engine.schedule import epoch_at, learning_rate_factor
from resolute.methods.config import ScheduleConfig


def factor(epoch, *, step=0, steps_per_epoch=10, epochs=120, **settings):
    return learning_rate_factor(
        epoch * steps_per_epoch + step,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        schedule=ScheduleConfig(**settings),
    )


def test_paper_schedule_literally():
    expected = {0: 0.01, 1: 0.109, 5: 0.505, 9: 0.901, 10: 1.0, 39: 1.0, 40: 0.2, 69: 0.2, 70: 0.04}
    for epoch, value in expected.items():
        assert factor(epoch) == pytest.approx(value)
    assert factor(119, step=9) == pytest.approx(0.04)
    assert factor(9, step=9) == pytest.approx(0.01 + 0.99 * 99 / 100)
    assert factor(39, step=9) == 1.0


def test_whole_run_against_a_loop_that_writes_down_what_happens():
    steps, rate, values = 7, 0.01, []
    for epoch in range(120):
        rate *= 0.2 if epoch in (40, 70) else 1.0
        for _ in range(steps):
            values.append(rate)
            rate += 0.99 / (10 * steps) if epoch < 10 else 0.0
    found = [factor(0, step=s, steps_per_epoch=steps) for s in range(120 * steps)]
    assert found == pytest.approx(values)


def test_another_epoch_count_keeps_the_shape():
    assert [round(factor(e, epochs=12), 4) for e in range(12)] == (
        [0.01] + [1.0] * 3 + [0.2] * 3 + [0.04] * 5
    )


def test_one_epoch_never_drops():
    assert factor(0, step=9, epochs=1) == 1.0


def test_no_warmup_starts_at_one():
    assert factor(0, warmup=0.0) == 1.0


def test_cosine_goes_from_one_to_zero_after_the_warmup():
    assert factor(5, shape="cosine") == pytest.approx(0.505)
    assert factor(10, shape="cosine") == 1.0
    assert factor(65, shape="cosine") == pytest.approx(0.5)
    assert factor(119, step=9, shape="cosine") == pytest.approx(
        (1 + math.cos(math.pi * 1099 / 1100)) / 2
    )
    values = [factor(10, step=s, shape="cosine") for s in range(1100)]
    assert values == sorted(values, reverse=True)


def test_epoch_at_rounds_halves_upward():
    assert [epoch_at(f, 10) for f in (0, 0.04, 0.05, 0.25, 1)] == [0, 0, 1, 3, 10]
