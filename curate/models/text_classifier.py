"""Score texts with a transformers sequence classifier from a local folder; no hub, no remote code.

The folder is one that `save_pretrained` writes: config.json, model.safetensors and the tokenizer's
files. Texts of like length are run together, so that little is padding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.weights import check_safetensors, read_json

BATCH_SIZE = 32  # chosen by us: larger is no faster on a CPU
MAX_TOKENS = 512  # Source: positions of BERT and RoBERTa; a shorter limit of the model's own holds
# Chosen by us after the models in use: unitary/toxic-bert and s-nlp's say "toxic".
TOXIC_LABELS = ("toxic", "toxicity")
# One of these holds the vocabulary; without any, transformers 5 silently makes an empty one.
_VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


class TextClassifier:
    """Give the probability of one label; frozen, float32, on the CPU."""

    name = "transformers_classifier"

    def __init__(self, tokenizer: Any, network: Any, label: int) -> None:
        """Hold the parts.

        Args:
            tokenizer: a transformers tokenizer.
            network: a sequence classifier; its config says how many labels it has.
            label: number of the label whose probability is given.
        """
        self._tokenizer = tokenizer
        self._network = network.eval().requires_grad_(False)
        self._label = label
        positions = getattr(network.config, "max_position_embeddings", MAX_TOKENS)
        self._max_tokens = min(MAX_TOKENS, positions, tokenizer.model_max_length)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Score texts, each cut at the model's length: [N], float32, 0..1."""
        scores = np.empty(len(texts), np.float32)
        if not texts:
            return scores
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lambda row: lengths[row])
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            batch = {name: [values[row] for row in rows] for name, values in encoded.items()}
            scores[rows] = self._run(self._tokenizer.pad(batch, return_tensors="pt"))
        return scores

    @torch.inference_mode()
    def _run(self, inputs: Any) -> NDArray[np.float32]:
        logits = self._network(**inputs).logits.float()  # [B, labels]
        return _to_probabilities(logits, self._network.config)[:, self._label].numpy()


def load_toxicity(ref: ModelRef) -> TextClassifier:
    """Load the classifier that a reference of kind "transformers_classifier" points to.

    Raises:
        ModelError: the kind is unknown; the folder lacks safetensors weights or a label "toxic"; it
            needs code of its own, or does not load.
    """
    if ref.kind != "transformers_classifier":
        raise ModelError(
            f"toxicity: kind must be 'transformers_classifier', got {ref.kind!r}; choose that"
        )
    folder = ref.paths[0]
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise ModelError(
            f"{folder}/config.json: must be of a class in transformers, got auto_map to code that "
            "comes with the weights, which is never run; choose another model"
        )
    check_safetensors(folder / "model.safetensors")
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise ModelError(
            f"{folder}: must hold the tokenizer's vocabulary, got none of "
            f"{', '.join(_VOCABULARIES)}; copy the tokenizer's files there"
        )
    disable_progress_bar()  # its bar for 100 ms of loading would break the run's progress line
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        network, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"{folder}: must be a sequence classifier with its tokenizer, "
            f"got {str(error).splitlines()[0]}; save it by save_pretrained"
        ) from error
    if loading["missing_keys"]:
        raise ModelError(
            f"{folder}: must hold all weights of a classifier, got none for "
            f"{sorted(loading['missing_keys'])[0]}; use a checkpoint that was trained to classify"
        )
    return TextClassifier(tokenizer, network, _find_label(folder / "config.json", network.config))


def _find_label(path: Any, config: Any) -> int:
    labels = cast("dict[int, str]", config.id2label)
    found = [number for number, label in labels.items() if label.lower() in TOXIC_LABELS]
    if len(found) != 1:
        raise ModelError(
            f"{path}: id2label must name one label {' or '.join(TOXIC_LABELS)}, "
            f"got {json.dumps(list(labels.values()))}; rename the label there"
        )
    return found[0]


def _to_probabilities(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """Turn [B, labels] into probabilities.

    Source: transformers, TextClassificationPipeline: a sigmoid for several labels at once or a
    single one, else a softmax.
    """
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return logits.sigmoid()
    return logits.softmax(dim=-1)
