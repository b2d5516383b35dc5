"""What a URL must look like, and what a data: URL holds."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import InvalidRequestError
from gemmad.media.urls import (
    MAX_DATA_URL_LENGTH,
    MAX_URL_LENGTH,
    decode_data_url,
    require_sane,
    scheme_of,
    shown,
)

PLENTY = 1 << 20


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("data:,x", "data"), ("DATA:,x", "data"), ("http://h/", "http"), ("HTTPS://h/", "https"), (" http://h", "http")],
)
def test_three_schemes_are_taken(url: str, scheme: str) -> None:
    """data:, http: and https: are told apart, whatever their case."""
    assert scheme_of(url) == scheme


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "blob", "javascript", "httpx", "view-source"])
def test_other_schemes_are_refused_by_name(scheme: str) -> None:
    """The error names the scheme that was sent."""
    with pytest.raises(InvalidRequestError, match=f"begins with {scheme}:") as caught:
        scheme_of(f"{scheme}:///etc/passwd")
    assert caught.value.code == "invalid_image_url"
    assert "passwd" not in caught.value.message


@pytest.mark.parametrize("url", ["", "/etc/passwd", "//host/cat.png", "cat.png", ":", "iVBORw0KGgo="])
def test_what_has_no_scheme_is_refused(url: str) -> None:
    """A bare path, a bare host and bare base64 are no URLs."""
    with pytest.raises(InvalidRequestError, match="must begin with data:, http: or https:"):
        scheme_of(url)


def test_an_error_shows_little_of_a_url() -> None:
    """A long URL is cut at a hundred characters, a data: URL not shown at all."""
    assert shown("http://h/" + "a" * 500) == repr("http://h/" + "a" * 91 + "…")
    assert shown("data:image/png;base64,SECRET") == "'data:…'"
    assert shown("  DATA:image/png;base64,SECRET") == "'data:…'"


def test_lengths_are_bounded() -> None:
    """A URL to fetch fits what servers take, a data: URL what a frame holds."""
    require_sane("http://h/" + "a" * (MAX_URL_LENGTH - 9))
    require_sane("data:," + "a" * (MAX_DATA_URL_LENGTH - 6))
    with pytest.raises(InvalidRequestError, match=f"the limit is {MAX_URL_LENGTH}"):
        require_sane("http://h/" + "a" * (MAX_URL_LENGTH - 8))
    with pytest.raises(InvalidRequestError, match=f"the limit is {MAX_DATA_URL_LENGTH}"):
        require_sane("data:," + "a" * (MAX_DATA_URL_LENGTH - 5))


def test_characters_that_cannot_be_sent_are_refused() -> None:
    """Surrogates and, in a data: URL, whatever is not ASCII."""
    with pytest.raises(InvalidRequestError, match="half a character"):
        require_sane("http://h/\ud800")
    with pytest.raises(InvalidRequestError, match="not ASCII"):
        require_sane("data:image/png;base64,ü")
    require_sane("http://münchen.example/ü.png")


@given(st.binary(max_size=200), st.sampled_from(["image/png", "", "text/html;charset=x", "nonsense"]))
def test_base64_comes_back(data: bytes, media_type: str) -> None:
    """What was encoded is decoded, whatever type it is said to be."""
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    assert decode_data_url(url, max_bytes=PLENTY) == data


@given(st.binary(max_size=200))
def test_browsers_leniency_is_ours(data: bytes) -> None:
    """Whitespace, %-escapes, missing padding and a capital BASE64 do no harm."""
    encoded = base64.b64encode(data).decode()
    spaced = " \r\n".join(encoded[start : start + 7] for start in range(0, len(encoded), 7))
    for payload in (spaced, quote(encoded, safe=""), quote(spaced), encoded.rstrip("=")):
        assert decode_data_url("data:image/png;BASE64 ," + payload, max_bytes=PLENTY) == data


@given(st.binary(max_size=200))
def test_escaped_bytes_come_back(data: bytes) -> None:
    """A data: URL need not be base64."""
    assert decode_data_url("data:image/png," + quote(data), max_bytes=PLENTY) == data


@pytest.mark.parametrize("payload", ["====A", "AA=A", "A", "AAAAA", "AA-_", "AA*A", "AAAA==AAAA", "Zm9v\0"])
def test_other_alphabets_are_refused(payload: str) -> None:
    """base64 is held to its alphabet, its padding to its end, and its length to what bytes can have."""
    with pytest.raises(InvalidRequestError, match="not valid base64") as caught:
        decode_data_url("data:image/png;base64," + payload, max_bytes=PLENTY)
    assert caught.value.code == "invalid_base64_image"


def test_a_url_without_a_comma_is_refused() -> None:
    """There must be data after something."""
    with pytest.raises(InvalidRequestError, match="no comma"):
        decode_data_url("data:image/png;base64", max_bytes=PLENTY)


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 4])
def test_no_more_bytes_than_the_limit(extra: int) -> None:
    """At the limit it passes, over it it is refused, before it is decoded where base64 tells its size."""
    for url in (
        "data:;base64," + base64.b64encode(bytes(100 + extra)).decode(),
        "data:," + quote(bytes(100 + extra)),
    ):
        if extra == 0:
            assert len(decode_data_url(url, max_bytes=100)) == 100
        else:
            with pytest.raises(InvalidRequestError, match=f"{100 + extra} bytes; the limit is 100") as caught:
                decode_data_url(url, max_bytes=100)
            assert caught.value.code == "image_file_too_large"


@given(st.text(max_size=300))
def test_no_text_makes_it_stumble(text: str) -> None:
    """Any string at all is bytes or an InvalidRequestError."""
    for url in (text, "data:" + text, "data:;base64," + text):
        message = ""
        try:
            require_sane(url)
            if scheme_of(url) == "data":
                decode_data_url(url, max_bytes=64)
        except InvalidRequestError as error:
            message = error.message
        assert len(message) < 300
