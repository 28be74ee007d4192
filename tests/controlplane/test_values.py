"""Durations and quantities: what users write, and what the API server makes of it."""

import pytest

from endpoint_operator.api import values


@pytest.mark.parametrize(
    ("text", "expected"), [("0s", 0), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("24h", 86400)]
)
def test_a_duration_is_read_as_seconds(text: str, expected: int) -> None:
    assert values.seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "3 days", "1d", "-5m", "1.5h", "10m\n", "999999h999999h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        values.seconds(text)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("4", "4"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("2.0", "2"),
        ("1000", "1k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("4000M", "4G"),
        ("1048576", "1048576"),
        ("0", "0"),
        ("0Gi", "0"),
        (".5", "500m"),
        ("1024Ti", "1Pi"),
        ("2Ei", "2Ei"),
        ("1000T", "1P"),
        ("1E", "1E"),
        ("1e9", "1G"),
        ("1.5E3", "1500"),
        ("9000P", "9E"),
        ("16Ei", "9223372036854775807"),
        ("1e99", "9223372036854775807"),
    ],
)
def test_a_quantity_is_written_as_the_api_server_stores_it(text: str, stored: str) -> None:
    assert values.canonical_quantity(text) == stored


@pytest.mark.parametrize("text", ["", "1XB", "-1", "1 Gi", "1e", "1e-3", "1KiB", "1K", ".", "0x1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        values.amount(text)
