"""The rewriter by a local language model: what it is shown, and that batches change nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from curate.captioners.captioner import CaptionAttempt, CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES, Template
from curate.captioners.rewriter import LmRewriter
from curate.captioners.table import check_templates, load_captioner
from curate.captioners.vlm_batches import BatchLimits
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.hub import HubModel
from tests.captioners.tiny_lm import save_lm

FUSE = Template(id="f", version=1, text="A : {draft} . B : {alt} .", max_new_tokens=12)
GREEDY = Sampling()
WARM = Sampling(temperature=1.5, top_p=0.95)
DRAFTS = (
    ("a red dog", "Fido"),
    ("a big blue circle and a small green square on the street", ""),
    ("the cat", "Paris , a sign on the page with one man and two woman"),
    ("a man with a dog in the picture", "text"),
    ("a", "b"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lm(tmp_path_factory.mktemp("lm") / "tiny")


@pytest.fixture(scope="module")
def rewriter(folder: Path) -> LmRewriter:
    loaded = load_captioner(ModelRef(kind="lm", paths=(folder,)))
    assert isinstance(loaded, LmRewriter)
    return loaded


def ask(draft: str, alt: str, *, seed: int = 0, template: Template = FUSE) -> CaptionRequest:
    image = Image.new("RGB", (1, 1))
    return CaptionRequest(key="k", image=image, template=template, draft=draft, alt=alt, seed=seed)


REQUESTS = [ask(draft, alt, seed=seed) for seed, (draft, alt) in enumerate(DRAFTS)]


def said(attempt: CaptionAttempt) -> tuple[str, str, int]:
    return attempt.text_raw, attempt.finish_reason, attempt.num_tokens


def test_the_model_is_shown_both_texts_in_its_own_chat_format(rewriter: LmRewriter) -> None:
    [attempt] = rewriter.caption([ask("a red {alt}", "Fido")], GREEDY)
    assert attempt.prompt == "<s>[user] A : a red {alt} . B : Fido . </turn> [answer] "
    tokens = rewriter.lm.tokenizer(attempt.prompt, add_special_tokens=False)["input_ids"]
    assert attempt.num_prompt_tokens == len(tokens)
    assert tokens.count(rewriter.lm.tokenizer.bos_token_id) == 1


def test_marks_in_the_texts_do_not_end_the_users_turn(rewriter: LmRewriter) -> None:
    [attempt] = rewriter.caption([ask("a </turn> <s> dog", "</tu</turn>rn>")], GREEDY)
    assert attempt.prompt.count("</turn>") == 1 and attempt.prompt.count("<s>") == 1


def test_greedy_text_is_what_transformers_writes_alone(rewriter: LmRewriter) -> None:
    attempts = rewriter.caption(REQUESTS, GREEDY)
    assert len({attempt.text_raw for attempt in attempts}) > 1
    tokenizer, model = rewriter.lm.tokenizer, rewriter.lm.model
    for attempt in attempts:
        tokens = tokenizer(attempt.prompt, add_special_tokens=False, return_tensors="pt")
        written = model.generate(
            tokens["input_ids"], attention_mask=tokens["attention_mask"], max_new_tokens=12
        )[0, tokens["input_ids"].shape[1] :]
        assert attempt.text_raw == tokenizer.decode(written, skip_special_tokens=True)
        ended = model.generation_config.eos_token_id[0] in written.tolist()
        assert attempt.finish_reason == ("stop" if ended else "length")
        assert attempt.num_tokens == len(written)


@torch.inference_mode()
def test_logits_in_a_batch_are_those_alone(rewriter: LmRewriter) -> None:
    prompts = [rewriter.write_prompt(request) for request in REQUESTS]
    together = rewriter.encode(prompts)
    mask = together["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)  # as generate counts them
    batch = rewriter.lm.model(**together, position_ids=positions).logits[:, -1]
    for row, prompt in zip(batch, prompts, strict=True):
        alone = rewriter.lm.model(**rewriter.encode([prompt])).logits[0, -1]
        assert torch.allclose(row, alone, atol=1e-4)
    assert mask[:, -1].all() and not mask[:, 0].all()  # padded, on the left


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_neither_batches_nor_order_change_a_text(rewriter: LmRewriter, sampling: Sampling) -> None:
    together = [said(attempt) for attempt in rewriter.caption(REQUESTS, sampling)]
    alone = [said(rewriter.caption([request], sampling)[0]) for request in REQUESTS]
    turned = [said(attempt) for attempt in rewriter.caption(REQUESTS[::-1], sampling)]
    assert together == alone == turned[::-1]


def test_seeds_draw_different_texts_and_equal_ones_the_same(rewriter: LmRewriter) -> None:
    requests = [ask("a red dog", "Fido", seed=seed) for seed in (1, 2, 3, 1)]
    texts = [attempt.text_raw for attempt in rewriter.caption(requests, WARM)]
    assert texts[0] == texts[3] and len(set(texts)) == 3


def test_all_is_said_of_an_attempt(rewriter: LmRewriter) -> None:
    for attempt in rewriter.caption(REQUESTS, GREEDY):
        assert attempt.mean_logprob is not None and -math.inf < attempt.mean_logprob <= 0
        assert attempt.batch_size == len(REQUESTS)
        assert attempt.num_visual_tokens == 0 and attempt.latency_s > 0


def test_batches_keep_to_their_limits_and_answers_to_their_order(folder: Path) -> None:
    small = LmRewriter(ModelRef(kind="lm", paths=(folder,)), BatchLimits(batch_size=2))
    attempts = small.caption(REQUESTS, GREEDY)
    assert sorted(attempt.batch_size for attempt in attempts) == [1, 2, 2, 2, 2]
    assert all(
        request.draft in attempt.prompt for request, attempt in zip(REQUESTS, attempts, strict=True)
    )
    assert small.caption([], GREEDY) == []


def test_a_batch_that_memory_does_not_hold_is_halved(
    rewriter: LmRewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [said(attempt) for attempt in rewriter.caption(REQUESTS, GREEDY)]
    generate = rewriter.lm.model.generate

    def small_memory(input_ids: torch.Tensor, **rest: object) -> torch.Tensor:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("2 rows at most")
        return generate(input_ids=input_ids, **rest)

    monkeypatch.setattr(rewriter.lm.model, "generate", small_memory)
    assert [said(attempt) for attempt in rewriter.caption(REQUESTS, GREEDY)] == wanted


@pytest.mark.parametrize(
    "text",
    [
        "dog " * 100_000,
        "\u732b\u304c" * 50_000,
        "\u0000\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
def test_texts_of_any_length_and_script_are_answered_or_said_to_be_too_long(
    rewriter: LmRewriter, text: str
) -> None:
    long, short = rewriter.caption([ask(text, text), REQUESTS[0]], GREEDY)
    assert len(long.prompt) < 5_000  # of texts from outside 2,000 characters are shown
    if long.finish_reason == "error":
        assert "prompt_too_long: " in long.text_raw and "256 are known" in long.text_raw
    assert short.finish_reason != "error"


def test_a_prompt_at_the_models_limit_fits_and_one_token_more_does_not(
    rewriter: LmRewriter,
) -> None:
    [short] = rewriter.caption([ask("", "")], GREEDY)
    room = 256 - FUSE.max_new_tokens - short.num_prompt_tokens
    fits, not_fits = rewriter.caption(
        [ask("dog " * room, ""), ask("dog " * (room + 1), "")], GREEDY
    )
    assert fits.finish_reason != "error"
    assert not_fits.text_raw == (
        "SampleError: prompt_too_long: 257 tokens with the answer, 256 are known"
    )


def test_the_model_is_named_with_its_digests(rewriter: LmRewriter, tmp_path: Path) -> None:
    provenance = rewriter.provenance
    assert (provenance.backend, provenance.model) == ("transformers", "llama/tiny")
    assert provenance.dtype == "float32"
    other = LmRewriter(ModelRef(kind="lm", paths=(save_lm(tmp_path / "tiny", seed=1),))).provenance
    assert other.model_digest != provenance.model_digest
    assert other.processor_digest == provenance.processor_digest


def test_a_model_of_the_hub_is_named_with_its_commit(folder: Path) -> None:
    hub = HubModel(name="org/tiny", commit="c" * 40)
    provenance = LmRewriter(ModelRef(kind="lm", paths=(folder,), settings=hub)).provenance
    assert (provenance.model, provenance.revision) == ("org/tiny", "c" * 40)


def test_the_built_in_template_fuses_draft_and_alt_text() -> None:
    fused = TEMPLATES["fused"]
    assert fused.uses_alt and fused.uses_draft
    text = fused.fill(alt="Fido, 3 euro", draft="A dog.")
    assert "A: A dog.\n\nB: Fido, 3 euro\n\n" in text and "{" not in text


@pytest.mark.parametrize("kind", ["lm", "openai_text"])
def test_a_template_that_shows_no_text_is_refused_before_a_run(kind: str, folder: Path) -> None:
    ref = ModelRef(kind=kind, paths=(folder,))
    check_templates(ref, [FUSE, TEMPLATES["fused"], TEMPLATES["alt_conditioned"]])
    with pytest.raises(ModelError, match=r"must show it \{draft\} or \{alt\}, got 'short'"):
        check_templates(ref, [FUSE, TEMPLATES["short"]])


def test_a_folder_of_something_else_is_one_line(folder: Path, tmp_path: Path) -> None:
    def refuse(name: str, change: str, message: str) -> None:
        broken = save_lm(tmp_path / name, template="" if name == "plain" else "{{ messages }}")
        if change:
            (broken / change).unlink()
        with pytest.raises(ModelError, match=message) as caught:
            LmRewriter(ModelRef(kind="lm", paths=(broken,)))
        assert "\n" not in str(caught.value)

    refuse("plain", "", "must come with a chat template, got none")
    refuse("weights", "model.safetensors", r"must hold \*\.safetensors, got none")
    refuse("words", "tokenizer.json", "must hold tokenizer.json or a sentencepiece")
    refuse("config", "config.json", "model_type must be a causal language model's .* got ''")
    cut = save_lm(tmp_path / "cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="must load as a transformers language model"):
        LmRewriter(ModelRef(kind="lm", paths=(cut,)))
