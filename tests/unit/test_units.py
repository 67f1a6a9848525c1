"""Sizes, as they are told and as they are read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgsluice.errors import UsageError
from pgsluice.units import bytes_of, seconds_of, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_a_size_is_told_as_a_person_reads_it(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096 B", 4096),
        ("500 MB", 500 << 20),
        ("500MiB", 500 << 20),
        (" 10gb\n", 10 << 30),
        ("1.5TiB", 3 << 39),
        ("2K", 2048),
        ("2kb", 2048),
        ("0.5k", 512),
        ("1.9", 1),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize(
    "text", ["", " ", "MB", "-1", "1,5 GB", "1 PB", "1e3", "10 GB a day", ".5 GB", "5. GB", "0x10", "inf", "nan", "1_0"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        bytes_of(text)
    assert caught.value.message == f"{text!r} is not a size"
    assert caught.value.hint == "Write a number of bytes with its unit: 500MB, 10GB."


@given(st.text() | st.from_regex(r"[0-9.]+ ?[kmgtKMGTiIbB]*"))
@example("²")
@example("٣ MB")
def test_whatever_is_written_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert bytes_of(text) >= 0


@pytest.mark.parametrize("text", ["9" * 400, f"{'9' * 5000} TB"])
def test_a_number_of_any_length_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert bytes_of(text) >= 0


@given(st.integers(0, 1 << 62))
@example((1 << 53) + 1)
def test_a_number_of_bytes_is_read_to_the_byte(count: int) -> None:
    assert bytes_of(f"{count} B") == bytes_of(f"{count}") == count


@given(st.integers(0, 1023), st.sampled_from([*enumerate(("B", "KiB", "MiB", "GiB", "TiB"))]))
def test_a_size_is_read_back_from_how_it_is_told(count: int, unit: tuple[int, str]) -> None:
    power, name = unit
    told = size(count * 1024**power)
    assert count == 0 or told.endswith(f" {name}")
    assert bytes_of(told) == count * 1024**power


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), (" 7 D ", 604_800), ("0.5s", 0.5)]
)
def test_a_span_is_read_as_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1e3", "1w", "1h30m", "inf", "nan", "9" * 400])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a span of time"):
        seconds_of(text)
