"""Count the bytes that a caption takes in our store, beside other layouts.

`python -m benchmarks.store_size [--captions 100000] [--texts FILE ...] [--samples 2000]`

    ours      tars and indexes as encode writes them, two captions a sample, every caption of its
              own length; float16, int8, ids
    mosaicml  full length, float32, pooled float32 (mosaicml/diffusion's precomputed latents)
    PRX       real tokens, bfloat16, pooled bfloat16 (Photoroom/PRX's encoding), no tar

Bytes depend on token counts alone, so the numbers stored are zeros; tokens are counted by the
shipped text encoder and, for CLIP-L and T5-XXL, by CLIP's vocabulary as open_clip ships it (T5's is
not at hand; it cuts English into about as many). Captions: 100,000 of the toy web's alt texts and
descriptions, and the lines of `--texts` (a .tsv gives its first column), e.g. PartiPrompts.tsv,
T2I-CompBench's and DPG-Bench's .txt. The index and what a tar adds to a record's own bytes are told
apart. `--samples` of each set are written; the mean is of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from open_clip.tokenizer import SimpleTokenizer

from curate.core.latent_column import CaptionColumn, CaptionRecord
from curate.core.schema import make_key
from curate.core.seed import make_rng
from curate.models.packs import load_pack
from curate.models.text_encoder import load_text_encoder
from pipelines.toyweb.alt_text import draw_alt_class, write_alt
from pipelines.toyweb.scene import describe, random_scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Say what a text encoder gives.

    Args:
        dim: D.
        pooled_dim: P.
        max_tokens: most tokens of a caption.
    """

    dim: int
    pooled_dim: int
    max_tokens: int


CLIP_L = Tower(dim=768, pooled_dim=768, max_tokens=77)
T5_XXL = Tower(dim=4096, pooled_dim=0, max_tokens=512)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--texts", type=Path, nargs="*", default=[])
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    toy = draw_toy(options.captions)
    sets = {"toy web": toy}
    if options.texts:
        sets["real"] = read_texts(options.texts)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, texts in sets.items():
        for tower_name, tower, lengths in count_tokens(texts, is_toy=name == "toy web"):
            found[f"{name}, {len(texts)} captions, {tower_name}"] = compare(
                tower, lengths, options.samples
            )
    print(json.dumps(found, indent=1))


def draw_toy(count: int) -> list[str]:
    """Draw captions of the toy web in turns: an alt text, a description."""
    texts: list[str] = []
    for number in range(count // 2):
        rng = make_rng(0, "benchmarks.store_size", number)
        scene = random_scene(rng)
        texts += [write_alt(draw_alt_class(rng), scene, "train", rng), describe(scene)]
    return texts


def read_texts(paths: Sequence[Path]) -> list[str]:
    """Read captions, a line each; equal ones once."""
    texts: dict[str, None] = {}
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.suffix == ".tsv":
            lines = [line.split("\t")[0] for line in lines[1:]]
        texts |= dict.fromkeys(line.strip() for line in lines if line.strip())
    return list(texts)


def count_tokens(texts: Sequence[str], *, is_toy: bool) -> list[tuple[str, Tower, np.ndarray]]:
    """Give (name, text encoder, tokens of each caption)."""
    clip = SimpleTokenizer()
    counts = np.array([len(clip.encode(text)) for text in texts])
    # CLIP has two marks, T5 one.
    towers = [("CLIP-L", CLIP_L, counts + 2), ("T5-XXL", T5_XXL, counts + 1)]
    if is_toy:
        encoder = load_text_encoder(load_pack("toy")["text_encoder"])
        own = Tower(dim=encoder.dim, pooled_dim=encoder.pooled_dim, max_tokens=encoder.max_tokens)
        lengths = np.array([len(one.ids) for one in encoder.tokenize(texts)])
        towers.insert(0, ("toy CLIP", own, lengths))
    return [(name, tower, lengths.clip(max=tower.max_tokens)) for name, tower, lengths in towers]


def compare(tower: Tower, lengths: np.ndarray, num_samples: int) -> dict[str, float]:
    """Give bytes a caption in every layout, ours with and without what tar and index add."""
    order = make_rng(0, "benchmarks.store_size", "order").permutation(len(lengths))
    chosen = lengths[order[: 2 * num_samples]]
    pooled = 2 * tower.pooled_dim
    mosaicml = 4 * tower.max_tokens * tower.dim + 4 * tower.pooled_dim
    prx = 2 * tower.dim * float(chosen.mean()) + pooled
    found: dict[str, float] = {"tokens": float(chosen.mean()), "mosaicml": mosaicml, "PRX": prx}
    for form, token_bytes in (("float16", 2 * tower.dim), ("int8", tower.dim + 2), ("ids", 4)):
        tar, index = write(tower, chosen, form)
        bare = token_bytes * float(chosen.mean()) + (0 if form == "ids" else pooled)
        found |= {
            f"ours {form}": tar + index,
            f"ours {form}: tar adds": tar - bare,
            f"ours {form}: index": index,
            f"mosaicml / ours {form}": mosaicml / (tar + index),
        }
    return {name: round(value, 2) for name, value in found.items()}


def write(tower: Tower, lengths: np.ndarray, form: str) -> tuple[float, float]:
    """Write captions in pairs; give (tar, index) bytes a caption."""
    with tempfile.TemporaryDirectory() as folder:
        column = CaptionColumn(Path(folder), "00000", {"form": form})
        for number in range(len(lengths) // 2):
            pair = lengths[2 * number : 2 * number + 2].tolist()
            column.add(
                make_key(str(number)),
                [
                    _record(source, count, tower, form)
                    for source, count in zip(("alt", "detailed"), pair, strict=True)
                ],
            )
        column.close()
        count = len(lengths) // 2 * 2
        sizes = [(Path(folder) / f"00000.{ext}").stat().st_size / count for ext in ("tar", "idx")]
    return sizes[0], sizes[1]


def _record(source: str, count: int, tower: Tower, form: str) -> CaptionRecord:
    tokens = {
        "float16": np.zeros((count, tower.dim), np.float16),
        "int8": np.zeros((count, tower.dim + 2), np.int8),
        "ids": np.zeros(count, np.int32),
    }[form]
    return CaptionRecord(
        source=source,
        text="",
        tokens=tokens,
        pooled=np.zeros(0 if form == "ids" else tower.pooled_dim, np.float16),
        num_truncated=0,
    )


if __name__ == "__main__":
    main()
