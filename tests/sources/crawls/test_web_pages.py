"""Pages give their pictures as browsers would see them, whatever HTML and WAT records they have."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from curate.sources.config import IngestConfig
from curate.sources.crawls.charset import decode_page
from curate.sources.crawls.html_page import largest_candidate
from curate.sources.crawls.html_tags import flatten_page
from curate.sources.crawls.page import PageImage, join_url
from tests.sources.crawls.crawl_files import (
    html,
    links_of,
    make_warc,
    page_of,
    pairs_of,
    wat,
)

PAGE = """<!doctype html><html><head><base href="/shop/"><base href="/second/">
<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"></head><body>
<img src="cats/1.jpg" alt="a cat &amp; a dog &mdash; &quot;friends&quot;">
<p><IMG SRC='//cdn.test/2.png' ALT='  two
   lines  '></p>
<img src="../3.jpg?a=b c&amp;d=\u00fc#part" alt="three">
<img src="https://b\u00fccher.test/\u00e9t\u00e9 1.jpg" alt="four">
<img src="cats/1.jpg" alt="a cat &amp; a dog &mdash; &quot;friends&quot;">
<img src="no-alt.jpg"><img src="empty.jpg" alt=""><img src="space.jpg" alt=" &nbsp; ">
<img src="data:image/gif;base64,R0lGODlh" alt="inline"><img alt="no address">
<img src="javascript:void(0)" alt="script"><img src="ftp://a.test/x.jpg" alt="ftp">
<img src="data:image/gif;base64,R0" data-src="lazy.jpg" alt="lazy">
<noscript><img src="lazy.jpg" alt="lazy"></noscript>
<picture><source srcset="big.avif 2x"><img srcset="s.jpg 320w, l.jpg 1280w, m.jpg 640w"
 alt="set"></picture>
<template><img src="template.jpg" alt="template"></template>
<img src="back\\slash\\..\\6.jpg" alt="six"><!-- <img src="c.jpg" alt="comment"> -->
</body></html>"""


def test_links_are_resolved_encoded_and_filtered(tmp_path: Path) -> None:
    rows, counts = links_of(make_warc([html("http://a.test/dir/page.html", PAGE)]), tmp_path)
    assert [(row["url"], row["caption"]) for row in rows] == [
        ("http://a.test/shop/cats/1.jpg", 'a cat & a dog \u2014 "friends"'),
        ("http://cdn.test/2.png", "two lines"),
        ("http://a.test/3.jpg?a=b%20c&d=%C3%BC", "three"),
        ("https://xn--bcher-kva.test/%C3%A9t%C3%A9%201.jpg", "four"),
        ("http://a.test/shop/lazy.jpg", "lazy"),
        ("http://a.test/shop/l.jpg", "set"),
        ("http://a.test/shop/back/6.jpg", "six"),
    ]
    assert {row["page_url"] for row in rows} == {"http://a.test/dir/page.html"}
    assert {row["license"] for row in rows} == {"https://creativecommons.org/licenses/by/4.0/"}
    assert {row["status"] for row in rows} == {"ok"}
    assert counts == {
        "pages": 1, "in": 2, "dropped.repeated_link": 2, "images.no_alt": 3, "images.no_url": 1,
    }  # fmt: skip


def test_the_same_page_as_wat_gives_the_same_links(tmp_path: Path) -> None:
    links = [
        {"path": "A@/href", "url": "x.jpg", "alt": "a link", "text": "t"},
        {"path": "IMG@/src", "url": "cats/1.jpg", "alt": "a cat"},
        {"path": "IMG@/src", "url": "//cdn.test/2.png", "alt": "  two\n lines "},
        {"path": "IMG@/src", "url": "cats/1.jpg"},
        {"path": "IMG@/longdesc", "url": "long.html", "alt": "long"},
        {"path": "IMG@/src", "url": 5, "alt": ["x"]},
        {"path": "IMG@/src", "url": "s.jpg", "alt": "half \ud83d pair"},
        "no object",
    ]
    head = {"Base": "/shop/", "Link": [{"path": "LINK@/href", "url": "/cc", "rel": "License"}]}
    rows, counts = links_of(make_warc([wat("http://a.test/dir/", links, head)]), tmp_path)
    assert [(row["url"], row["caption"], row["license"]) for row in rows] == [
        ("http://a.test/shop/cats/1.jpg", "a cat", "http://a.test/cc"),
        ("http://cdn.test/2.png", "two lines", "http://a.test/cc"),
        ("http://a.test/shop/s.jpg", "half ? pair", "http://a.test/cc"),
    ]
    assert counts["images.no_alt"] == 1


@pytest.mark.parametrize("base", ["", "/shop/", "sub/", "https://b.test/x/y", "?q=1"])
@pytest.mark.parametrize(
    "src",
    ["a.jpg", "/a.jpg", "../a.jpg", "//c.test/a.jpg", "https://c.test/a.jpg", "?i=1", "a/./b.jpg"],
)
def test_wat_links_are_cc2dataset_s(base: str, src: str, tmp_path: Path) -> None:
    from urllib.parse import urljoin

    page = "http://a.test/dir/page.html"
    head = {"Base": base} if base else {}
    data = make_warc([wat(page, [{"path": "IMG@/src", "url": src, "alt": "x"}], head)])
    # Oracle: cc2dataset main.py, extract_documents_from_wat and make_link_absolute.
    expected = urljoin(urljoin(page, base) if base else page, src)
    assert pairs_of(data, tmp_path) == [(expected, "x")]


def test_pictures_without_alt_text_are_taken_on_request(tmp_path: Path) -> None:
    data = make_warc([html("http://a.test/", '<img src=1.jpg><img src=2.jpg alt="abc">')])
    for least, expected in ((0, ["", "abc"]), (1, ["abc"]), (4, [])):
        rows, _ = links_of(data, tmp_path, IngestConfig(alt_min_chars=least))
        assert [row["caption"] for row in rows] == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("a.jpg", "http://h.test/d/a.jpg"),
        (" \n a\tb.jpg ", "http://h.test/d/ab.jpg"),
        ("\\\\c.test\\a.jpg?x=\\", "http://c.test/a.jpg?x=\\"),
        ("http://h.test/a/../b/./c.jpg", "http://h.test/b/c.jpg"),
        ("http://h.test//a//b.jpg", "http://h.test//a//b.jpg"),
        ("HTTP://H.test/A.jpg", "http://H.test/A.jpg"),
        ("//[bad/a.jpg", ""),
    ],
)
def test_addresses_are_joined_as_browsers_do(address: str, expected: str) -> None:
    assert join_url("http://h.test/d/p.html", address) == expected


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a.jpg 320w, b.jpg 1280w,c.jpg 640w", "b.jpg"),
        ("a.jpg, b.jpg 1.5x", "b.jpg"),
        ("a,b.jpg 2x, c.jpg 2x", "a,b.jpg"),
        ("  a.jpg  ,", "a.jpg"),
        ("a.jpg 99999999999999999999w, b.jpg 2w", "b.jpg"),
        ("", ""),
        ("," * 3000, ""),
    ],
)
def test_the_largest_candidate_of_a_srcset_is_chosen(srcset: str, expected: str) -> None:
    assert largest_candidate(srcset) == expected


@pytest.mark.parametrize(
    ("text", "encoding", "type_", "head"),
    [
        ("\u65e5\u672c\u8a9e", "shift_jis", "text/html; charset=Shift_JIS", ""),
        ("\u65e5\u672c\u8a9e", "euc_jp", "text/html", '<meta charset="EUC-JP">'),
        ("\u043c\u0438\u0440", "cp1251", "text/html",
         '<meta http-equiv=Content-Type content="text/html; charset=windows-1251">'),
        ("\u20ac 5", "cp1252", "text/html; charset=iso-8859-1", ""),  # browsers' latin-1
        ("\u4e2d\u6587", "gb18030", "text/html; charset=gb2312", '<meta charset="utf-8">'),
        ("caf\u00e9", "utf-8", "text/html", ""),
        ("caf\u00e9", "latin-1", "text/html", ""),
        ("caf\u00e9", "utf-16", "text/html; charset=utf-8", ""),
        ("caf\u00e9", "utf-8", "text/html", '<meta charset="utf-16">'),
        ("caf\u00e9", "utf-8", "text/html; charset=rot13", ""),
        ("caf\u00e9", "utf-8", "text/html", '<!-- <meta charset="koi8-r"> -->'),
    ],
)  # fmt: skip
def test_alt_texts_are_read_in_their_charset(
    text: str, encoding: str, type_: str, head: str
) -> None:
    data = f"<html><head>{head}</head><img src=a.jpg alt='{text}'>".encode(encoding)
    assert page_of(html("http://a.test/", data, type_=type_)).images[0].alt == text


def test_bytes_of_no_charset_become_replacement_characters() -> None:
    assert decode_page(b"a\xffb", "text/html; charset=utf-8") == "a\ufffdb"


@pytest.mark.parametrize(
    ("headers", "head", "opt_out"),
    [
        ([], "", ""),
        ([("X-Robots-Tag", "noai, noimageai")], "", "noai"),
        ([("x-robots-tag", "otherbot: noindex, latentmill: noml")], "", "noml"),
        ([("X-Robots-Tag", "otherbot: noai")], "", ""),
        ([("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 UTC")], "", ""),
        ([("X-Robots-Tag", "unavailable_after: 1 Jan 2020 15:00:00 UTC")], "",
         "unavailable_after:1 jan 2020 15:00:00 utc"),
        ([("tdm-reservation", "1")], "", "tdm-reservation"),
        ([], '<meta name="robots" content="index, NOAI">', "noai"),
        ([], '<META NAME="Latentmill" CONTENT="noimageindex">', "noimageindex"),
        ([], '<meta name="googlebot" content="noindex">', ""),
        ([], '<meta name="robots" content="nofollow, max-image-preview:none">', ""),
        ([], '<meta name="tdm-reservation" content="1">', "tdm-reservation"),
        ([], '<meta name="robots" content="none">', "none"),
    ],
)  # fmt: skip
def test_pages_opt_out_in_every_form(
    headers: list[tuple[str, str]], head: str, opt_out: str, tmp_path: Path
) -> None:
    record = html("http://a.test/", f"<html>{head}<img src=a.jpg alt=x>", headers)
    assert page_of(record).opt_out == opt_out
    metas = [{"name": "x"}, *_metas(head)]
    answer = {name: [value, value] for name, value in headers}
    links = [{"path": "IMG@/src", "url": "a.jpg", "alt": "x"}]
    data = make_warc([wat("http://a.test/", links, {"Metas": metas}, answer)])
    (row,), _ = links_of(data, tmp_path)
    assert row["status"] == ("opted_out" if opt_out else "ok")
    assert row["error"] == (f"the page says {opt_out}" if opt_out else None)


def _metas(head: str) -> list[dict[str, str]]:
    nodes = LexborHTMLParser(head).css("meta")
    return [{name: value or "" for name, value in node.attributes.items()} for node in nodes]


def test_a_link_is_opted_out_when_one_of_its_pages_opts_out(tmp_path: Path) -> None:
    body = "<img src=http://c.test/a.jpg alt=x>"
    records = [
        html("http://a.test/", body),
        html("http://b.test/", f'<meta name=robots content="noai">{body}'),
        html("http://d.test/", body),
    ]
    (row,), counts = links_of(make_warc(records), tmp_path)
    assert (row["status"], row["page_url"]) == ("opted_out", "http://b.test/")
    assert counts["dropped.repeated_link"] == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<a href="http://creativecommons.org/licenses/by/2.0/">cc</a>',
         "http://creativecommons.org/licenses/by/2.0/"),
        ('<a href="//creativecommons.org/publicdomain/zero/1.0/">cc</a><a rel="nofollow License" '
         'href=terms>t</a>', "http://a.test/terms"),
        ('<a href="https://creativecommons.org/about/">cc</a>', ""),
    ],
)  # fmt: skip
def test_the_page_s_licence_is_kept(body: str, expected: str, tmp_path: Path) -> None:
    data = make_warc([html("http://a.test/", f"{body}<img src=a.jpg alt=x>")])
    (row,), _ = links_of(data, tmp_path)
    assert row["license"] == expected


@pytest.mark.parametrize(
    "bomb",
    [
        "<div>" * 400_000,
        "<a><b id=1><p>" * 100_000,  # lexbor's tree of 8,000 of them takes 11.5 GB
        "".join(f"<a><b id={index}><p>" for index in range(50_000)),
        "<table>" * 300_000,
        "<!--" * 500_000 + "-->",
        '<img ="' * 200_000 + ">",
        "<img " + " ".join(f"a{index}" for index in range(200_000)) + ">",
        "<x " + "=" * 1_000_000 + ">",
        "<x a= " + " " * 1_000_000 + ">",
        "<" * 1_000_000,
        "<img" * 500_000 + ">",
        "<img srcset='" + "," * 15_000 + "'>",
    ],
)
def test_hostile_html_takes_linear_time(bomb: str) -> None:
    start = time.process_time()
    page = page_of(html("http://a.test/", f"{bomb}<img src=a.jpg alt=behind>"))
    assert time.process_time() - start < 2
    assert page.images[-1] == PageImage(src="a.jpg", alt="behind")


@pytest.mark.parametrize(
    "body",
    [
        PAGE,
        """<img alt='a > b' src=1.jpg><img alt=it's src=2.jpg title="x'>"><img src='3.jpg'/>""",
        "<IMG\nSRC = 1.jpg\n ALT = 'x' ><img/src=2.jpg/alt=y><imgx src=3.jpg alt=z>",
        "<script>'<img src=1.jpg>'</SCRIPT ><img src=2.jpg alt=y><style><img src=3.jpg></style>",
        """<div data-x="<img src=1.jpg alt=x>" title='<img src=2.jpg>'><img src=3.jpg alt=z>""",
        "<!--><img src=1.jpg alt=x>--><!-- <img src=2.jpg alt=y> --!><img src=3.jpg alt=z>",
        "<img src=1.jpg?a=1&copy=2&amp;b=3 alt='&lt;b&gt; &eacute; &copy 2'>",
        "<title><img src=1.jpg></title><textarea><img src=2.jpg></textarea><img src=3.jpg alt=x>",
        "</p/><br/><img src=1.jpg alt=x alt=y src=2.jpg>< img src=3.jpg><img src=4.jpg alt=",
        "<noscript><img src=1.jpg alt=x></noscript><p><![CDATA[<img src=2.jpg alt=y>]]>",
    ],
)
def test_flat_pages_have_the_images_of_lexbor_s_tree(body: str) -> None:
    tree = LexborHTMLParser(f"<html><body>{body}")
    expected = [
        (node.attributes.get("src"), node.attributes.get("alt")) for node in tree.css("img")
    ]
    flat = LexborHTMLParser(flatten_page(f"<html><body>{body}"))
    assert [(n.attributes.get("src"), n.attributes.get("alt")) for n in flat.css("img")] == expected
    assert expected


def test_a_long_inline_picture_does_not_hide_the_lazy_one() -> None:
    tag = f'<img src="data:image/png;base64,{"A" * 100_000}" data-src="a.jpg" alt="lazy">'
    assert page_of(html("http://a.test/", tag)).images == [PageImage(src="a.jpg", alt="lazy")]
