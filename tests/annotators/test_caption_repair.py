import random
import time
import unicodedata

import pytest
from PIL import Image

from curate.annotators.annotator import Batch
from curate.annotators.caption_repair import MAX_CHARACTERS, CaptionRepair, repair_caption


@pytest.mark.parametrize(
    ("broken", "repaired"),
    [
        ("Caf\u00c3\u00a9", "Caf\u00e9"),
        ("l\u00e2\u20ac\u2122amour", "l\u2019amour"),
        ("sch\u0102\u00b6n", "sch\u00f6n"),
        ("\u00d0\u00ba\u00d0\u00be\u00d1\u201a", "\u043a\u043e\u0442"),
        ("valentine&#39;s day", "valentine's day"),
        ("valentine&amp;#39;s  day\n   roses ", "valentine's day roses"),
        ("R&amp;amp;amp;D", "R&D"),
        ("<b>red</b>, circle<br/>blue", "red, circle blue"),
        ("&lt;b&gt;red&lt;/b&gt;", "red"),
        ('I <a href="x" class=y>love</a> it', "I love it"),
        ("cafe\u0301", "caf\u00e9"),
        ("zero\u200bwidth \ufeffmark soft\u00adhyphen", "zerowidth mark softhyphen"),
        ("left\u202eright\u202c \u2066a\u2069", "leftright a"),
        ("bell\x07 null\x00 escape\x1b[31m", "bell null escape"),
        ("a\u00a0b\u3000c\u2028d\te", "a b c d e"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("\ufb01sh", "fish"),
    ],
)
def test_what_is_broken_is_repaired(broken: str, repaired: str) -> None:
    assert repair_caption(broken) == repaired


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "AT&T",
        "a < b and c > d",
        "x<y and y>z",
        "<3 you",
        "\u201cquoted\u201d \u2013 it\u2019s",
        "\uff0c\u7ea2\u8272\u5706\u5f62",  # full-width comma
        "\U0001f468\u200d\U0001f469",  # a family, joined
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian with its non-joiner
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England's flag
        "\u0915\u094d\u200d\u0937",  # Devanagari with a joiner
        "na\u00efve caf\u00e9 \u00c3 la",
    ],
)
def test_what_is_right_stays(text: str) -> None:
    assert repair_caption(text) == text


_MARKUP = (
    "&amp; &lt; &gt; &#39; &quot; &nbsp; &eacute; &Eacute; &#x1F600; &#128; amp; #39; lt; & ; < > "
    "= / b <b> </b> <br/> <img A z 1"
)
_PIECES = [
    *_MARKUP.split(),
    " ", "\n", "\u00a0", "\u2028", "\u00c3\u00a9", "\u00e2\u20ac\u2122", "\u00e2\u20ac\u201c",
    "\u00c3", "\u00a9", "\u00e9", "e\u0301", "\u0301", "\u200b", "\u200d", "\ufeff", "\x00", "\x85",
    "\x9d", "\x1b[31m", "\ud800", "\ufffd", "\u00ef\u00bf\u00bd", "\U0001f600", "\U0001f3f4",
    "\U000e0067", "\U000e007f", "\u7ea2", "\u3000", "\uff0c", "\u202e", "\u201c", "\ufb01",
    "\u00c2\u00a0", "\u0440\u045f", "\u00e4\u00ba\u00ba",
]  # fmt: skip


def test_to_repair_twice_changes_nothing() -> None:
    rng = random.Random(4)
    for _ in range(8000):
        text = "".join(rng.choices(_PIECES, k=rng.randrange(15)))
        repaired = repair_caption(text)
        assert repair_caption(repaired) == repaired, ascii(text)
        assert unicodedata.is_normalized("NFC", repaired)
        assert repaired == " ".join(repaired.split())


def test_to_repair_twice_changes_nothing_in_any_characters() -> None:
    rng = random.Random(5)
    ranges = [(0x20, 0x7F), (0, 0x250), (0, 0x3000), (0, 0xD800), (0xE000, 0x110000)]
    for _ in range(8000):
        letters = (rng.randrange(*rng.choice(ranges)) for _ in range(rng.randrange(30)))
        repaired = repair_caption("".join(map(chr, letters)))
        assert repair_caption(repaired) == repaired


def test_any_depth_of_escapes_is_undone() -> None:
    assert repair_caption("&" + "amp;" * 900 + "lt;3") == "<3"


def test_a_long_caption_is_cut() -> None:
    repaired = repair_caption("a " * 5000)
    assert len(repaired) <= MAX_CHARACTERS
    assert repair_caption(repaired) == repaired


@pytest.mark.parametrize(
    "text",
    [
        "\u00c3\u00a9" * 50_000,
        "&amp;" * 20_000,
        "<b " * 30_000,
        "<a" + " a" * 50_000,
        "<" * 100_000,
    ],
)
def test_absurd_captions_are_repaired_quickly(text: str) -> None:
    start = time.process_time()
    repair_caption(text)
    assert time.process_time() - start < 1


def test_white_space_alone_is_not_broken() -> None:
    captions = ["a  cat\n", "cafe\u0301", "a cat", "", "R&amp;D", "a\u200bcat", "x" * 5000]
    image = Image.new("RGB", (8, 8))
    batch = Batch(
        keys=list("abcdefg"), images=[image] * len(captions), captions=captions, columns={}
    )
    annotator = CaptionRepair()
    annotator.setup()
    found = annotator(batch)
    assert set(found) == set(annotator.columns)
    assert list(found["caption_repair.text"])[:6] == [
        "a cat", "caf\u00e9", "a cat", "", "R&D", "acat"
    ]  # fmt: skip
    assert list(found["caption_repair.was_broken"]) == [False] * 4 + [True] * 3
