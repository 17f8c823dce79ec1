"""What is read from a delivery, in the short ways that most deliveries take, is what the long ways read."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.delivery import digest_of, key
from receiver.reading import clean
from receiver.times import from_text

quick = hypothesis_settings(max_examples=300, deadline=None, database=None)


@quick
@given(st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_of_twilio_is_read_as_the_standard_library_reads_it(time):
    text = format_datetime(time)

    assert from_text(text) == parsedate_to_datetime(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Fri, 20 Nov 2026 10:00:00 -0800", datetime(2026, 11, 20, 18, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 10:00:00 GMT", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("Sun, 20 Nov 2026 10:00:00 +0000", datetime(2026, 11, 20, 10, tzinfo=UTC)),  # a Friday
        ("Fri, 31 Feb 2026 10:00:00 +0000", None),
        ("Fri, 20 Nox 2026 10:00:00 +0000", None),
        ("Fri, 20 Nov 2026 24:00:00 +0000", None),
        ("Fri, 20 Nov 1969 10:00:00 +0000", None),
        ("", None),
    ],
)
def test_other_times_are_read_with_their_zone_or_not_at_all(text, time):
    assert from_text(text) == time


@quick
@given(st.lists(st.one_of(st.none(), st.text("a:/\n", max_size=4)), max_size=4))
def test_a_key_is_readable_only_where_its_parts_can_be_told_apart(parts):
    present = [text for text in parts if text]
    plain = ":".join(present)
    clear = plain.isprintable() and not any(":" in text for text in present)

    assert key(*parts) == (plain if clear else digest_of(json.dumps(present).encode()))


@quick
@given(st.text(st.one_of(st.characters(), st.sampled_from("\0\ud800\udfff"))))
def test_text_is_cleaned_of_what_postgresql_can_not_hold_and_of_nothing_else(text):
    held = "".join("\ufffd" if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text)

    assert clean(text) == held
