"""Every way to write an address inside a network is recognised; public ones pass."""

from __future__ import annotations

import ipaddress

import pytest

from curate.core.errors import SampleError
from curate.sources.fetching.addresses import kind_of_address, kind_of_name
from curate.sources.fetching.targets import BAD_PORTS, parse_redirect, parse_target

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.100.100.200", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.9", "168.63.129.16", "192.88.99.1",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1",
    "::8.8.8.8", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1",
    "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1", "3fff::1", "5f00::1", "4000::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "11.0.0.1",
    "223.255.255.255", "2606:4700::1111", "2a00:1450:4001:829::200e", "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("text", PRIVATE)
def test_a_special_address_is_named(text: str) -> None:
    assert kind_of_address(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_passes(text: str) -> None:
    assert kind_of_address(ipaddress.ip_address(text)) == ""


def test_the_table_agrees_with_the_standard_library_over_the_whole_ipv4_space() -> None:
    for number in range(0, 2**32, 2**32 // 20_000 + 7):
        address = ipaddress.IPv4Address(number)
        is_public = address.is_global and not address.is_multicast
        assert (kind_of_address(address) == "") == is_public, address


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://2130706433/", "http://0177.0.0.1/", "http://0x7f.0.0.1/",
        "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://127.0.1/",
        "http://0/", "http://127.0.0.1./", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[0:0:0:0:0:0:0:1]/",
        "http://[fe80::1%25eth0]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
        "http://localhost/", "http://LOCALHOST./", "http://a.localhost/", "http://printer.local/",
        "http://metadata.google.internal/", "http://intranet/", "http://router.home.arpa/",
        "http://169.254.169.254/latest/meta-data/", "http://100.100.100.200/", "http://10.0.0.1:8080/",
        "http://\uff11\uff12\uff17.0.0.1/", "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
        "http://127\u30020\u30020\u30021/", "HTTP://0X7F.1/", "  http://127.0.0.1/  ",
    ],
)  # fmt: skip
def test_every_spelling_of_a_private_host_is_refused(url: str) -> None:
    with pytest.raises(SampleError) as caught:
        parse_target(url, allow_private=False)
    assert caught.value.status == "private_address"
    assert parse_target(url, allow_private=True).raw_host


@pytest.mark.parametrize(
    "url",
    [
        "", "a.jpg", "//a.test/x", "file:///etc/passwd", "ftp://a.test/x",
        "data:image/png;base64,AA", "gopher://a.test/", "javascript:alert(1)", "http://",
        "http:///x", "http://a b.test/",
        "http://user@a.test/", "http://a.test@127.0.0.1/", "http://:pw@a.test/",
        "http://good.test\\@127.0.0.1/", "http://a.test:99999/", "http://a.test:x/",
        "http://127.0.0.1%00.a.test/", "http://ex%61mple.test/", "http://256.256.256.256/",
        "http://1.2.3.4.5/", "http://a.0x7f/", "http://[::1/", "http://[::g]/",
        "http://a.test/\nHost: b", "http://a.test/\x00", "http://..../", "http://" + "a" * 9000,
        "http://" + "a." * 130 + "test/",
    ],
)  # fmt: skip
def test_what_is_no_plain_web_url_is_refused(url: str) -> None:
    with pytest.raises(SampleError) as caught:
        parse_target(url, allow_private=True)
    assert caught.value.status == "bad_url"


def test_ports_of_other_protocols_are_refused_and_others_pass() -> None:
    for port in BAD_PORTS:
        with pytest.raises(SampleError, match="bad_port"):
            parse_target(f"http://a.test:{port}/", allow_private=True)
    for port in (80, 443, 8080, 8443, 3000):
        assert parse_target(f"http://a.test:{port}/", allow_private=False).port == port


def test_a_url_is_requested_encoded_without_fragment_and_with_a_plain_address() -> None:
    url = parse_target(" http://A.test/a b/\u00fc.jpg?q=\u00e9#part ", allow_private=False)
    assert str(url) == "http://a.test/a%20b/%C3%BC.jpg?q=%C3%A9"
    assert parse_target("http://134744072/x", allow_private=False).host == "8.8.8.8"


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("file:///etc/passwd", "bad_redirect"), ("ftp://a.test/", "bad_redirect"),
        ("http://", "bad_redirect"), ("http://a@b.test/", "bad_redirect"), ("", "bad_redirect"),
        ("http://a.test:22/", "bad_redirect"), ("http://127.1/", "private_address"),
        ("//127.0.0.1/x", "private_address"), ("https://[::1]/", "private_address"),
    ],
)  # fmt: skip
def test_a_redirect_is_checked_like_a_url(place: str, status: str) -> None:
    base = parse_target("https://pics.test/a/b.jpg", allow_private=False)
    with pytest.raises(SampleError) as caught:
        parse_redirect(base, place, allow_private=False)
    assert caught.value.status == status


def test_a_relative_redirect_stays_with_its_host() -> None:
    base = parse_target("https://pics.test/a/b.jpg", allow_private=False)
    for place, expected in [
        ("c.jpg", "https://pics.test/a/c.jpg"),
        ("/c.jpg", "https://pics.test/c.jpg"),
        ("//cdn.test/c.jpg", "https://cdn.test/c.jpg"),
        ("?size=2", "https://pics.test/a/b.jpg?size=2"),
        ("http://pics.test/c.jpg", "http://pics.test/c.jpg"),
    ]:
        assert str(parse_redirect(base, place, allow_private=False)) == expected


def test_names_of_the_public_dns_pass() -> None:
    assert [kind_of_name(name) for name in ("a.com", "x.y.co.uk.", "localhost.com")] == ["", "", ""]
