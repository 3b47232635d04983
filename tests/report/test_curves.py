import json

import numpy as np
import pytest

from resolute.core.errors import ConfigError
from resolute.report.curves import MAX_POINTS, read_curves


def row(step, phase="main", **values):
    return json.dumps({"step": step, "epoch": 0, "phase": phase, "update": 0, **values}) + "\n"


def write(folder, *lines):
    (folder / "scalars.jsonl").write_text("".join(lines))
    return read_curves(folder)


def test_every_number_is_a_curve(tmp_path):
    norms = {"gradient_norms": {"raft": {"triplet": 2.0}}}
    curves = write(
        tmp_path,
        row(1, losses={"identity": 3.0}),
        row(1, **norms),
        row(2, losses={"identity": 1.0}),
    )
    assert set(curves) == {"losses/identity", "gradient_norms/raft/triplet"}
    assert curves["losses/identity"].steps.tolist() == [1, 2]
    assert curves["losses/identity"].values.tolist() == [3, 1]


def test_long_runs_are_averaged_and_nothing_is_left_out(tmp_path):
    values = np.random.default_rng(0).normal(size=1000)
    curve = write(tmp_path, *(row(i + 1, a=v) for i, v in enumerate(values)))["a"]
    assert len(curve.steps) == MAX_POINTS
    parts = np.array_split(values, MAX_POINTS)
    assert curve.values.tolist() == pytest.approx([part.mean() for part in parts])


def test_phases_are_told_apart(tmp_path):
    assert set(write(tmp_path, row(1, a=1), row(1, phase="critic", a=2))) == {"main/a", "critic/a"}


def test_updates_of_one_step_are_one_point(tmp_path):
    lines = [row(step, a=value) for step, value in ((1, 1), (1, 3), (2, 5), (3, 7), (3, 8))]
    curve = write(tmp_path, *lines)["a"]
    assert curve.steps.tolist() == [1, 2, 3]
    assert curve.values.tolist() == [2, 5, 7.5]


def test_no_file_no_curves(tmp_path):
    assert read_curves(tmp_path) == {}
    assert write(tmp_path) == {}


def test_a_half_written_last_line_is_passed_over(tmp_path):
    curves = write(tmp_path, row(1, a=1), row(2, a=2)[:20])
    assert curves["a"].steps.tolist() == [1]


@pytest.mark.parametrize(
    "line", ["{]\n", "3\n", '{"phase": "main"}\n', '{"step": null, "phase": "x"}\n']
)
def test_other_lines_are_named(tmp_path, line):
    with pytest.raises(ConfigError, match=r"scalars\.jsonl: line 2 is no row of scalars"):
        write(tmp_path, row(1, a=1), line)
