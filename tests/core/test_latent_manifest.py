"""A manifest names files of its own folder, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curate.core.errors import ShardError
from curate.core.latent_manifest import (
    FeatureFacts,
    LatentFacts,
    LatentManifest,
    ShardEntry,
    TextFacts,
)

SHARD = ShardEntry(
    name="00000", bucket="64x64", num_samples=1, files={"00000.tar": 1, "text-main/00000.tar": 1}
)
MANIFEST = LatentManifest(
    latents=LatentFacts(
        member="latents", vae="a", channels=1, mean=(0.0,), std=(1.0,), downsample=8
    ),
    texts=(TextFacts(name="main", encoder="b", dim=2, pooled_dim=0, max_tokens=3),),
    features=(FeatureFacts(name="clip", model="c"),),
    shards=(SHARD,),
)


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert LatentManifest.from_json(MANIFEST.to_json(), "here") == MANIFEST


@pytest.mark.parametrize(
    "bad",
    [
        replace(MANIFEST, shards=(replace(SHARD, name="../00000"),)),
        replace(MANIFEST, shards=(replace(SHARD, name="/etc/00000"),)),
        replace(MANIFEST, shards=(replace(SHARD, files={"text-main/../../a.tar": 1}),)),
        replace(MANIFEST, texts=(replace(MANIFEST.texts[0], name="/../.."),)),
        replace(MANIFEST, features=(replace(MANIFEST.features[0], name=".."),)),
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(bad: LatentManifest) -> None:
    with pytest.raises(ShardError, match=r"^here: must be a manifest of format 1, got .*the name"):
        LatentManifest.from_json(bad.to_json(), "here")
