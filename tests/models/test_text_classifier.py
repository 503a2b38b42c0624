import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.text_classifier import TextClassifier, load_toxicity
from curate.models.weights import seeded_weights

KNOWN = "a red green circle square on the left with and"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *KNOWN.split()]
TEXTS = [
    "a red circle",
    "",
    "green square " * 100,
    "the left circle and the red square",
    "a",
    "a b",
]


def make_config(labels: list[str], problem: str | None) -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        problem_type=problem,
    )


def save_tokenizer(folder: Path) -> None:
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = Whitespace()
    core.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    tokenizer.save_pretrained(folder)


Maker = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Save a tiny BERT with random weights, as `save_pretrained` does."""

    def make(labels: list[str], problem: str | None = None) -> Path:
        with seeded_weights(7):
            network = BertForSequenceClassification(make_config(labels, problem))
        network.save_pretrained(tmp_path)
        save_tokenizer(tmp_path)
        return tmp_path

    return make


def load(folder: Path) -> TextClassifier:
    return load_toxicity(ModelRef(kind="transformers_classifier", paths=(folder,)))


@torch.inference_mode()
def logits_one_by_one(folder: Path) -> torch.Tensor:
    """The peer: transformers itself, one text at a time, no padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = [
        network(**tokenizer(text, truncation=True, max_length=40, return_tensors="pt")).logits[0]
        for text in TEXTS
    ]
    return torch.stack(rows)


def test_a_batch_scores_as_single_texts_do(make: Maker) -> None:
    folder = make(["fine", "toxic"])
    score = load(folder)
    together = score(TEXTS)
    np.testing.assert_allclose(together, [score([text])[0] for text in TEXTS], atol=1e-5)
    np.testing.assert_allclose(together, logits_one_by_one(folder).softmax(-1)[:, 1], atol=1e-5)
    assert together.dtype == np.float32
    assert len(set(together.round(4))) > 3  # the texts are told apart


def test_order_and_batches_do_not_matter(make: Maker) -> None:
    score = load(make(["toxic", "neutral"]))
    many = TEXTS * 20  # more than one batch
    np.testing.assert_allclose(score(many)[::-1], score(many[::-1]), atol=1e-5)


def test_several_labels_at_once_have_a_sigmoid_each(make: Maker) -> None:
    folder = make(["severe_toxic", "Toxic", "insult"], "multi_label_classification")
    expected = logits_one_by_one(folder).sigmoid()[:, 1]
    np.testing.assert_allclose(load(folder)(TEXTS), expected, atol=1e-5)


def test_a_single_label_has_a_sigmoid(make: Maker) -> None:
    folder = make(["toxicity"])
    np.testing.assert_allclose(
        load(folder)(TEXTS), logits_one_by_one(folder).sigmoid()[:, 0], atol=1e-5
    )


def test_no_texts_give_no_scores(make: Maker) -> None:
    assert load(make(["fine", "toxic"]))([]).shape == (0,)


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["toxic", "toxicity"]])
def test_a_model_without_exactly_one_toxic_label_is_refused(make: Maker, labels: list[str]) -> None:
    with pytest.raises(ModelError, match=r"id2label must name one label toxic or toxicity, got"):
        load(make(labels))


def test_code_beside_the_weights_is_refused(make: Maker) -> None:
    folder = make(["fine", "toxic"])
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="which is never run"):
        load(folder)


def test_pickled_weights_are_refused(make: Maker) -> None:
    folder = make(["fine", "toxic"])
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model\.safetensors: weights must exist, got no file"):
        load(folder)


def test_a_folder_without_tokenizer_is_refused(make: Maker) -> None:
    folder = make(["fine", "toxic"])
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="must hold the tokenizer's vocabulary"):
        load(folder)


def test_a_folder_of_another_shape_is_refused(make: Maker) -> None:
    folder = make(["fine", "toxic"])
    config = json.loads((folder / "config.json").read_text())
    config["hidden_size"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="must be a sequence classifier with its tokenizer"):
        load(folder)


def test_a_model_that_was_not_trained_to_classify_is_refused(make: Maker) -> None:
    folder = make(["fine", "toxic"])
    with seeded_weights(7):
        BertModel(make_config(["fine", "toxic"], None)).save_pretrained(folder)
    with pytest.raises(ModelError, match="must hold all weights of a classifier, got none for"):
        load(folder)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="kind must be 'transformers_classifier', got 'onnx'"):
        load_toxicity(ModelRef(kind="onnx", paths=(tmp_path,)))
