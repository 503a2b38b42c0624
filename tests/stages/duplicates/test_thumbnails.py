import numpy as np

from curate.annotators.hash_spec import hash_picture
from curate.core.seed import make_rng
from curate.stages.duplicates.thumbnails import LEAST_CONTRAST, MOST_GAIN, measure_change
from pipelines.toyweb.scene import parse_description, render


def random_thumbnails(*name: str) -> np.ndarray:
    return make_rng(0, *name).integers(0, 256, (20, 192)).astype(np.uint8)


def thumbnail_of(description: str) -> np.ndarray:
    scene = parse_description(description)
    assert scene is not None
    return hash_picture(render(scene, 120, 120)).thumbnail.reshape(1, 192)


def by_search(one: np.ndarray, other: np.ndarray) -> float:
    """Find the change of one pair by trying many gains on each channel."""
    x, y = (side.reshape(64, 3).astype(float) for side in (one, other))
    gains = np.linspace(1 / MOST_GAIN, MOST_GAIN, 2001)[:, None]
    tried = [np.sqrt(gains) * a - b / np.sqrt(gains) for a, b in zip(x.T, y.T, strict=True)]
    rest = sum((channel**2).sum(axis=1).min() for channel in tried)
    floor = 192 * LEAST_CONTRAST**2
    contrast = [((side - side.mean(axis=0)) ** 2).sum() + floor for side in (x, y)]
    return float(np.sqrt(rest / np.sqrt(contrast[0] * contrast[1])))


def test_the_change_is_what_the_best_gains_leave():
    one, other = random_thumbnails("one"), random_thumbnails("other")
    mixed = ((one.astype(int) * 3 + other) // 4).astype(np.uint8)
    for a, b in ((one, other), (one, mixed), (mixed // 2, one)):
        expected = [by_search(x, y) for x, y in zip(a, b, strict=True)]
        np.testing.assert_allclose(measure_change(a, b), expected, rtol=1e-3)


def test_equal_thumbnails_do_not_change_and_pairs_may_be_swapped():
    one, other = random_thumbnails("one"), random_thumbnails("other")
    assert measure_change(one, one).tolist() == [0.0] * 20
    assert np.array_equal(measure_change(one, other), measure_change(other, one))
    assert measure_change(one[:0], other[:0]).shape == (0,)


def test_another_white_balance_is_a_small_change():
    one = random_thumbnails("one") // 2 + 20
    warmer = (one.reshape(-1, 64, 3) * [1.12, 1.0, 0.88] + 0.5).astype(np.uint8).reshape(-1, 192)
    assert measure_change(one, warmer).max() < 0.02
    darker = (one * 0.5 + 0.5).astype(np.uint8)
    assert measure_change(one, darker).min() > 0.3  # beyond any exposure


def test_a_recoloured_object_is_a_large_change():
    red = thumbnail_of("a large red circle at the left on a white background")
    blue = thumbnail_of("a large blue circle at the left on a white background")
    assert measure_change(red, blue)[0] > 0.5
    pair = "a large red circle at the left and a large blue square at the right on a white"
    one = thumbnail_of(f"{pair} background")
    other = thumbnail_of(f"{pair.replace('blue', 'purple')} background")
    assert measure_change(one, other)[0] > 0.3


def test_blank_pictures_are_alike_only_where_their_levels_are():
    white, grey, black = (np.full((1, 192), level, np.uint8) for level in (255, 250, 0))
    assert measure_change(white, grey)[0] < 0.01
    assert measure_change(white, black)[0] > 10


def test_faint_strangers_are_strangers():
    rng = make_rng(0, "faint")
    one, other = (rng.integers(240, 256, (20, 192)).astype(np.uint8) for _ in range(2))
    assert np.abs(one.astype(int) - other).max() <= 15
    assert measure_change(one, other).min() > 0.8
