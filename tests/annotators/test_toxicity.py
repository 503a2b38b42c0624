from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.annotators.annotator import Batch
from curate.annotators.language import LanguageId
from curate.annotators.toxicity import Toxicity
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.golden import golden_texts, write_golden
from curate.models.packs import load_pack
from curate.models.text_classifier import load_toxicity
from curate.models.weights import seeded_weights


def make_batch(captions: list[str], codes: list[str | None] | None = None) -> Batch:
    return Batch(
        keys=[str(number) for number in range(len(captions))],
        images=[Image.new("RGB", (8, 8))] * len(captions),
        captions=captions,
        columns={"language.code": codes} if codes else {},
    )


@pytest.fixture
def terms(tmp_path: Path) -> ModelRef:
    (tmp_path / "a.txt").write_text("turnip\n")
    (tmp_path / "b.txt").write_text("no:slutt\n")
    return ModelRef(kind="term_list", paths=(tmp_path / "a.txt", tmp_path / "b.txt"))


def set_up(models: dict[str, ModelRef]) -> Toxicity:
    annotator = Toxicity(models)
    annotator.setup()
    return annotator


def test_terms_of_all_files_are_counted(terms: ModelRef) -> None:
    found = set_up({"toxic_terms": terms})(make_batch(["a turnip", "slutt", "a cat", ""]))
    assert set(found) == {"toxicity.num_terms", "toxicity.terms_frac"}
    assert list(found["toxicity.num_terms"]) == [1, 1, 0, 0]
    assert list(found["toxicity.terms_frac"]) == pytest.approx([6 / 7, 1, 0, 0])


def test_the_measured_language_chooses_the_terms(terms: ModelRef) -> None:
    batch = make_batch(["slutt", "slutt", "slutt", "turnip"], ["no", "sv", None, "sv"])
    found = set_up({"toxic_terms": terms})(batch)
    assert list(found["toxicity.num_terms"]) == [1, 0, 1, 1]


def test_the_digest_of_the_word_lists_follows_their_contents(
    terms: ModelRef, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "a.txt"
    other.write_text("swede\n")
    assert terms.digest != ModelRef(kind="term_list", paths=(other, terms.paths[1])).digest


def test_the_shipped_pack_finds_nothing_in_harmless_captions() -> None:
    pack = load_pack("toy")
    language = LanguageId(pack)
    language.setup()
    captions = [
        "a red circle on a white background",
        "un c\u00edrculo rojo sobre fondo negro",
        "Scunthorpe United, Essex and Sussex",
        "cocktail dress with a grape pattern",
    ]
    batch = make_batch(captions)
    batch.columns.update(language(batch))
    assert list(set_up(dict(pack))(batch)["toxicity.num_terms"]) == [0, 0, 0, 0]


@pytest.fixture
def classifier(tmp_path: Path) -> ModelRef:
    """A tiny BERT with random weights."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path / "classifier"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "turnip"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, id2label={0: "neutral", 1: "toxic"},
    )  # fmt: skip
    with seeded_weights(3):
        BertForSequenceClassification(config).save_pretrained(folder)
    return ModelRef(kind="transformers_classifier", paths=(folder,))


def test_a_classifier_in_the_pack_adds_a_score(terms: ModelRef, classifier: ModelRef) -> None:
    annotator = set_up({"toxic_terms": terms, "toxicity": classifier})
    found = annotator(make_batch(["a turnip", "a cat"]))
    assert set(found) == set(annotator.columns)
    scores = np.asarray(found["toxicity.score"])
    assert scores.shape == (2,)
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()


def test_a_classifier_that_left_its_golden_values_is_refused(
    terms: ModelRef, classifier: ModelRef
) -> None:
    models = {"toxic_terms": terms, "toxicity": classifier}
    scores = load_toxicity(classifier)(golden_texts())
    write_golden(classifier, "tiny", {"scores": scores})
    set_up(models)
    write_golden(classifier, "tiny", {"scores": scores + np.float32(0.1)})
    with pytest.raises(ModelError, match="toxicity"):
        set_up(models)
