"""Run the recaption stage on a few pictures, with captioners that need no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.captioners.captioner import CaptionAttempt, CaptionRequest, Provenance, Sampling
from curate.core.commit import Output, commit
from curate.core.geometry import Geometry
from curate.core.image import encode_image
from curate.core.manifest import Identity, Task
from curate.core.schema import INGEST_SCHEMA, OK, VERDICT_FIELDS, VERDICTS, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place
from curate.core.store import LocalStore, Store
from curate.stages.duplicates.clusters import CLUSTER_FIELDS
from curate.stages.recaption import RecaptionStage
from curate.stages.recaptioning.config import RecaptionConfig
from curate.stages.recaptioning.recaptioner import Recaptioner
from curate.stages.recaptioning.scores import Scorer

SHARD = "00000"
# Squares and pictures of at most 2 : 1 are placed, longer ones lose too much.
GEOMETRY = Geometry(resolutions=(16,), step_px=8, max_aspect=1.0, max_crop_frac=0.5)
PLAIN = pa.schema(VERDICT_FIELDS)
CLUSTERED = pa.schema([*VERDICT_FIELDS, *CLUSTER_FIELDS])


@dataclass(slots=True, kw_only=True)
class CountingCaptioner:
    """Write style, size of the picture and seed; remember what was asked."""

    model: str = "counting"
    fails: Callable[[CaptionRequest], bool] = lambda request: False
    asked: list[CaptionRequest] = field(default_factory=list[CaptionRequest])
    calls: int = 0

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            backend="test", model=self.model, model_digest="0" * 64, dtype="float32", version="1.0"
        )

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        self.calls += 1
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: CaptionRequest) -> CaptionAttempt:
        prompt = request.template.fill(alt=request.alt, draft=request.draft)
        if self.fails(request):
            return CaptionAttempt(text_raw="no way", prompt=prompt, finish_reason="error")
        image = request.image
        size = f"{image.width}x{image.height}"
        text = f"{request.template.id}: a picture of {size} pixels, drawn with seed {request.seed}"
        return CaptionAttempt(
            text_raw=text, prompt=prompt, finish_reason="stop", num_tokens=4, mean_logprob=-0.25
        )

    def styles_asked(self) -> Counter[str]:
        return Counter(request.template.id for request in self.asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Describe one picture of the input."""

    name: str
    size: tuple[int, int] = (32, 32)  # width, height
    alt: str = "words of the page"
    keep: bool = True
    alternates: Sequence[str] = ()

    @property
    def key(self) -> str:
        return make_key(self.name)


def make_items(count: int) -> list[Item]:
    return [Item(name=f"item {number}") for number in range(count)]


def finish(
    folder: Path, schema: pa.Schema, rows: Sequence[dict[str, Any]], *, tar: bool
) -> ShardSet:
    """Commit a shard of a stage, as the engine does."""
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, SHARD, schema, with_tar=tar) as writer:
        for row in rows:
            image = row.pop("image", None)
            row |= {"status": OK}
            if image is not None:
                data = encode_image(image, "png")
                row |= {"bytes": len(data), "width": image.width, "height": image.height}
                row["offset"] = writer.write(row, {"png": data})["png"][0]
            else:
                writer.write(row)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    counts = {"in": len(rows), "kept": sum(row.get("keep", True) for row in rows)}
    commit(work, Output(store=LocalStore(folder)), SHARD, identity, counts)
    work.rmdir()
    return ShardSet(folder)


class Recaption:
    """Hold an input and the stage's folder, so that one test can run the stage several times."""

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        *,
        schema: pa.Schema = CLUSTERED,
        own: Store | None = None,
        draw: Callable[[Item], Image.Image] | None = None,
    ) -> None:
        self._folder = folder
        self._own = ShardSet(own or LocalStore(folder / "recaption"))
        self._runs = 0
        pictures = [
            {
                "key": one.key,
                "caption": one.alt,
                "sha256": one.name,
                "image": draw(one) if draw else Image.new("RGB", one.size, "red"),
            }
            for one in items
        ]
        verdicts = [
            {"key": one.key, "keep": one.keep, "reason": "", "alternates": list(one.alternates)}
            for one in items
        ]
        self._inputs = {
            VERDICTS: finish(folder / "dedup", schema, verdicts, tar=False),
            "ingest": finish(folder / "ingest", INGEST_SCHEMA, pictures, tar=True),
        }
        self.counts: Counter[str] = Counter()
        self.table = Path()

    def run(
        self,
        captioner: Any,
        *,
        rewriter: Any = None,
        scorer: Scorer | None = None,
        geometry: Geometry = GEOMETRY,
        seed: int = 0,
        scratch: str = "scratch",
        **settings: Any,
    ) -> list[dict[str, Any]]:
        """Run the stage once and give the rows of its table."""
        config = RecaptionConfig(**{"styles": ["short"], **settings})
        stage = RecaptionStage(config, self._inputs, {}, seed, self._own, geometry=geometry)
        stage.recaptioner = Recaptioner(
            config=config,
            templates=config.known_templates(),
            captioner=captioner,
            rewriter=rewriter,
            scorer=scorer or Scorer(None, None, {}),
            seed=seed,
        )
        self._runs += 1
        out = self._folder / f"out {self._runs}"
        out.mkdir()
        place = Place(out=out, scratch=self._folder / scratch)
        self.counts = stage.run(Task(shard=SHARD, inputs={}), place)
        self.table = out / f"{SHARD}.parquet"
        return pq.read_table(self.table).to_pylist()

    @property
    def journal(self) -> Path:
        return self._folder / "recaption" / "journal" / f"{SHARD}.jsonl"
