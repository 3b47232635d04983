"""The progress line that embedding and indexing share."""

import pytest

from resolute.cli import progress
from resolute.cli.progress import ImageProgress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys, clock, calls, **options):
    with ImageProgress(**{"is_quiet": False, **options}) as shown:
        for at, *counts in calls:
            clock[0] = at
            shown.told(*counts)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_line_every_ten_seconds_and_at_the_end(capsys, clock):
    calls = [(4, 20, 200), (9, 60, 200), (12, 90, 200), (15, 99, 200), (25, 150, 200, 2)]
    assert lines(capsys, clock, [*calls, (40, 200, 200, 3)]) == [
        "90 of 200 images, 8 images/s",
        "150 of 200 images, 6 images/s, 2 skipped",
        "200 of 200 images, 5 images/s, 3 skipped",
    ]


def test_what_an_earlier_call_did_is_no_speed(capsys, clock):
    calls = [(0.1, 1000, 1100), (20, 1100, 1100)]
    assert lines(capsys, clock, calls) == ["1100 of 1100 images, 5 images/s"]
    clock[0] = 0.0
    assert lines(capsys, clock, [(0.1, 1100, 1100)]) == ["1100 of 1100 images"]


def test_quiet_says_nothing(capsys, clock):
    assert lines(capsys, clock, [(20, 5, 5)], is_quiet=True) == []
