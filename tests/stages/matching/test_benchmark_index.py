"""Pictures match by hashes of enough quality in any of eight forms, and by cosines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pdqhash
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from curate.core.errors import ShardError
from curate.core.seed import make_rng
from curate.stages.matching import cosine_search
from curate.stages.matching.benchmark_files import Item
from curate.stages.matching.benchmark_pictures import BENCHMARK_SCHEMA, hash_items, turn_pixels
from curate.stages.matching.cosine_search import search_cosine
from curate.stages.matching.hits import Hit, keep_strongest
from curate.stages.matching.picture_index import Limits, PictureIndex

LIMITS = Limits(pdq_radius=31, pdq_min_quality=50, phash_radius=-1, thumbnail_change=0.15)


def item(name: str, forms: Sequence[bytes], quality: int = 100, **more: Any) -> dict[str, Any]:
    facts = {"key": "0" * 20, "status": "ok", "item": name, "bytes": f"b{name}"}
    facts |= {"phashes": [0] * 8, "thumbnails": [bytes(192)] * 8}
    return {**facts, "pixels": f"p{name}", "quality": quality, "forms": list(forms), **more}


def table(*items: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(items), schema=BENCHMARK_SCHEMA)


def sample(hash_: bytes | None = None, quality: int | None = 100, **more: Any) -> pa.Table:
    facts = {"bytes": "x", "pixels": "y", "hash": hash_, "quality": quality, **more}
    types = {"bytes": pa.string(), "pixels": pa.string(), "hash": pa.binary(32)}
    types |= {"quality": pa.int32(), "clip": pa.list_(pa.float16())}
    types |= {"phash": pa.uint64(), "thumbnail": pa.binary(192)}
    return pa.table({name: pa.array([value], types[name]) for name, value in facts.items()})


def flip(hash_: bytes, num_bits: int) -> bytes:
    """Change the first bits of a hash."""
    mask = ((1 << num_bits) - 1) << (256 - num_bits)
    return (int.from_bytes(hash_, "big") ^ mask).to_bytes(32, "big")


def draw(count: int) -> list[bytes]:
    return [make_rng(0, "index", number).bytes(32) for number in range(count)]


def match(
    index: PictureIndex, hash_: bytes | None, quality: int | None = 100
) -> list[tuple[str, float]]:
    return [(hit.item, hit.distance) for hit in index.match(sample(hash_, quality))]


def test_the_radius_is_inclusive_and_any_form_is_enough() -> None:
    forms = draw(8)
    index = PictureIndex({"set": table(item("a", forms))}, LIMITS)
    for form in forms:
        assert match(index, flip(form, 31)) == [("a", 31)]
        assert match(index, flip(form, 32)) == []


def test_an_item_is_met_once_at_its_nearest_form() -> None:
    form = draw(1)[0]
    near = [flip(form, bits) for bits in (9, 4, 20, 31, 7, 8, 6, 5)]
    index = PictureIndex({"set": table(item("a", near))}, LIMITS)
    assert match(index, form) == [("a", 4)]


@pytest.mark.parametrize(("item_quality", "quality"), [(49, 100), (100, 49), (100, None)])
def test_below_the_quality_only_equal_bytes_and_pixels_match(
    item_quality: int, quality: int | None
) -> None:
    forms = draw(8)
    index = PictureIndex({"set": table(item("a", forms, item_quality))}, LIMITS)
    assert match(index, forms[0], quality) == []
    same = sample(forms[0], quality).set_column(1, "pixels", pa.array(["pa"]))
    assert [(hit.kind, hit.distance) for hit in index.match(same)] == [("pixels", 0)]


def test_the_least_quality_is_inclusive() -> None:
    forms = draw(8)
    index = PictureIndex({"set": table(item("a", forms, 50))}, LIMITS)
    assert match(index, forms[3], 50) == [("a", 0)]


def test_an_unreadable_item_matches_by_its_bytes_alone() -> None:
    broken = {"key": "0" * 20, "status": "unreadable", "item": "a", "bytes": "x"}
    index = PictureIndex({"set": table(broken)}, LIMITS)
    assert [hit.kind for hit in index.match(sample(None, None))] == ["bytes"]


def test_items_of_several_benchmarks_keep_their_names() -> None:
    forms = draw(8)
    tables = {"one": table(item("a", forms)), "two": table(item("a", forms), item("b", forms))}
    hits = keep_strongest(PictureIndex(tables, LIMITS).match(sample(forms[2])))[0]
    assert [(hit.benchmark, hit.item) for hit in hits] == [("one", "a"), ("two", "a"), ("two", "b")]


def test_equal_bytes_name_every_item_that_has_them() -> None:
    tables = {name: table(item("a", draw(8), bytes="x")) for name in ("one", "two")}
    hits = keep_strongest(PictureIndex(tables, LIMITS).match(sample(None, None)))[0]
    assert [(hit.benchmark, hit.kind) for hit in hits] == [("one", "bytes"), ("two", "bytes")]


def test_only_the_strongest_evidence_for_an_item_counts() -> None:
    def hit(kind: str, distance: float = 0.0) -> Hit:
        return Hit(row=0, benchmark="set", item="a", kind=kind, distance=distance)

    found = keep_strongest([hit("clip", 0.01), hit("exact"), hit("pdq", 3), hit("pixels")])
    assert [hit.kind for hit in found[0]] == ["pixels", "exact"]  # the prompt "a" is another item


def unit(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_cosines_are_those_of_an_exhaustive_search() -> None:
    rng = make_rng(0, "cosine")
    entries = unit(rng, (300, 24)).astype(np.float16)
    noisy = entries[rng.integers(0, 300, 200)].astype(np.float32)
    queries = noisy + 0.05 * unit(rng, (200, 24))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float16)
    found = search_cosine(queries, entries, 0.5)
    exact = queries.astype(np.float64) @ entries.astype(np.float64).T
    exact /= np.linalg.norm(queries.astype(np.float64), axis=1)[:, None]
    exact /= np.linalg.norm(entries.astype(np.float64), axis=1)[None, :]
    near = np.abs(exact - 0.5) > 1e-6  # at the threshold itself rounding decides
    pairs = set(zip(found.query.tolist(), found.entry.tolist(), strict=True))
    wanted = {(int(q), int(e)) for q, e in np.argwhere((exact >= 0.5) & near)}
    assert wanted == {pair for pair in pairs if near[pair]}
    np.testing.assert_allclose(found.cosine, exact[found.query, found.entry], atol=1e-6)


def test_the_least_cosine_is_inclusive_and_blocks_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cosine_search, "_BLOCK", 6)  # two samples at once
    axes = np.eye(3, dtype=np.float16)
    found = search_cosine(np.concatenate([axes, axes[::-1]]), axes, 1.0)
    assert found.query.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.entry.tolist() == [0, 1, 2, 2, 1, 0]


def test_embeddings_match_by_their_cosine_and_a_null_matches_nothing() -> None:
    limits = replace(LIMITS, pdq_radius=-1, min_cosine={"clip": 0.95})
    entry = item("a", draw(8), clip=[1.0, 0.0])
    index = PictureIndex({"set": table(entry, item("b", draw(8)))}, limits)
    turned = [float(np.cos(0.3)), float(np.sin(0.3))]  # cosine 0.9553
    (hit,) = index.match(sample(clip=turned))
    assert (hit.item, hit.kind) == ("a", "clip")
    assert hit.distance == pytest.approx(1 - np.cos(0.3), abs=1e-3)  # stored in half precision
    assert list(index.match(sample(clip=[0.0, 1.0]))) == []
    assert list(index.match(sample(clip=None))) == []


@pytest.mark.parametrize(
    ("vector", "message"),
    [([2.0, 0.0], "length 1, got 2"), ([float("nan"), 0.0], "got nan"), ([1.0], "of one width")],
)
def test_embeddings_that_cannot_be_compared_are_refused(vector: list[float], message: str) -> None:
    with pytest.raises(ShardError, match=message):
        search_cosine(np.array([vector], np.float16), np.array([[1.0, 0.0]], np.float16), 0.5)


def real_picture() -> NDArray[np.uint8]:
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:400, :300])


def test_the_eight_forms_are_the_hashes_of_the_turned_pictures() -> None:
    pixels = real_picture()
    (row,) = hash_items("p", [Item(name="a", data=to_png(pixels))], {})
    expected: set[bytes] = set()
    for quarter in range(4):
        for form in (np.rot90(pixels, quarter), np.fliplr(np.rot90(pixels, quarter))):
            bits, quality = pdqhash.compute(np.ascontiguousarray(form))
            expected.add(np.packbits(bits).tobytes())
            assert quality == row["quality"] == 100
    distances = [min(bits_apart(form, other) for other in expected) for form in row["forms"]]
    assert len(set(row["forms"])) == 8 and max(distances) <= 2  # float32 there, float64 here


def test_eight_forms_are_eight_pictures_itself_first() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    forms = turn_pixels(pixels)
    assert np.array_equal(forms[0], pixels)
    assert len({(form.shape, form.tobytes()) for form in forms}) == 8


@pytest.mark.parametrize("side", [160, 192, 256, 512])
def test_a_mirrored_or_turned_jpeg_is_within_a_few_bits(side: int) -> None:
    image = Image.fromarray(real_picture()).resize((side, side))
    (row,) = hash_items("p", [Item(name="a", data=to_png(np.asarray(image)))], {})
    index = PictureIndex({"set": table(row)}, LIMITS)
    for way in Image.Transpose:
        copy = reencode(image.transpose(way))
        ((_, distance),) = match(index, copy)
        assert distance <= 10


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    import io

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def reencode(image: Image.Image) -> bytes:
    """Hash a picture as annotate does, after JPEG of quality 75."""
    import io

    from curate.annotators.pdq_hash import measure_spectrum, pack_hash
    from curate.core.image import decode_image, to_array

    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return pack_hash(measure_spectrum(to_array(decode_image(stream.getvalue()))).frequencies)


def bits_apart(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def flat_picture(number: int, side: int = 192) -> Image.Image:
    """Draw a few soft shapes: too few gradients for PDQ."""
    rng = make_rng(0, "flat", number)
    image = Image.new("RGB", (side, side), "white")
    for _ in range(3):
        left, top = (int(value) for value in rng.integers(0, side * 3 // 4, 2))
        colour = tuple(int(value) for value in rng.integers(100, 200, 3))
        image.paste(colour, (left, top, left + side // 4, top + side // 5))
    return image.filter(ImageFilter.GaussianBlur(side / 16))


def measured(image: Image.Image, quality: int = 95) -> pa.Table:
    """Measure a picture as annotate does, after JPEG."""
    import io

    from curate.annotators.hash_spec import hash_picture
    from curate.annotators.pdq_hash import measure_spectrum, pack_hash
    from curate.core.image import decode_image, to_array

    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    pixels = to_array(decode_image(stream.getvalue()))
    spectrum, look = measure_spectrum(pixels), hash_picture(pixels)
    return sample(
        pack_hash(spectrum.frequencies), spectrum.quality,
        phash=look.phash, thumbnail=look.thumbnail.tobytes(),
    )  # fmt: skip


def test_pictures_too_flat_for_pdq_match_by_phash_and_thumbnail_in_any_form() -> None:
    limits = replace(LIMITS, phash_radius=8)
    items = [Item(name=str(n), data=to_png(np.asarray(flat_picture(n)))) for n in range(12)]
    rows = hash_items("p", items, {})
    assert max(row["quality"] for row in rows) < 50
    index = PictureIndex({"set": table(*rows)}, limits)
    for number, way in enumerate((None, *Image.Transpose)):
        image = flat_picture(number)
        copy = image if way is None else image.transpose(way)
        hits = list(index.match(measured(copy.resize((150, 150)), 80)))
        assert {(hit.kind, hit.item) for hit in hits} == {("phash", str(number))}
    for number in range(12, 40):  # strangers
        assert list(index.match(measured(flat_picture(number)))) == []


def test_what_pdq_can_tell_apart_is_not_left_to_phash() -> None:
    forms = draw(8)
    index = PictureIndex({"set": table(item("a", forms))}, replace(LIMITS, phash_radius=8))
    far = {"phash": 0, "thumbnail": bytes(192)}  # the item's own look
    assert list(index.match(sample(flip(forms[0], 40), 100, **far))) == []
    assert list(index.match(sample(flip(forms[0], 40), 50, **far))) == []  # PDQ's own from here
    (hit,) = index.match(sample(flip(forms[0], 40), 49, **far))
    assert hit.kind == "phash"


def test_a_turned_form_of_a_flat_picture_must_be_nearer_than_the_picture_itself() -> None:
    limits = replace(LIMITS, phash_radius=8)
    look = flat_look(0)
    turned = [flat_look(number) for number in range(100, 107)]
    facts = {"phashes": [0] * 8, "thumbnails": [one.tobytes() for one in (look, *turned)]}
    index = PictureIndex({"set": table({**item("a", draw(8), 10), **facts})}, limits)
    for form, noise, is_met in ((look, 4, True), (turned[3], 4, False), (turned[3], 1, True)):
        rng = make_rng(0, "noise", noise)
        change = rng.integers(-noise, noise + 1, 192)
        near = np.clip(form.astype(int) + change, 0, 255).astype(np.uint8)
        found = list(index.match(sample(quality=10, phash=0, thumbnail=near.tobytes())))
        assert bool(found) is is_met


def flat_look(number: int) -> NDArray[np.uint8]:
    return make_rng(0, "look", number).integers(60, 140, 192).astype(np.uint8)
