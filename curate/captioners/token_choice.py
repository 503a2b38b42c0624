"""Choose a model's next tokens, each row of a batch by its own seed, and note how likely they were.

Path of a step: logits -> log-probabilities (noted) -> penalties -> temperature -> top-p -> the
token under the row's own uniform number. The numbers are a function of (request's seed, position),
so what stands beside a request in its batch does not change what it draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from curate.captioners.captioner import Sampling
from curate.core.seed import make_rng


class TokenChooser(LogitsProcessor):
    """Leave the chosen token of every row as the only one that `generate` can take.

    Args:
        sampling: how words are chosen.
        seeds: of the rows' requests.
        max_new_tokens: steps at most.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int], max_new_tokens: int) -> None:
        self.sampling = sampling
        self._draws = torch.from_numpy(_draw(seeds, max_new_tokens, sampling.temperature))
        self._logprobs: list[Tensor] = []
        is_unpenalised = sampling.repetition_penalty == 1 and sampling.presence_penalty == 0
        self._is_plain = is_unpenalised and sampling.temperature == 0
        self._num_before = -1  # tokens that stood before the answer

    @property
    def num_steps(self) -> int:
        """Give how many tokens were chosen a row."""
        return len(self._logprobs)

    @property
    def logprobs(self) -> Tensor:
        """Give the natural logarithm of each chosen token's probability: [B, T] float32, CPU.

        The model's own probability, before penalty, temperature and top-p.
        """
        return torch.stack(self._logprobs, dim=1).cpu()

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Choose one token a row.

        Args:
            input_ids: [B, T] all tokens before.
            scores: [B, V] logits.

        Returns:
            [B, V], with the chosen token above all others.
        """
        if self._num_before < 0:
            self._num_before = input_ids.shape[1]
        logits = scores.float()
        if self._is_plain:  # `generate` takes the likeliest by itself
            self._logprobs.append(logits.amax(-1) - logits.logsumexp(-1))
            return scores
        # Only the answer is penalised: prompts are padded, and the padding is not the row's own.
        chosen = self._choose(logits, input_ids[:, self._num_before :])[:, None]
        self._logprobs.append(logits.log_softmax(-1).gather(1, chosen)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0)

    def _choose(self, logits: Tensor, written: Tensor) -> Tensor:
        penalised = penalise_repeats(logits, written, self.sampling.repetition_penalty)
        penalised = penalise_presence(penalised, written, self.sampling.presence_penalty)
        if self.sampling.temperature == 0:
            return penalised.argmax(-1)
        probabilities = (penalised.double() / self.sampling.temperature).softmax(-1)
        uniform = self._draws[:, written.shape[1]].to(logits.device)
        return draw_tokens(keep_likely(probabilities, self.sampling.top_p), uniform)


def penalise_repeats(logits: Tensor, written: Tensor, penalty: float) -> Tensor:
    """Make tokens that were written less likely.

    Source: Keskar et al. 2019 (CTRL, arXiv 1909.05858, section 4.1), with transformers' and vLLM's
    rule for negative logits: multiplied instead of divided.

    Args:
        logits: [B, V].
        written: [B, T] tokens so far.
        penalty: > 0; 1 is none.
    """
    if penalty == 1 or not written.shape[1]:
        return logits
    found = logits.gather(1, written)
    return logits.scatter(1, written, torch.where(found < 0, found * penalty, found / penalty))


def penalise_presence(logits: Tensor, written: Tensor, penalty: float) -> Tensor:
    """Lower the logits of tokens that were written, however often.

    Source: OpenAI's API reference (presence_penalty), as vLLM applies it.

    Args:
        logits: [B, V].
        written: [B, T] tokens so far.
        penalty: in [-2, 2]; 0 is none.
    """
    if penalty == 0 or not written.shape[1]:
        return logits
    return logits - penalty * torch.zeros_like(logits).scatter(1, written, 1)


def keep_likely(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the fewest likeliest tokens whose probabilities sum to at least `top_p`.

    Source: Holtzman et al. 2019 (nucleus sampling, arXiv 1904.09751, section 3.1).

    Args:
        probabilities: [B, V], float64.
        top_p: in (0, 1].
    """
    if top_p >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    is_past = ordered.cumsum(-1) - ordered >= top_p  # what stands before it already suffices
    return torch.zeros_like(probabilities).scatter(1, order, ordered.masked_fill(is_past, 0))


def draw_tokens(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw a token a row by inverting the distribution.

    Args:
        weights: [B, V] float64, not negative, with a positive sum.
        uniform: [B] float64 in [0, 1).

    Returns:
        [B] int64; never a token of weight 0.
    """
    sums = weights.cumsum(-1)
    total = sums[:, -1]
    below = torch.nextafter(total, torch.zeros_like(total))  # the product may round up to the sum
    found = torch.searchsorted(sums, torch.minimum(uniform * total, below)[:, None], right=True)
    return found[:, 0]


def _draw(seeds: Sequence[int], count: int, temperature: float) -> np.ndarray[tuple[int, int]]:
    """Draw every row's uniform numbers: [B, count] float64; none are needed without temperature."""
    if temperature == 0:
        return np.empty((len(seeds), 0))
    return np.stack([make_rng(seed, "token").random(count) for seed in seeds])
