"""What a person may type for a duration or a rate."""

from datetime import timedelta

import pytest

from processor.duration import duration, rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1800), ("2h", 7200), ("90d", 7_776_000), ("0s", 0), ("36500d", 36500 * 86400)],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5h", "1 d", "1w", "1D", "٣d", "1d2h", "36501d", "9999999999d"]
)
def test_anything_else_is_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match=r"expected .*, got '"):
        duration(text)


@pytest.mark.parametrize(("text", "per_second"), [("20/s", 20), ("300/m", 5), ("1800/h", 0.5), ("1/h", 1 / 3600)])
def test_a_rate_is_so_many_a_second(text, per_second):
    assert rate(text) == per_second


@pytest.mark.parametrize("text", ["", "20", "20/d", "0/s", "-1/s", "20 /s", "1.5/s", "1000000/s1"])
def test_any_other_rate_is_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match=r"expected 20/s, 300/m or 1000/h, got '"):
        rate(text)
