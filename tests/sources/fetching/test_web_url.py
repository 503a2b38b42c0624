"""URLs are fetched in the form that browsers give them."""

from __future__ import annotations

import pytest

from curate.sources.fetching.web_url import MAX_URL_BYTES, read_web_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a.test", "http://a.test/"),
        ("HTTP://A.Test/B.jpg", "http://a.test/B.jpg"),
        (" \n http://a.test/1.jpg\t\x00", "http://a.test/1.jpg"),
        ("http://a.te\nst/1\t.jpg", "http://a.test/1.jpg"),
        ("http://a.test/a b.jpg", "http://a.test/a%20b.jpg"),
        ("http://a.test/a%20b%2fc%zz.jpg", "http://a.test/a%20b%2fc%zz.jpg"),
        ("http://a.test/\u00fc/\u4e2d.jpg", "http://a.test/%C3%BC/%E4%B8%AD.jpg"),
        ('http://a.test/<a>"`{}.jpg', "http://a.test/%3Ca%3E%22%60%7B%7D.jpg"),
        ("http://a.test/a\x01b", "http://a.test/a%01b"),
        ("http://a.test\\1.jpg", None),
        ("http://a.test/b\\1.jpg", "http://a.test/b/1.jpg"),
        ("http://a.test/1.jpg#top", "http://a.test/1.jpg"),
        ("http://a.test?q=\u00fc b'<>", "http://a.test/?q=%C3%BC%20b%27%3C%3E"),
        ("http://a.test/1?a=b&c=%2F+d;e|f", "http://a.test/1?a=b&c=%2F+d;e|f"),
        ("http://b\u00fccher.test/", "http://xn--bcher-kva.test/"),
        ("http://stra\u00dfe.test/", "http://xn--strae-oqa.test/"),
        ("http://i\u2764.test/", "http://xn--i-7iq.test/"),
        ("http://\u4f8b\u3048.\u30c6\u30b9\u30c8/1", "http://xn--r8jz45g.xn--zckzah/1"),
        ("http://under_score.test/", "http://under_score.test/"),
        ("https://a.test:8443/1", "https://a.test:8443/1"),
        ("http://[2001:DB8::1]:80/1", "http://[2001:db8::1]:80/1"),
        ("http://user:p%40ss@a.test/", "http://user:p%40ss@a.test/"),
    ],
)
def test_a_url_is_written_as_browsers_do(text: str, url: str | None) -> None:
    found = read_web_url(text)
    assert (found.url or None) == url
    assert bool(found.refusal) == (url is None)
    assert found.url.isascii()


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", "must be given"),
        ("ftp://a.test/1.jpg", "scheme must be http or https, got ftp"),
        ("a.test/1.jpg", "scheme must be http or https, got none"),
        ("http:1.jpg", "host must be given"),
        ("http://../1.jpg", "host must be given"),
        ("http://a%00.test/", "host must be a name or an address"),
        ("http://a.test:80:80/", "Port could not be cast"),
        ("http://caf\ufffd.test/", "must be UTF-8"),
        ("http://a.test/" + "x" * MAX_URL_BYTES, f"at most {MAX_URL_BYTES} bytes"),
    ],
)
def test_a_refusal_says_why(text: str, refusal: str) -> None:
    found = read_web_url(text)
    assert found.url == found.host == ""
    assert refusal in found.refusal


def test_the_host_is_given_in_ascii_and_lower_case() -> None:
    assert read_web_url("http://user@B\u00fccher.test:80/1").host == "xn--bcher-kva.test"
    assert read_web_url("http://[::FFFF:1.2.3.4]/").host == "::ffff:1.2.3.4"
