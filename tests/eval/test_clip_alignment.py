from __future__ import annotations

import numpy as np
import pytest

from curate.core.seed import make_rng
from eval.clip_alignment import measure_alignment, shuffle_pictures


def test_mean_is_the_raw_cosine():
    images = np.array([[1.0, 0.0], [0.6, 0.8]])
    texts = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = measure_alignment(images, texts, ["a", "b"], [False, False])
    np.testing.assert_allclose(found.similarities, [1.0, 0.8])
    assert found.mean == pytest.approx(0.9)
    assert found.standard_error == pytest.approx(0.1)


def test_share_of_truncated_prompts_is_told():
    vectors = np.eye(4)
    prompts = ["a", "b", "c", "d"]
    told = measure_alignment(vectors, vectors, prompts, [True, False, False, False])
    assert told.truncated_frac == 0.25


@pytest.mark.parametrize("prompts", [list("abcdef"), list("aabbcc"), list("abacad"), list("ab")])
def test_shuffled_pictures_all_come_from_another_prompt(prompts: list[str]):
    for seed in range(5):
        order = shuffle_pictures(prompts, make_rng(seed, "test"))
        assert order is not None
        assert sorted(order) == list(range(len(prompts)))
        assert all(prompts[got] != prompts[want] for want, got in enumerate(order))


def test_one_dominant_prompt_cannot_be_shuffled():
    assert shuffle_pictures(list("aaab"), make_rng(0, "test")) is None
    assert shuffle_pictures(["a"], make_rng(0, "test")) is None
