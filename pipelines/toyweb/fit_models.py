"""Train the toy model pack and write it with its model card.

`python -m pipelines.toyweb.fit_models [--parts vae,clip,heads,captioner] [--out DIR] [--seed 0]`

Each part trains in its own file and is deterministic from the seed on one machine with one thread.
What was measured is kept in `quality.json`, so that a part can be trained again alone. Golden
values are written beside every model at the end (curate/models/golden.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

import curate.models
from curate.models.packs import ModelRef, trained_pack
from pipelines.golden import write_goldens
from pipelines.toyweb import fit_captioner, fit_clip, fit_heads, fit_vae

logger = logging.getLogger(__name__)

QUALITY_NAME = "quality.json"
CARD_NAME = "README.md"
SHIPPED = Path(curate.models.__file__).parent / "toy"

_CARD = """# Toy model pack

Small networks for the toy web (`pipelines/toyweb`): they make the demo and the tests run with no
network, through the same loaders as real models. They know nothing of photographs.

| part | what | format |
| --- | --- | --- |
| `vae/` | AutoencoderKL, 8x, 16 channels, any size divisible by 8 | diffusers |
| `clip/` | CustomTextCLIP, 96x96 pixels squashed, word-level tokenizer, 64 tokens | open_clip |
| `aesthetic.safetensors` | linear head on CLIP embeddings, 1 to 10 by our rule | weight, bias |
| `watermark.safetensors` | linear head on CLIP embeddings, probability | weight, bias |
| `text_overlay.safetensors` | linear head on CLIP embeddings, probability | weight, bias |
| `captioner/` | Idefics3, short and detailed descriptions | transformers |

All weights are safetensors; no file is a pickle and nothing is fetched.

- **Data**: pictures drawn by `pipelines/toyweb/scene.py` and `faults.py`, scenes of the "fit" split
  only; the demo uses "train" and "heldout", the numbers below are on "heldout". No picture or text
  of anybody else. Licence: Apache-2.0, as the project.
- **Command**: `python -m pipelines.toyweb.fit_models --out DIR --seed {seed}`
- **Machine**: {threads} thread(s) of a CPU; `train_s` is wall time, drawing and measuring included,
  on cores that were shared with other work.
- **Limits**: scenes of 1 to 4 objects, six colours, English words of the toy web's alt texts.

| part | measure | value |
| --- | --- | --- |
{rows}

`quality.json` has the same numbers for programs. `psnr_db` and `oracle_read_frac` are through the
posterior's mean; the `*_auc` of clip compare good alt texts with each other class of the toy web's.
"""


def _fit_captioner(out: Path, seed: int) -> dict[str, float]:
    return fit_captioner.fit(out / "captioner", seed)


# In this order: the heads read the CLIP that is in `out`.
PARTS: Mapping[str, Callable[[Path, int], dict[str, float]]] = {
    "vae": fit_vae.fit,
    "clip": fit_clip.fit,
    "heads": fit_heads.fit,
    "captioner": _fit_captioner,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the parts asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="fit_models", description="Train the toy model pack.")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the pack")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, in any order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch, within an operation")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.parts.split(",")) - set(PARTS))
    if unknown:
        parser.error(f"--parts: must be of {', '.join(PARTS)}, got {', '.join(unknown)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    for part in PARTS:
        if part in options.parts.split(","):
            measured = PARTS[part](options.out, options.seed)
            logger.info("%s: %s", part, measured)
            write_card(options.out, part, measured, options.seed, options.threads)
    for line in write_goldens(_trained(options.out), overwrite=True):
        logger.info(line)
    return 0


def _trained(out: Path) -> dict[str, ModelRef]:
    """Give the models that are in the folder."""
    return {
        role: ref
        for role, ref in trained_pack(out).items()
        if all(path.exists() for path in ref.paths)
    }


def write_card(
    out: Path, part: str, measured: Mapping[str, float], seed: int, threads: int
) -> None:
    """Add a part's numbers to quality.json and write the model card anew."""
    path = out / QUALITY_NAME
    quality = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    quality[part] = {name: round(value, 4) for name, value in measured.items()}
    text = json.dumps(quality, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    rows = "\n".join(
        f"| {name} | {measure} | {value:g} |"
        for name in PARTS
        for measure, value in quality.get(name, {}).items()
    )
    card = _CARD.format(seed=seed, threads=threads, rows=rows)
    (out / CARD_NAME).write_text(card, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
