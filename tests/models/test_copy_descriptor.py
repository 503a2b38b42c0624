"""A copy detector is an ONNX file; it gives unit vectors of pictures prepared as its kind wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.copy_descriptor import FAMILIES, load_copy_descriptor, read_family
from curate.models.golden import check_golden, golden_pictures, write_golden
from curate.models.pack_file import read_pack_file
from curate.models.packs import is_role
from curate.models.probes import probe_descriptor
from tests.models.onnx_files import write_pooling

OWN = {"side_px": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "min_cosine": 0.9}


def own(folder: Path, **changes: Any) -> ModelRef:
    """Write a network of one's own with its JSON."""
    write_pooling(folder / "mine.onnx", side=32, cell=8)
    (folder / "mine.json").write_text(json.dumps({**OWN, **changes}))
    return ModelRef(kind="onnx_descriptor", paths=(folder / "mine.onnx", folder / "mine.json"))


@pytest.mark.parametrize(("kind", "cell"), [("isc", 64), ("sscd", 32)])
def test_a_kind_prepares_pictures_as_its_authors_do(tmp_path: Path, kind: str, cell: int) -> None:
    family = FAMILIES[kind]
    write_pooling(tmp_path / "net.onnx", side=family.side_px, cell=cell)
    model = load_copy_descriptor(ModelRef(kind=kind, paths=(tmp_path / "net.onnx",)))
    prepare = transforms.Compose(
        [
            transforms.Resize((family.side_px, family.side_px)),
            transforms.ToTensor(),
            transforms.Normalize(mean=family.mean, std=family.std),
        ]
    )
    pictures = golden_pictures()
    found = model.embed_images(pictures)
    side = family.side_px // cell
    for picture, vector in zip(pictures, found, strict=True):
        pixels = np.asarray(prepare(picture))
        cells = pixels.reshape(3, side, cell, side, cell).mean(axis=(2, 4)).ravel()
        np.testing.assert_allclose(vector, cells / np.linalg.norm(cells), atol=1e-5)
    assert model.dim == found.shape[1] == 3 * side**2
    assert model.embed_images([]).shape == (0, model.dim)


def test_thresholds_are_the_published_ones() -> None:
    assert (FAMILIES["isc"].min_cosine, FAMILIES["sscd"].min_cosine) == (0.604169, 0.75)


def test_a_network_of_ones_own_says_how_it_wants_its_pictures(tmp_path: Path) -> None:
    ref = own(tmp_path)
    model = load_copy_descriptor(ref)
    assert read_family(ref).min_cosine == 0.9
    small, wide = model.embed_images(
        [Image.new("RGB", (9, 5), "red"), Image.new("RGB", (50, 2), "red")]
    )
    red = np.repeat([1.0, -1.0, -1.0], 16)  # (1 - .5) / .25 and so on, of length 1
    np.testing.assert_allclose(small, red / np.linalg.norm(red), atol=1e-6)
    np.testing.assert_allclose(wide, small, atol=1e-6)


def test_a_network_for_batches_of_one_gives_the_same(tmp_path: Path) -> None:
    ref = own(tmp_path)
    many = load_copy_descriptor(ref).embed_images(golden_pictures())
    write_pooling(tmp_path / "mine.onnx", side=32, cell=8, batch=1)
    np.testing.assert_allclose(load_copy_descriptor(ref).embed_images(golden_pictures()), many)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side_px": 0}, "side_px must be >= 1"),
        ({"min_cosine": 1.5}, r"min_cosine in \(0, 1\], got 32 and 1\.5"),
        ({"mean": [0.5]}, "mean must be three numbers"),
        ({"std": [0.5, 0, 0.5]}, "std must be > 0"),
        ({"extra": 1}, "must have side_px, mean, std, min_cosine, got extra"),
        ({"side_px": 64}, r"must take one float32 input \[N, 3, 64, 64\]"),
    ],
)
def test_facts_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_copy_descriptor(own(tmp_path, **changes))


def test_torchscript_and_pickles_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "sscd_disc_mixup.torchscript.pt").write_bytes(b"PK")
    (tmp_path / "pack.yaml").write_text(
        "descriptor: {kind: sscd, paths: [sscd_disc_mixup.torchscript.pt]}\n"
    )
    pack = read_pack_file(tmp_path / "pack.yaml", is_role, "", lambda _: {})
    with pytest.raises(ModelError, match=r"must have one \.onnx file, got sscd.*torch\.onnx\.exp"):
        load_copy_descriptor(pack["descriptor"])


def test_what_is_no_network_is_one_line(tmp_path: Path) -> None:
    junk = ModelRef(kind="isc", paths=(tmp_path / "junk.onnx",))
    with pytest.raises(ModelError, match=r"junk\.onnx: must exist, got no file"):
        load_copy_descriptor(junk)
    junk.paths[0].write_bytes(b"junk")
    with pytest.raises(ModelError, match="must be an ONNX file, got"):
        load_copy_descriptor(junk)
    write_pooling(junk.paths[0], side=512, cell=64, batch=4)
    with pytest.raises(ModelError, match="for a batch of 1 or of any size"):
        load_copy_descriptor(junk)
    with pytest.raises(ModelError, match="must be of kind isc, sscd, onnx_descriptor, got 'dino'"):
        load_copy_descriptor(ModelRef(kind="dino", paths=junk.paths))


def test_golden_values_notice_another_normalisation(tmp_path: Path) -> None:
    ref = own(tmp_path)
    model = load_copy_descriptor(ref)
    write_golden(ref, model.name, probe_descriptor(model))
    assert check_golden("descriptor", ref, lambda: probe_descriptor(model)) == pytest.approx(
        0, abs=1e-5
    )
    changed = own(tmp_path, mean=[0.485, 0.456, 0.406])
    other = load_copy_descriptor(changed)
    with pytest.raises(ModelError, match=r"models: descriptor .* must give images"):
        check_golden("descriptor", changed, lambda: probe_descriptor(other))
