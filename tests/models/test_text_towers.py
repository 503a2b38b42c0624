"""Text towers give what diffusers' pipelines give, real tokens only."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PixArtSigmaPipeline, StableDiffusion3Pipeline, StableDiffusionXLPipeline
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5EncoderModel,
)

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.text_encoder import load_text_encoder
from tests.models.tiny_text import CAPTIONS, END, LIMIT, OLD_END, write_bert, write_clip, write_t5


def sd3(folder: Path, **parts: Any) -> Any:
    """The parts of SD3's pipeline that its text methods look at."""
    return SimpleNamespace(
        _execution_device=torch.device("cpu"), tokenizer_max_length=LIMIT, dtype=torch.float32,
        **parts,
    )  # fmt: skip


@pytest.mark.parametrize(("pad", "end"), [("<end>", END), ("<pad>", END), ("<pad>", OLD_END)])
def test_clip_is_sd3s_convention(tmp_path: Path, pad: str, end: int) -> None:
    encoder = load_text_encoder(write_clip(tmp_path, projected=True, pad=pad, end=end))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    network = CLIPTextModelWithProjection.from_pretrained(tmp_path / "text_encoder").eval()
    pipeline = sd3(
        tmp_path, tokenizer=tokenizer, tokenizer_2=None, text_encoder=network, text_encoder_2=None
    )
    with torch.inference_mode():
        tokens, pooled = StableDiffusion3Pipeline._get_clip_prompt_embeds(pipeline, CAPTIONS)
    assert tokens.shape == (4, LIMIT, encoder.dim)
    found = encoder.encode(CAPTIONS)
    assert [len(item.tokens) for item in found] == [5, 2, 11, LIMIT]
    for row, item in enumerate(found):
        np.testing.assert_allclose(item.tokens, tokens[row, : len(item.tokens)], atol=1e-5)
        np.testing.assert_allclose(item.pooled, pooled[row], atol=1e-5)
        assert item.pooled.shape == (encoder.pooled_dim,)


def test_clip_without_projection_pools_as_flux_and_its_last_layer_is_sd1s(tmp_path: Path) -> None:
    ref = write_clip(tmp_path, projected=False)
    encoder = load_text_encoder(ModelRef(kind="clip_last", paths=ref.paths))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    network = CLIPTextModel.from_pretrained(tmp_path / "text_encoder").eval()
    ids = tokenizer(
        CAPTIONS, padding="max_length", max_length=LIMIT, truncation=True, return_tensors="pt"
    ).input_ids
    with torch.inference_mode():
        out = network(ids)
    for row, item in enumerate(encoder.encode(CAPTIONS)):
        wanted = out.last_hidden_state[row, : len(item.tokens)]
        np.testing.assert_allclose(item.tokens, wanted, atol=1e-5)
        np.testing.assert_allclose(item.pooled, out.pooler_output[row], atol=1e-5)


def test_both_towers_are_sdxls(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    refs = [write_clip(folders[0], projected=False), write_clip(folders[1], projected=True)]
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=CLIPTextModel.from_pretrained(refs[0].paths[0]).eval(),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(refs[1].paths[0]).eval(),
        tokenizer=AutoTokenizer.from_pretrained(refs[0].paths[1]),
        tokenizer_2=AutoTokenizer.from_pretrained(refs[1].paths[1]),
        unet=None,
        scheduler=None,
        add_watermarker=False,
    )
    with torch.inference_mode():
        tokens, _, pooled, _ = pipeline.encode_prompt(
            CAPTIONS, device="cpu", do_classifier_free_guidance=False
        )
    pairs = [load_text_encoder(ref).encode(CAPTIONS) for ref in refs]
    for row, (first, second) in enumerate(zip(*pairs, strict=True)):
        both = np.concatenate([first.tokens, second.tokens], axis=1)
        np.testing.assert_allclose(both, tokens[row, : len(both)], atol=1e-5)
        np.testing.assert_allclose(second.pooled, pooled[row], atol=1e-5)


def test_what_follows_the_end_mark_changes_no_real_token_of_clip(tmp_path: Path) -> None:
    encoder = load_text_encoder(write_clip(tmp_path, projected=True))
    network = CLIPTextModelWithProjection.from_pretrained(tmp_path / "text_encoder").eval()
    ids = encoder.tokenize(["a red circle"])[0].ids
    with torch.inference_mode():
        for tail in ([], [END] * 7, [5, 6, 7, 8]):
            padded = torch.tensor([[*ids.tolist(), *tail]])
            hidden = network(padded, output_hidden_states=True).hidden_states[-2]
            (alone,) = encoder.encode_ids([ids])
            np.testing.assert_allclose(alone.tokens, hidden[0, : len(ids)], atol=1e-5)


@pytest.mark.parametrize("umt5", [False, True])
def test_t5_is_pixarts_masked_convention(tmp_path: Path, umt5: bool) -> None:
    encoder = load_text_encoder(write_t5(tmp_path, umt5=umt5))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    network = encoder._folder.network  # type: ignore[attr-defined]
    pipeline = PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=network,
        vae=None,
        transformer=None,
        scheduler=None,
    )
    with torch.inference_mode():
        tokens, mask, _, _ = pipeline.encode_prompt(
            CAPTIONS, do_classifier_free_guidance=False, max_sequence_length=LIMIT, device="cpu"
        )
    assert encoder.pooled_dim == 0
    for row, item in enumerate(encoder.encode(CAPTIONS)):
        assert len(item.tokens) == int(mask[row].sum())
        np.testing.assert_allclose(item.tokens, tokens[row, : len(item.tokens)], atol=1e-5)


def test_t5_of_sd3_sees_its_padding_and_so_is_another(tmp_path: Path) -> None:
    encoder = load_text_encoder(write_t5(tmp_path))
    network = T5EncoderModel.from_pretrained(tmp_path).eval()
    pipeline = sd3(
        tmp_path, tokenizer_3=AutoTokenizer.from_pretrained(tmp_path), text_encoder_3=network,
        text_encoder=network,
    )  # fmt: skip
    with torch.inference_mode():
        tokens = StableDiffusion3Pipeline._get_t5_prompt_embeds(
            pipeline, CAPTIONS, max_sequence_length=LIMIT
        )
    found = encoder.encode(CAPTIONS)
    assert not np.allclose(found[0].tokens, tokens[0, : len(found[0].tokens)], atol=1e-2)
    np.testing.assert_allclose(found[3].tokens, tokens[3], atol=1e-5)  # none is padding


def test_any_encoder_gives_its_last_states_and_their_mean(tmp_path: Path) -> None:
    encoder = load_text_encoder(write_bert(tmp_path))
    inputs = AutoTokenizer.from_pretrained(tmp_path)(CAPTIONS[:1], return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(tmp_path).eval()(inputs.input_ids).last_hidden_state
    (found,) = encoder.encode(CAPTIONS[:1])
    np.testing.assert_allclose(found.tokens, hidden[0], atol=1e-5)
    np.testing.assert_allclose(found.pooled, hidden[0].mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("write", [write_t5, write_bert])
def test_captions_encode_alone_as_beside_longer_ones(tmp_path: Path, write: Any) -> None:
    encoder = load_text_encoder(write(tmp_path))
    together = encoder.encode(CAPTIONS)
    for caption, item in zip(CAPTIONS, together, strict=True):
        np.testing.assert_allclose(encoder.encode([caption])[0].tokens, item.tokens, atol=1e-5)


@pytest.mark.parametrize("write", [write_t5, write_bert, lambda f: write_clip(f, projected=True)])
def test_long_captions_are_counted_and_keep_their_end_mark(tmp_path: Path, write: Any) -> None:
    encoder = load_text_encoder(write(tmp_path))
    exact, long, huge = encoder.tokenize(["star " * 5, "star " * 40, "red star " * 11_112])
    assert exact.num_truncated == 0
    assert len(long.ids) == len(huge.ids) == encoder.max_tokens == LIMIT
    assert long.ids[-1] == huge.ids[-1] == exact.ids[-1] == END
    marks = len(exact.ids) - 5
    assert long.num_truncated == 40 + marks - LIMIT
    assert huge.num_truncated == 22_224 + marks - LIMIT


@pytest.mark.parametrize("write", [write_t5, write_bert, lambda f: write_clip(f, projected=True)])
def test_ids_encode_to_what_captions_encode_to(tmp_path: Path, write: Any) -> None:
    encoder = load_text_encoder(write(tmp_path))
    ids = encoder.tokenize(CAPTIONS)
    assert all(one.ids.dtype == np.int32 for one in ids)
    for one, other in zip(
        encoder.encode_ids([one.ids for one in ids]), encoder.encode(CAPTIONS), strict=True
    ):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.pooled, other.pooled)


@pytest.mark.parametrize(
    "caption", ["\u4e00\u4e8c", "\u0627\u0644", "\U0001f600", "\x00\u200d", "<end> a"]
)
def test_captions_of_any_script_have_an_embedding(tmp_path: Path, caption: str) -> None:
    encoder = load_text_encoder(write_clip(tmp_path, projected=True))
    (found,) = encoder.encode([caption])
    assert np.isfinite(found.tokens).all()
    assert np.isfinite(found.pooled).all()


def test_a_mark_spelt_out_in_a_caption_is_text(tmp_path: Path) -> None:
    encoder = load_text_encoder(write_clip(tmp_path, projected=True))
    assert encoder.tokenize(["a <end> red"])[0].ids.tolist().count(END) == 1


def test_no_captions_give_nothing(tmp_path: Path) -> None:
    assert load_text_encoder(write_t5(tmp_path)).encode([]) == []


def test_a_folder_without_vocabulary_is_one_line(tmp_path: Path) -> None:
    ref = write_clip(tmp_path, projected=True)
    with pytest.raises(ModelError, match="name its folder as second path") as caught:
        load_text_encoder(ModelRef(kind="clip", paths=ref.paths[:1]))
    assert "\n" not in str(caught.value)


def test_another_class_is_one_line(tmp_path: Path) -> None:
    ref = write_bert(tmp_path)
    with pytest.raises(ModelError, match="must be one of t5, umt5, mt5, got BertModel, bert"):
        load_text_encoder(ModelRef(kind="t5", paths=ref.paths))


def test_code_beside_the_weights_is_refused(tmp_path: Path) -> None:
    ref = write_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ModelError, match="is never run"):
        load_text_encoder(ref)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    ref = write_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"must hold all weights .*encoder\.layer\.2"):
        load_text_encoder(ref)
