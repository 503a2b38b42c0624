import numpy as np
import pytest

from train.blocks import BLOCK, WINDOW_BLOCKS, EndlessOrder

SIZES = [1, 2, 63, 64, 65, 1000, 65_536, 65_600, 131_077, 200_001]


@pytest.mark.parametrize("size", SIZES)
def test_every_sample_comes_once_in_every_epoch(size: int) -> None:
    samples, epochs = EndlessOrder(size, 0, "a").items(0, 2 * size)
    assert np.array_equal(np.sort(samples[:size]), np.arange(size))
    assert np.array_equal(np.sort(samples[size:]), np.arange(size))
    assert np.array_equal(epochs, np.repeat([0, 1], size))


@pytest.mark.parametrize("size", SIZES)
def test_any_stretch_is_the_same_as_in_one_go(size: int) -> None:
    order = EndlessOrder(size, 0, "a")
    whole, _ = order.items(0, 2 * size)
    rng = np.random.default_rng(size)
    for _ in range(10):
        first = int(rng.integers(0, 2 * size))
        count = int(rng.integers(0, min(300, 2 * size - first) + 1))
        part, _ = order.items(first, count)
        assert np.array_equal(part, whole[first : first + count])


def test_epochs_names_and_seeds_give_other_orders() -> None:
    size = 100
    orders = [EndlessOrder(size, seed, name) for seed, name in ((0, "a"), (1, "a"), (0, "b"))]
    found = {tuple(order.items(0, size)[0].tolist()) for order in orders}
    found.add(tuple(orders[0].items(size, size)[0].tolist()))
    assert len(found) == 4


def test_a_window_holds_whole_blocks_of_neighbours() -> None:
    num_blocks = 3 * WINDOW_BLOCKS
    samples, _ = EndlessOrder(BLOCK * num_blocks, 0, "a").items(0, BLOCK * WINDOW_BLOCKS)
    blocks, counts = np.unique(samples // BLOCK, return_counts=True)
    assert len(blocks) == WINDOW_BLOCKS
    assert set(counts.tolist()) == {BLOCK}
    assert blocks.max() - blocks.min() > 2 * WINDOW_BLOCKS  # from the whole bucket


def test_last_block_may_be_short_and_is_anywhere() -> None:
    size = BLOCK * (4 * WINDOW_BLOCKS) - 10
    places = [
        int(np.flatnonzero(EndlessOrder(size, seed, "a").items(0, size)[0] == size - 1)[0])
        for seed in range(8)
    ]
    assert min(places) < size / 2 < max(places)


@pytest.mark.parametrize("size", [70_000, 300_000, 1_000_000])
def test_batches_of_sorted_data_are_as_independent_draws(size: int) -> None:
    batch_size = 256
    samples, _ = EndlessOrder(size, 0, "a").items(0, size)
    means = samples[: size // batch_size * batch_size].reshape(-1, batch_size).mean(axis=1)
    independent = (size**2 / 12) / batch_size
    # The variance of n means is known to sqrt(2 / n).
    assert abs(means.var() / independent - 1) < 4 * (2 / len(means)) ** 0.5


def test_windows_follow_each_other_far_apart_in_every_stratum() -> None:
    width = 100
    order = EndlessOrder(BLOCK * WINDOW_BLOCKS * width, 0, "a")
    size = BLOCK * WINDOW_BLOCKS
    one, other = (np.unique(order.items(size * i, size)[0] // BLOCK) for i in (3, 4))
    apart = np.unique((other - one) % width)
    assert 30 < apart.min() <= apart.max() < 70


def test_a_billion_samples_cost_one_window() -> None:
    order = EndlessOrder(10**9, 0, "a")
    samples, epochs = order.items(7 * 10**9 + 123_456_789, 256)
    assert len(set(samples.tolist())) == 256
    assert samples.max() < 10**9
    assert set(epochs.tolist()) == {7}
