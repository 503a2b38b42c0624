"""int8 tokens come back as near as a byte allows, and outlier channels are told of."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.int8_tokens import MAX_ERROR, measure_int8, pack_int8, unpack_int8
from curate.core.seed import make_rng


def normal(tokens: int = 200, dim: int = 512) -> np.ndarray:
    return make_rng(0, "int8").standard_normal((tokens, dim)).astype(np.float32)


def test_a_token_takes_a_byte_a_channel_and_two() -> None:
    packed = pack_int8(normal(7, 32))
    assert packed.shape == (7, 34)
    assert packed.dtype == np.int8


def test_values_come_back_within_half_a_step() -> None:
    values = normal()
    step = np.abs(values).max(axis=1, keepdims=True) / 127
    back = unpack_int8(pack_int8(values), np.empty_like(values))
    assert (np.abs(back - values) <= 0.502 * step + 1e-3 * np.abs(values)).all()


def test_error_on_normal_numbers_is_the_references() -> None:
    # Source: reference/storage.md section 7: 8.7e-3 for a scale per token.
    error = measure_int8([normal(2000, 512)])
    assert error.overall == pytest.approx(8.7e-3, rel=0.15)
    assert error.by_channel == pytest.approx(error.overall, rel=0.02)


def test_the_bound_is_what_float8_loses() -> None:
    import torch

    values = torch.from_numpy(normal(2000, 512))
    scale = values.abs().amax(dim=1, keepdim=True) / 448  # the largest e4m3
    back = (values / scale).to(torch.float8_e4m3fn).float() * scale
    lost = float(((back - values).square().mean() / values.square().mean()).sqrt())
    assert lost == pytest.approx(MAX_ERROR, rel=0.05)


def test_an_outlier_channel_hides_in_the_whole_and_not_in_the_channels() -> None:
    values = normal()
    values[:, 3] *= 300
    error = measure_int8([values])
    assert error.overall < 0.05
    assert error.by_channel > 0.3
    assert error.worst == error.by_channel


@pytest.mark.parametrize(
    "values",
    [np.zeros((3, 8)), np.full((3, 8), 65504.0), np.full((3, 8), 1e-7), np.empty((0, 8))],
)
def test_extreme_tokens_stay_finite(values: np.ndarray) -> None:
    back = unpack_int8(pack_int8(values.astype(np.float32)))
    assert back.dtype == np.float16
    assert np.isfinite(back).all()
    np.testing.assert_allclose(back, values, rtol=1e-2, atol=1e-6)


def test_many_captions_unpack_into_one_batch() -> None:
    values = normal(6, 16).reshape(2, 3, 16)
    packed = np.stack([pack_int8(one) for one in values])
    out = np.empty((2, 3, 16), np.float16)
    assert unpack_int8(packed, out) is out
    np.testing.assert_array_equal(out[1], unpack_int8(packed[1]))


def test_padding_of_zeros_unpacks_to_zeros() -> None:
    assert (unpack_int8(np.zeros((2, 18), np.int8)) == 0).all()


def test_equal_tokens_give_equal_bytes_alone_and_together() -> None:
    values = normal(5, 16)
    alone = np.concatenate([pack_int8(row[None]) for row in values])
    np.testing.assert_array_equal(pack_int8(values), alone)
