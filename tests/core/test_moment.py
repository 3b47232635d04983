"""Times as people write them: what is a day, what are seconds, what is neither."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from resolute.core.errors import ConfigError
from resolute.core.moment import read_moment

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    ["2026-01-01", "20260101", " 20260101 ", "2026-01-01T00:00", "20260101T00", "2026-01-01 00:00",
     "2026-01-01T00:00:00Z", "2026-01-01T01:00+01:00", "2026-W01-4", "1767225600", "1767225600.0",
     "+1767225600", "1.7672256e9", "1.7672256E+9"],
)  # fmt: skip
def test_one_moment_in_many_ways(text):
    assert read_moment(text) == NEW_YEAR


def test_every_iso_text_comes_back():
    for zone in (UTC, timezone(timedelta(hours=-5, minutes=-30))):
        for year in (1, 1970, 2026, 9999):
            moment = datetime(year, 6, 5, 4, 3, 2, 1000, tzinfo=zone)
            assert read_moment(moment.isoformat()) == moment.timestamp()


def test_seconds_are_told_by_nine_digits_or_a_point():
    # Read as ISO 8601, the first one would be a moment of the year 1701.
    assert read_moment("17010123010.5") == 17010123010.5
    assert read_moment("123456789") == 123456789
    assert read_moment("-123456789") == -123456789
    assert read_moment("7.5") == 7.5
    assert read_moment("4e9") == 4e9


@pytest.mark.parametrize(
    "text",
    ["", "noon", "2026", "202611", "2026331", "20261301", "-20261127", "0", "1_767_225_600", "nan",
     "inf", "2026-13-01", "٢٠٢٦١١٢٧", "2026-11"],
)  # fmt: skip
def test_what_is_neither_is_refused_by_both_names(text):
    with pytest.raises(ConfigError, match=r"such as 2026-10-05T14:30, or seconds .* such as 1791"):
        read_moment(text)


@pytest.mark.parametrize("text", ["1767225600000", "202611271430", "-1e11", "1e999"])
def test_milliseconds_are_called_that(text):
    with pytest.raises(ConfigError, match="of milliseconds give the thousandth part"):
        read_moment(text)


def test_the_example_of_the_message_is_one_moment():
    assert read_moment("2026-10-05T14:30") == read_moment("1791210600")
