"""Choosing tokens: held against transformers' own processors and against the laws of chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from curate.captioners.captioner import Sampling
from curate.captioners.token_choice import (
    TokenChooser,
    draw_tokens,
    keep_likely,
    penalise_presence,
    penalise_repeats,
)

LOGITS = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("penalty", [1.0, 1.2, 3.0])
def test_repetition_penalty_is_transformers(penalty: float) -> None:
    written = torch.randint(0, 40, (6, 5), generator=torch.Generator().manual_seed(1))
    expected = RepetitionPenaltyLogitsProcessor(penalty)(written, LOGITS.clone())
    assert torch.equal(penalise_repeats(LOGITS, written, penalty), expected)


def test_presence_penalty_counts_a_token_once() -> None:
    written = torch.tensor([[3, 3, 3, 5]] * 6)
    expected = LOGITS.clone()
    expected[:, [3, 5]] -= 1.5
    assert torch.equal(penalise_presence(LOGITS, written, 1.5), expected)
    assert penalise_presence(LOGITS, written, 0) is LOGITS


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 1.0])
def test_the_tokens_kept_are_those_of_transformers_top_p(top_p: float) -> None:
    kept = keep_likely(LOGITS.double().softmax(-1), top_p) > 0
    warped = TopPLogitsWarper(top_p)(None, LOGITS.double()) if top_p < 1 else LOGITS
    assert torch.equal(kept, torch.isfinite(warped))


def test_draws_follow_the_distribution() -> None:
    weights = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64).repeat(20_000, 1)
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    counts = torch.bincount(draw_tokens(weights, uniform), minlength=4) / 20_000
    assert counts[1] == 0
    # Six standard errors of the largest share.
    assert (counts - weights[0]).abs().max() < 6 * (0.24 / 20_000) ** 0.5


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_no_draw_takes_a_token_of_no_weight(uniform: float) -> None:
    weights = torch.tensor([[0.0, 0.2, 0.0, 0.7, 0.0]], dtype=torch.float64)
    drawn = draw_tokens(weights, torch.tensor([uniform], dtype=torch.float64))
    assert weights[0, drawn[0]] > 0


def test_greedy_takes_the_likeliest_and_notes_its_probability() -> None:
    chooser = TokenChooser(Sampling(), [0] * 6, 3)
    before = torch.zeros(6, 2, dtype=torch.long)
    for step in range(3):
        scores = chooser(torch.cat([before, torch.zeros(6, step, dtype=torch.long)], 1), LOGITS)
        assert torch.equal(scores.argmax(-1), LOGITS.argmax(-1))
    expected = LOGITS.log_softmax(-1).max(-1).values
    assert chooser.num_steps == 3
    torch.testing.assert_close(chooser.logprobs, expected[:, None].repeat(1, 3))


@pytest.mark.parametrize(
    "sampling", [Sampling(repetition_penalty=2.0), Sampling(presence_penalty=1.5)]
)
def test_only_the_answer_is_penalised_not_the_padded_prompt(sampling: Sampling) -> None:
    logits = torch.tensor([[1.0, 2.0, 1.9]])
    chooser = TokenChooser(sampling, [0], 2)
    prompt = torch.tensor([[1, 1]])
    first = chooser(prompt, logits).argmax(-1)
    second = chooser(torch.cat([prompt, first[:, None]], 1), logits).argmax(-1)
    assert (int(first), int(second)) == (1, 2)


def test_each_row_draws_from_its_own_seed_at_its_own_position() -> None:
    even = torch.zeros(4, 50)
    sampling = Sampling(temperature=1.0)

    def draw(seeds: list[int]) -> list[list[int]]:
        chooser = TokenChooser(sampling, seeds, 20)
        written = torch.empty(len(seeds), 0, dtype=torch.long)
        for _ in range(20):
            token = chooser(written, even[: len(seeds)]).argmax(-1)
            written = torch.cat([written, token[:, None]], 1)
        return written.tolist()

    together = draw([5, 6, 7, 5])
    assert together == [draw([seed])[0] for seed in (5, 6, 7, 5)]
    assert together[0] == together[3] != together[1]
    assert len(set(together[0])) > 10  # not one draw for all positions
