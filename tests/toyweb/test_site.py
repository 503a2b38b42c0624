import hashlib
import io
from collections import Counter
from functools import cache
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.errors import SampleError
from curate.core.image import decode_image
from pipelines.toyweb.heldout import (
    NUM_BENCHMARK,
    NUM_PROMPTS,
    benchmark_pictures,
    benchmark_prompts,
    heldout_prompts,
    write_benchmark,
)
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.plants import (
    ALL_PLANTS_FROM,
    CLOSED_FOLDER,
    DUPLICATES,
    HOSTS,
    PLANTS,
    Row,
)
from pipelines.toyweb.scene import describe, mirror_scene, parse_description, split_of
from pipelines.toyweb.site import (
    Site,
    build_site,
    truth_table,
    url_table,
    write_truth,
    write_url_table,
)


@cache
def small_site() -> Site:
    return build_site(3, 400, "train")


@cache
def large_site() -> Site:
    return build_site(3, 2000, "train")


def rows_of(plant: str) -> list[Row]:
    return [row for row in small_site().rows if row.plant == plant]


def body_of(row: Row) -> bytes:
    return small_site().fetch(row.url).body


def pixels_of(row: Row) -> np.ndarray:
    return np.asarray(decode_image(body_of(row)))


def status_of(row: Row) -> str:
    """Say what a careful ingest finds, from the one answer alone."""
    response = small_site().fetch(row.url)
    location = dict(response.headers).get("Location", "")
    if response.status == 302:
        is_inside = urlsplit(location).hostname in HOSTS
        return row.plant if is_inside else "private_address"
    if response.status != 200:
        return f"http_{response.status}"
    if f"/{CLOSED_FOLDER}/" in row.url:
        return "robots"
    if response.behaviour == "short":
        return "short_body"
    if {name for name, _ in response.headers} & {"X-Robots-Tag", "TDM-Reservation"}:
        return "opted_out"
    try:
        decode_image(response.body)
    except SampleError as error:
        return error.status
    return "ok"


def test_a_site_is_a_function_of_its_arguments():
    assert build_site(3, 400, "train") == small_site()
    assert build_site(4, 400, "train") != small_site()


def test_bytes_are_equal_at_every_fetch():
    again = build_site(3, 400, "train")
    for row in small_site().rows[:60]:
        assert again.fetch(row.url) == small_site().fetch(row.url)


def test_every_plant_is_there_from_200_rows_on():
    plants = Counter(row.plant for row in build_site(0, ALL_PLANTS_FROM, "train").rows)
    assert set(plants) == {*PLANTS, "clean"}
    assert plants["clean"] > ALL_PLANTS_FROM / 2


def test_a_quarter_to_a_third_of_a_large_site_is_faulty():
    fine = truth_table(build_site(0, 2000, "train"))["is_fine"].to_pylist()
    assert 0.67 < np.mean(fine) < 0.77


def test_scenes_of_different_splits_never_meet():
    scenes = {
        split: {describe(row.scene) for row in build_site(0, 300, split).rows if plain(row)}
        for split in ("train", "fit", "heldout")
    }
    assert not scenes["train"] & scenes["fit"]
    assert not (scenes["train"] | scenes["fit"]) & scenes["heldout"]
    assert not scenes["fit"] & {prompt.prompt for prompt in heldout_prompts(0, 100)}


def plain(row: Row) -> bool:
    return row.benchmark < 0


def test_only_copies_repeat_a_scene():
    own = [row for row in small_site().rows if row.original == row.row and plain(row)]
    assert len({describe(row.scene) for row in own}) == len(own)
    copies = {row.plant for row in small_site().rows if row.original != row.row}
    assert copies == set(DUPLICATES)


def test_every_row_answers_as_the_truth_table_says():
    wrong = [
        (row.row, row.plant, status_of(row), expected)
        for row, expected in zip(
            small_site().rows, truth_table(small_site())["expected_status"].to_pylist(), strict=True
        )
        if status_of(row) != ("redirect" if row.plant == "redirect" else expected)
    ]
    assert not wrong


def test_clean_pictures_show_their_scene():
    for row in rows_of("clean")[:40]:
        assert read_scene(pixels_of(row)).scene == row.scene


@pytest.mark.parametrize("plant", ["png_as_jpeg", "exif_rotated", "opt_out", "slow_drip"])
def test_odd_but_whole_pictures_show_their_scene(plant: str):
    for row in rows_of(plant):
        assert read_scene(pixels_of(row)).scene == row.scene


def test_odd_modes_decode_to_their_scene_unless_gray():
    site = large_site()
    rows = [row for row in site.rows if row.plant == "odd_mode"]
    assert len({row.odd_mode for row in rows}) == 6
    for row in rows:
        image = decode_image(site.fetch(row.url).body)
        assert (image.height, image.width) == (row.height, row.width)
        if "gray" not in row.odd_mode:
            assert read_scene(np.asarray(image)).scene == row.scene, row.odd_mode


def test_copies_relate_to_their_original_as_their_plant_says():
    by_row = small_site().rows
    for row in by_row:
        original = by_row[row.original]
        if row.plant == "exact_duplicate":
            assert body_of(row) == body_of(original)
            assert row.url != original.url
        elif row.plant == "repeated_row":
            assert (row.url, row.caption) == (original.url, original.caption)
        elif row.plant in ("near_duplicate", "cropped_duplicate"):
            assert body_of(row) != body_of(original)
            assert read_scene(pixels_of(row)).scene == original.scene
        elif row.plant == "flipped_duplicate":
            mirrored = pixels_of(row)[:, ::-1].astype(int)
            assert np.abs(mirrored - pixels_of(original)).mean() < 4  # two lossy formats
            assert read_scene(pixels_of(row)).scene == row.scene == mirror_scene(original.scene)
            assert row.scene != original.scene


def test_placeholders_have_one_sha256():
    assert len({hashlib.sha256(body_of(row)).digest() for row in rows_of("placeholder")}) == 1


def test_sizes_of_bad_pictures_are_bad():
    for row in rows_of("tiny"):
        assert max(pixels_of(row).shape[:2]) < 40
    for row in rows_of("extreme_aspect"):
        height, width, _ = pixels_of(row).shape
        assert max(height, width) > 4 * min(height, width)
    for row in rows_of("low_contrast"):
        assert pixels_of(row).std() < 10


def test_marked_pictures_are_not_read_as_scenes_of_letters():
    plants = ("watermark", "text_overlay")
    for row in (row for plant in plants for row in rows_of(plant)):
        assert read_scene(pixels_of(row)).fit < 0.99


def test_redirects_end_at_a_picture_after_at_most_three_hops():
    for row in rows_of("redirect"):
        url, hops = row.url, 0
        while (response := small_site().fetch(url)).status == 302:
            url, hops = dict(response.headers)["Location"], hops + 1
        assert hops == row.hops <= 3
        assert read_scene(np.asarray(decode_image(response.body))).scene == row.scene


def test_redirect_loops_never_end():
    url = rows_of("redirect_loop")[0].url
    seen: set[str] = set()
    while url not in seen:
        seen.add(url)
        url = dict(small_site().fetch(url).headers)["Location"]
    assert len(seen) <= 4


def test_redirects_to_private_addresses_leave_the_toy_web():
    for row in rows_of("redirect_private"):
        location = dict(small_site().fetch(row.url).headers)["Location"]
        assert small_site().fetch(location).status == 502


def test_the_bomb_is_small_to_fetch_and_huge_to_decode():
    data = body_of(rows_of("bomb")[0])
    assert len(data) < 200_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "url",
    [
        "http://photos.toyweb.test/p/999999.jpg",
        "http://photos.toyweb.test/final/000001.jpg",
        "http://photos.toyweb.test/hop/000001/1",
        "http://photos.toyweb.test/favicon.ico",
        "http://photos.toyweb.test/",
    ],
)
def test_unknown_paths_are_not_found(url: str):
    assert small_site().fetch(url).status == 404


def test_tables_are_written_as_parquet(tmp_path):
    write_url_table(small_site(), tmp_path / "urls.parquet")
    write_truth(small_site(), tmp_path / "truth.parquet")
    assert pq.read_table(tmp_path / "urls.parquet") == url_table(small_site())
    assert pq.read_table(tmp_path / "truth.parquet") == truth_table(small_site())
    assert url_table(small_site()).column_names == ["url", "caption", "license"]


def test_truth_groups_rows_of_equal_bytes():
    truth = truth_table(small_site()).to_pylist()
    by_sha: dict[bytes, set[int]] = {}
    for row, entry in zip(small_site().rows, truth, strict=True):
        if entry["expected_status"] == "ok" and row.plant != "redirect":
            by_sha.setdefault(hashlib.sha256(body_of(row)).digest(), set()).add(
                entry["bytes_group"]
            )
    assert all(len(groups) == 1 for groups in by_sha.values())
    assert len({next(iter(groups)) for groups in by_sha.values()}) == len(by_sha)


def test_no_rows_is_refused():
    with pytest.raises(ValueError, match="num_images must be >= 1, got 0"):
        build_site(0, 0, "train")


def test_heldout_prompts_parse_and_do_not_depend_on_their_number():
    prompts = heldout_prompts(7, 50)
    assert prompts[:20] == heldout_prompts(7, 20)
    assert len({prompt.prompt for prompt in prompts}) == 50
    for _, prompt, scene in prompts:
        assert parse_description(prompt) == scene
        assert split_of(scene) == "heldout"
        assert 1 <= len(scene.objects) <= 3


def test_benchmark_copies_show_a_benchmark_picture():
    pictures = {picture.key: picture.caption for picture in benchmark_pictures(3)}
    assert len(pictures) == NUM_BENCHMARK
    num_copies = 0
    for row, entry in zip(small_site().rows, truth_table(small_site()).to_pylist(), strict=True):
        if row.plant == "benchmark_copy":
            scene = read_scene(pixels_of(row)).scene
            assert scene is not None
            assert describe(scene) == pictures[entry["benchmark_key"]]
            num_copies += 1
        else:
            assert entry["benchmark_key"] == ""
    assert num_copies == 2


def test_leaked_prompts_are_alt_texts_of_a_benchmark_that_has_no_such_picture():
    site = large_site()
    truth = truth_table(site).to_pylist()
    keys = [entry["prompt_key"] for entry in truth if entry["plant"] == "leaked_prompt"]
    assert len(set(keys)) == len(keys) == 10
    assert not set(keys) & {picture.key for picture in benchmark_pictures(3)}
    forms = Counter[str]()
    for row, entry in zip(site.rows, truth, strict=True):
        if entry["prompt_key"]:
            prompt = {item.key: item.prompt for item in benchmark_prompts(3)}[entry["prompt_key"]]
            assert row.caption.lower().strip(" .") == prompt
            assert row.plant in ("leaked_prompt", "benchmark_copy")
            forms["exact" if row.caption == prompt else "changed"] += 1
    assert min(forms.values()) >= 3


def test_the_benchmark_is_written_as_pictures_and_prompts(tmp_path):
    write_benchmark(3, tmp_path)
    prompts = (tmp_path / "prompts.txt").read_text().splitlines()
    assert len(set(prompts)) == len(prompts) == NUM_PROMPTS
    pictures = list(benchmark_pictures(3))
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {p.key for p in pictures}
    for picture, prompt in zip(pictures, prompts, strict=False):
        data = (tmp_path / f"pictures/{picture.key}.png").read_bytes()
        assert np.array_equal(np.asarray(decode_image(data)), picture.pixels)
        assert picture.caption == prompt


def test_flipped_duplicates_leave_no_scene_of_another_split():
    flipped = [row.scene for row in large_site().rows if row.plant == "flipped_duplicate"]
    assert len(flipped) == 20
    assert {split_of(scene) for scene in flipped} == {"train"}


def test_every_host_closes_one_folder_to_robots():
    for host in HOSTS:
        body = small_site().fetch(f"http://{host}/robots.txt").body.decode()
        assert body == f"User-agent: *\nDisallow: /{CLOSED_FOLDER}/\n"
    assert all(f"/{CLOSED_FOLDER}/" in row.url for row in rows_of("robots"))


def test_opt_outs_come_in_several_forms():
    site = large_site()
    headers = {
        header
        for row in site.rows
        if row.plant == "opt_out"
        for header in site.fetch(row.url).headers[1:]
    }
    assert len(headers) == 6
