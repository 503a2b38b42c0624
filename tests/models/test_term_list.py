import random
import time
from pathlib import Path

import pytest

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.packs import load_pack
from curate.models.term_list import Term, TermList, fold, load_term_list, read_terms

# Harmless stand-ins for what such lists hold.
LINES = """# a comment
turnip
mashed turnip
caf\u00e9 noir
rub-a-dub
salt & pepper
no:slutt
\u83dc\u82b1
\u0e1c\u0e31\u0e01
\u0433\u0440\u0438\u0431
\u092e\u0942\u0932\u0940
\U0001f955
"""


@pytest.fixture
def terms(tmp_path: Path) -> TermList:
    path = tmp_path / "terms.txt"
    path.write_text(LINES, encoding="utf-8")
    return load_term_list(ModelRef(kind="term_list", paths=(path,)))


@pytest.mark.parametrize(
    "text",
    [
        "a turnip",
        "TURNIP!",
        "(turnip)",
        "my_turnip_01.jpg",
        "t\u00fcrnip",
        "tur\u200bnip",
        "tu\u00adrnip",
        "\uff54\uff55\uff52\uff4e\uff49\uff50",  # full-width letters
        "rub a dub",
        "rub-a-dub",
        "salt & pepper on the table",
        "cafe noir",
        "CAFE\u0301 NOIR",
        "\u767d\u83dc\u82b1\u5728\u684c\u4e0a",
        "\u0e2a\u0e27\u0e19\u0e1c\u0e31\u0e01\u0e2a\u0e14",
        "\u0411\u0435\u043b\u044b\u0439 \u0413\u0420\u0418\u0411",
        "\u0932\u093e\u0932 \u092e\u0942\u0932\u0940",
        "yum\U0001f955",
    ],
)
def test_a_term_is_found(terms: TermList, text: str) -> None:
    assert terms.count(text).num_terms == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turnips",
        "return ip",
        "overturnip",
        "tur nip",
        "rub a. Dub",
        "salt, pepper",
        "the cafe. Noir films",
        "\u0433\u0440\u0438\u0431\u044b",
        "\u092e\u0942\u0932",
        "\u83dc \u82b1",
    ],
)
def test_parts_of_words_and_of_terms_are_not_found(terms: TermList, text: str) -> None:
    assert terms.count(text).num_terms == 0


def test_the_longest_term_counts_once(terms: TermList) -> None:
    found = terms.count("Mashed turnip and turnip")
    assert found.num_terms == 2
    assert found.terms_frac == pytest.approx((12 + 6) / 21)


@pytest.mark.parametrize(("language", "count"), [("no", 1), ("sv", 0), (None, 1)])
def test_a_term_of_one_language_counts_there_or_where_none_was_measured(
    terms: TermList, language: str | None, count: int
) -> None:
    assert terms.count("det er slutt", language).num_terms == count


def test_a_term_of_all_languages_counts_in_each(terms: TermList) -> None:
    assert terms.count("turnip", "ja").num_terms == 1


def test_folding_keeps_vowel_signs() -> None:
    assert fold("\u092e\u0942\u0932\u0940") == "\u092e\u0942\u0932\u0940"
    assert fold("\u0130\u00c9\u00df") == "iess"


def test_matches_are_those_of_a_plain_search() -> None:
    """An oracle: every run of words against every term, the longest first, left to right."""
    rng = random.Random(3)
    words = ["oak", "elm", "ash", "fir", "yew"]
    listed = [("oak",), ("oak", "elm"), ("ash", "fir", "yew"), ("fir", "fir")]
    terms = TermList([Term(text=" ".join(term)) for term in listed])
    for _ in range(300):
        text = [rng.choice(words) for _ in range(rng.randrange(12))]
        index = expected = 0
        while index < len(text):
            lengths = [len(t) for t in listed if tuple(text[index : index + len(t)]) == t]
            expected += bool(lengths)
            index += max(lengths, default=1)
        assert terms.count(" ".join(text)).num_terms == expected


def test_the_shipped_list_has_its_terms_and_its_licence() -> None:
    ref = load_pack("toy")["toxic_terms"]
    assert len(load_term_list(ref)) == 403
    assert "CC BY 4.0" in ref.paths[0].read_text(encoding="utf-8")


def test_the_shipped_list_leaves_colours_of_spanish_alone() -> None:
    terms = load_term_list(load_pack("toy")["toxic_terms"])
    assert terms.count("un c\u00edrculo rojo sobre fondo negro", "es").num_terms == 0


def test_a_byte_order_mark_and_empty_lines_are_no_terms(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes("\ufeffturnip\r\n\r\n  swede  \r\n".encode())
    assert [term.text for term in read_terms(path)] == ["turnip", "swede"]


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"\xff\xfe\x00", b"\n\n"])
def test_a_file_without_terms_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"terms\.txt: must"):
        read_terms(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="one term a line"):
        read_terms(tmp_path / "none.txt")


@pytest.mark.parametrize("text", ["turnip " * 15_000, "x" * 100_000, "\u83dc" * 100_000])
def test_absurd_captions_are_measured_quickly(terms: TermList, text: str) -> None:
    start = time.process_time()
    terms.count(text)
    assert time.process_time() - start < 2
