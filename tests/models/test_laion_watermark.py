"""LAION's watermark model, with random weights: from its state dict to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from curate.annotators.annotator import Batch, Options
from curate.annotators.picture_score import PictureScore
from curate.annotators.table import ANNOTATORS
from curate.core.errors import ModelError
from curate.models.converting.conversion import Request, convert
from curate.models.golden import golden_pictures
from curate.models.laion_watermark import build_network, load_laion_watermark, to_input
from curate.models.packs import ModelRef

pytest.importorskip("timm")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, ModelRef]:
    """A network as LAION's example builds it, saved as LAION's inference script reads it."""
    folder = tmp_path_factory.mktemp("watermark")
    torch.manual_seed(0)
    network = build_network().eval()
    torch.save({"weights": network.state_dict()}, folder / "watermark_model_v1.pt")
    out = folder / "watermark.safetensors"
    done = convert(Request(source=folder / "watermark_model_v1.pt", out=out))
    assert done.kind == "laion_watermark"
    return network, ModelRef(kind=done.kind, paths=(out,))


def test_scores_are_those_of_laions_example(converted: tuple[torch.nn.Module, ModelRef]) -> None:
    network, ref = converted
    example = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    pictures = golden_pictures()
    with torch.inference_mode():
        wanted = network(torch.stack([example(picture) for picture in pictures])).softmax(dim=1)
    found = load_laion_watermark(ref)(pictures)
    np.testing.assert_allclose(found, wanted[:, 0].numpy(), atol=1e-5)
    torch.testing.assert_close(to_input(pictures[0]), example(pictures[0]), atol=1e-5, rtol=0)


def test_the_annotator_takes_it_for_the_role_watermark(
    converted: tuple[torch.nn.Module, ModelRef],
) -> None:
    annotator = ANNOTATORS["watermark"]({"watermark": converted[1]}, Options())
    assert isinstance(annotator, PictureScore)
    annotator.setup()
    picture = Image.new("RGB", (40, 30))
    batch = Batch(keys=["k"], images=[picture], captions=[""], columns={})
    (score,) = annotator(batch)["watermark.score"]
    assert 0 < score < 1
    assert annotator.metadata == {"model": "laion:watermark-efficientnet-b3"}


def test_another_network_and_a_pickle_are_refused(tmp_path: Path) -> None:
    from curate.models.weights import write_tensors

    write_tensors(tmp_path / "a.safetensors", {"weight": torch.zeros(2)})
    with pytest.raises(ModelError, match=r"a\.safetensors: \S+ must be"):
        load_laion_watermark(ModelRef(kind="laion_watermark", paths=(tmp_path / "a.safetensors",)))
    with pytest.raises(ModelError, match="run `curate convert-weights"):
        load_laion_watermark(ModelRef(kind="laion_watermark", paths=(tmp_path / "a.pt",)))


def test_no_pictures_give_no_scores(converted: tuple[torch.nn.Module, ModelRef]) -> None:
    assert load_laion_watermark(converted[1])([]).shape == (0,)
