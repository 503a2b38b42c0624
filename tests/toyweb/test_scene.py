from itertools import combinations

import numpy as np
import pytest

from curate.core.seed import make_rng
from pipelines.toyweb.scene import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    RADII,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    coverage,
    describe,
    describe_short,
    mirror_scene,
    parse_description,
    random_scene,
    random_split_scene,
    render,
    scene_from_json,
    scene_to_json,
    split_of,
)


def scene_of(*parts: tuple[str, str, str, str], background: str = "white") -> Scene:
    objects = tuple(
        SceneObject(size=size, color=color, shape=shape, place=place)
        for size, color, shape, place in parts
    )
    return Scene(objects=objects, background=background)


def test_description_states_every_object_and_the_background():
    scene = scene_of(("large", "red", "circle", "top left"), ("small", "blue", "cross", "center"))
    assert describe(scene) == (
        "a large red circle at the top left and a small blue cross in the center"
        " on a white background"
    )
    assert describe_short(scene) == "a red circle and a blue cross"


def test_the_mirrored_scene_is_what_the_mirrored_picture_shows():
    rng = make_rng(0, "mirror")
    for scene in [random_scene(rng) for _ in range(50)]:
        mirrored = mirror_scene(scene)
        assert mirror_scene(mirrored) == scene
        assert np.array_equal(render(mirrored, 60, 90), render(scene, 60, 90)[:, ::-1])


def test_parsing_inverts_describing():
    rng = make_rng(0, "test")
    for scene in [random_scene(rng) for _ in range(500)]:
        assert parse_description(describe(scene)) == scene
        assert scene_from_json(scene_to_json(scene)) == scene
    for background in BACKGROUNDS:
        empty = Scene(objects=(), background=background)
        assert parse_description(describe(empty)) == empty


def test_parsing_takes_objects_in_any_order():
    text = "a small blue cross in the center and a large red circle at the top left"
    scene = parse_description(f"{text} on a white background.")
    assert scene is not None
    assert [item.place for item in scene.objects] == ["top left", "center"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "photo",
        "a large red circle at the top left",
        "a large red circle on a white background",
        "a large red circle at the top left on a pink background",
        "a huge red circle at the top left on a white background",
        "a large red circle at the top and a small red cross at the top on a white background",
        "a large red circle at the top and on a white background",
        "an empty background",
    ],
)
def test_text_outside_the_grammar_does_not_parse(text: str):
    assert parse_description(text) is None


def test_captions_stay_short():
    rng = make_rng(1, "test")
    words = {n: 0 for n in range(1, 5)}
    for scene in [random_scene(rng) for _ in range(1000)]:
        count = len(scene.objects)
        words[count] = max(words[count], len(describe(scene).split()))
    assert words[2] <= 24
    assert words[4] <= 45


def test_unknown_words_and_shared_places_are_refused():
    with pytest.raises(ValueError, match=r"object\.color must be one of"):
        SceneObject(shape="circle", color="pink", size="large", place="top")
    item = ("large", "red", "circle", "top")
    with pytest.raises(ValueError, match="distinct places"):
        scene_of(item, item)
    with pytest.raises(ValueError, match=r"scene\.background must be one of"):
        scene_of(item, background="pink")


def test_every_scene_has_one_split_and_draws_respect_it():
    rng = make_rng(2, "test")
    for split in ("train", "fit", "heldout"):
        assert {split_of(random_split_scene(rng, split)) for _ in range(50)} == {split}


def test_rendering_shows_the_named_colours_in_the_named_cells():
    scene = scene_of(("large", "red", "square", "top left"), background="gray")
    image = render(scene, 90, 150)
    assert image.shape == (90, 150, 3)
    assert image.dtype == np.uint8
    assert tuple(image[15, 25]) == COLORS["red"]
    assert tuple(image[75, 125]) == BACKGROUNDS["gray"]


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_keep_their_aspect_in_wide_pictures(shape: str):
    wide = render(scene_of(("large", "red", shape, "center")), 96, 192)
    tall = render(scene_of(("large", "red", shape, "center")), 96, 96)
    np.testing.assert_array_equal(wide[:, 48:144], tall)


def test_jitter_is_a_function_of_its_generator():
    scene = random_scene(make_rng(3, "test"))
    first = render(scene, 64, 64, jitter=make_rng(0, "a"))
    np.testing.assert_array_equal(first, render(scene, 64, 64, jitter=make_rng(0, "a")))
    assert (first != render(scene, 64, 64, jitter=make_rng(0, "b"))).any()


def test_shapes_and_sizes_differ_by_a_quarter_of_their_area():
    rasters = [
        coverage(shape, RADII[size] * 60, 64, 64, (32, 32)) for shape in SHAPES for size in SIZES
    ]
    for first, second in combinations(rasters, 2):
        assert np.abs(first - second).sum() / np.maximum(first, second).sum() > 0.25


def test_there_are_nine_places():
    assert len(PLACES) == 9
