from __future__ import annotations

import contextlib
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.quantities import check_host_name, check_origin, parse_bytes, parse_duration, parse_time_of_day


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("1.5GiB", 3 << 29),
        (" 2 GB ", 2_000_000_000),
        ("3Ti", 3 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are binary by default, decimal with a plain B, and exact however large."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "1 apple", "-1", "1e3", "1.GiB", "0x10", "1PiB", "1 2", "inf", "nan"])
def test_what_is_no_size(text: str) -> None:
    """What is no size is refused with an example of one."""
    with pytest.raises(ValueError, match="512MiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        ("2d", 172800.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("1M", 60.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations add their parts; a bare number is seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 apples", "5s later", "1w", "--5s", "5ss"])
def test_what_is_no_duration(text: str) -> None:
    """What is no duration is refused with an example of one."""
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "time"),
    [("4:00", "04:00"), ("23:59", "23:59"), (" 00:00 ", "00:00"), (datetime.time(4, 30), "04:30")],
)
def test_times_of_day(value: object, time: str) -> None:
    """Hours and minutes, as text or as TOML's own local time."""
    assert parse_time_of_day(value) == time


@pytest.mark.parametrize("value", ["", "24:00", "4", "4:5", "04:00:30", "4am", 4, None, datetime.time(4, 0, 30)])
def test_what_is_no_time_of_day(value: object) -> None:
    """What is none is refused with an example of one."""
    with pytest.raises(ValueError, match="04:00"):
        parse_time_of_day(value)


@given(st.one_of(st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.integers())))
def test_what_is_no_text_is_left_to_the_schema(value: object) -> None:
    """Only text is parsed; any other value is the schema's to judge."""
    assert parse_bytes(value) is value
    assert parse_duration(value) is value


@given(st.text())
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    """No text, however long or strange, does anything but parse or raise ValueError."""
    for parse in (parse_bytes, parse_duration):
        with contextlib.suppress(ValueError):
            parse(text)


@given(st.integers(min_value=0, max_value=10**400), st.sampled_from(["", "B", "KiB", "MB", "T"]))
def test_sizes_of_any_length_parse(number: int, unit: str) -> None:
    """A number with very many digits is a size too; whether it makes sense is for the schema's bounds."""
    assert parse_bytes(f"{number}{unit}") >= number


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://chat.example.com", "https://chat.example.com"),
        ("HTTP://LocalHost:3000", "http://localhost:3000"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "*"),
    ],
)
def test_origins(text: str, origin: str) -> None:
    """An origin is a scheme, a host and maybe a port, as browsers send it."""
    assert check_origin(text) == origin


@pytest.mark.parametrize(
    "text", ["", "chat.example.com", "https://", "https://a/b", "https://a/", "https://a:x", "null"]
)
def test_what_is_no_origin(text: str) -> None:
    """A path, or a missing scheme, would never match anything: it is a mistake."""
    with pytest.raises(ValueError, match="is not an origin"):
        check_origin(text)


@pytest.mark.parametrize("text", ["gpu.example.com", "*.example.com", "GPU", "10.0.0.1", "[::1]", "*"])
def test_names_of_hosts(text: str) -> None:
    """A name, an address, all names below one, or any."""
    assert check_host_name(text) == text.lower()


@pytest.mark.parametrize("text", ["", "http://gpu", "gpu:80", "a b", "*x", "a.*", "gpu/"])
def test_what_is_no_name_of_a_host(text: str) -> None:
    """With a scheme, a port or a path it would never match anything: it is a mistake."""
    with pytest.raises(ValueError, match="is not the name of a host"):
        check_host_name(text)
