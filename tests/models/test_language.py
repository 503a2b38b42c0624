import shutil
from pathlib import Path

import pytest

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.language import FastTextLanguage, load_language
from curate.models.packs import load_pack

SENTENCES = {
    "A red bicycle leans against the wall of an old house.": "en",
    "Ein rotes Fahrrad lehnt an der Wand eines alten Hauses.": "de",
    "Un v\u00e9lo rouge est appuy\u00e9 contre le mur d'une vieille maison.": "fr",
    "Una bicicleta roja apoyada en la pared de una casa vieja.": "es",
    "Una bicicletta rossa appoggiata al muro di una vecchia casa.": "it",
    "Uma bicicleta vermelha encostada na parede de uma casa antiga.": "pt",
    "Een rode fiets leunt tegen de muur van een oud huis.": "nl",
    "Czerwony rower oparty o \u015bcian\u0119 starego domu.": "pl",
    "En r\u00f6d cykel st\u00e5r lutad mot v\u00e4ggen p\u00e5 ett gammalt hus.": "sv",
    "Eski bir evin duvar\u0131na yaslanm\u0131\u015f k\u0131rm\u0131z\u0131 bir bisiklet.": "tr",
    "\u041a\u0440\u0430\u0441\u043d\u044b\u0439 "
    "\u0432\u0435\u043b\u043e\u0441\u0438\u043f\u0435\u0434 "
    "\u0441\u0442\u043e\u0438\u0442 \u0443 \u0441\u0442\u0430\u0440\u043e\u0433\u043e "
    "\u0434\u043e\u043c\u0430.": "ru",
    "\u0388\u03bd\u03b1 \u03ba\u03cc\u03ba\u03ba\u03b9\u03bd\u03bf "
    "\u03c0\u03bf\u03b4\u03ae\u03bb\u03b1\u03c4\u03bf \u03c3\u03c4\u03bf\u03bd "
    "\u03c4\u03bf\u03af\u03c7\u03bf.": "el",
    "\u05d0\u05d5\u05e4\u05e0\u05d9\u05d9\u05dd \u05d0\u05d3\u05d5\u05de\u05d9\u05dd "
    "\u05dc\u05d9\u05d3 \u05d4\u05e7\u05d9\u05e8": "he",
    "\u062f\u0631\u0627\u062c\u0629 \u062d\u0645\u0631\u0627\u0621 \u0628\u062c\u0627\u0646\u0628 "
    "\u0627\u0644\u062c\u062f\u0627\u0631": "ar",
    "\u092a\u0941\u0930\u093e\u0928\u0947 \u0918\u0930 \u0915\u0940 "
    "\u0926\u0940\u0935\u093e\u0930 \u0915\u0947 \u092a\u093e\u0938 \u0932\u093e\u0932 "
    "\u0938\u093e\u0907\u0915\u093f\u0932": "hi",
    "\u8001\u623f\u5b50\u5899\u8fb9\u9760\u7740\u4e00\u8f86\u7ea2\u8272\u7684"
    "\u81ea\u884c\u8f66": "zh",
    "\u53e4\u3044\u5bb6\u306e\u58c1\u306b\u7acb\u3066\u304b\u3051\u3089\u308c\u305f"
    "\u8d64\u3044\u81ea\u8ee2\u8eca": "ja",
    "\uc624\ub798\ub41c \uc9d1\uc758 \ubcbd\uc5d0 \uae30\ub300\uc5b4 \uc788\ub294 "
    "\ube68\uac04 \uc790\uc804\uac70": "ko",
    "\u0e08\u0e31\u0e01\u0e23\u0e22\u0e32\u0e19\u0e2a\u0e35\u0e41\u0e14\u0e07\u0e1e"
    "\u0e34\u0e07\u0e01\u0e33\u0e41\u0e1e\u0e07": "th",
}


@pytest.fixture(scope="module")
def shipped() -> Path:
    return load_pack("toy")["language"].paths[0]


@pytest.fixture(scope="module")
def identify(shipped: Path) -> FastTextLanguage:
    return load_language(ModelRef(kind="fasttext", paths=(shipped,)))


@pytest.mark.parametrize(("text", "code"), SENTENCES.items(), ids=SENTENCES.values())
def test_sentences_are_told_apart(identify: FastTextLanguage, text: str, code: str) -> None:
    found = identify(text)
    assert found.code == code
    assert 0.5 < found.score <= 1.0


# Answers of `fasttext.load_model("lid.176.ftz").predict(text.replace("\n", " "))` with Facebook's
# own fasttext 0.9.2 (DataComp's call), first label and its probability.
PEERS = [
    ("a red circle on a white background", "en", 0.49343258142471313),
    ("un cercle rouge", "es", 0.39865490794181824),
    ("photo", "en", 0.5446888208389282),
    ("IMG_1234", "he", 0.8852397799491882),
    ("x\0y", "es", 0.9018412232398987),
    ("", "en", 0.12450417876243591),
    ("CAT DOG", "en", 0.12450417876243591),
]


@pytest.mark.parametrize(("text", "code", "score"), PEERS)
def test_answers_are_those_of_facebooks_own_package(
    identify: FastTextLanguage, text: str, code: str, score: float
) -> None:
    found = identify(text)
    assert found.code == code
    assert found.score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("text", ["", "\U0001f600", "  ", "\n\n", "\t"])
def test_a_text_without_words_has_the_models_prior(identify: FastTextLanguage, text: str) -> None:
    found = identify(text)
    assert (found.code, round(found.score, 3)) == ("en", 0.125)


def test_a_line_feed_is_a_space(identify: FastTextLanguage) -> None:
    assert identify("a red circle\non white") == identify("a red circle on white")


def test_capitals_are_not_lowered(identify: FastTextLanguage) -> None:
    assert identify("A CAT ON A MAT") != identify("a cat on a mat")


def test_two_loads_answer_alike(identify: FastTextLanguage, shipped: Path) -> None:
    other = load_language(ModelRef(kind="fasttext", paths=(shipped,)))
    assert [identify(text) for text in SENTENCES] == [other(text) for text in SENTENCES]


def test_a_probability_is_never_above_one(identify: FastTextLanguage) -> None:
    assert identify("\uace0\uc591\uc774 \uc0ac\uc9c4").score == 1.0  # fastText says 1.00004


def test_a_copy_of_the_file_by_path_is_loaded(shipped: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(shipped, tmp_path / "lid.176.bin"))
    found = load_language(ModelRef(kind="fasttext", paths=(copy,)))
    assert found("Das ist ein Haus").code == "de"


def test_a_users_pack_may_name_lid_176_bin(shipped: Path, tmp_path: Path) -> None:
    shutil.copy(shipped, tmp_path / "lid.176.bin")
    (tmp_path / "pack.yaml").write_text("language: {kind: fasttext, paths: [lid.176.bin]}\n")
    ref = load_pack(str(tmp_path / "pack.yaml"))["language"]
    assert load_language(ref)("Das ist ein Haus").code == "de"


def test_another_kind_is_refused(shipped: Path) -> None:
    with pytest.raises(ModelError, match="kind must be 'fasttext', got 'gcld3'"):
        load_language(ModelRef(kind="gcld3", paths=(shipped,)))


def test_a_damaged_file_is_refused_before_fasttext_reads_it(shipped: Path, tmp_path: Path) -> None:
    cut = tmp_path / "lid.176.ftz"
    cut.write_bytes(shipped.read_bytes()[:900_000])
    with pytest.raises(ModelError, match=r"lid\.176\.ftz: must be"):
        load_language(ModelRef(kind="fasttext", paths=(cut,)))
