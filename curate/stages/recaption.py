"""Write new captions for the kept pictures: every attempt is a row, as the model wrote it.

    verdicts + sizes of ingest -> samples, views (what is shown) -> attempts that shall be there
    journal: attempts made before -> the missing ones -> captioner, rewriter -> scores -> journal
    all attempts in the order of samples and styles -> table

Nothing is judged: `judge` reads the table and says which captions are good. Where dedup kept the
captions of the dropped duplicates, each is a row too: source `alternate_1` and so on, model
`dedup`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from curate.captioners.captioner import Captioner
from curate.captioners.table import check_templates, load_captioner
from curate.captioners.vlm_batches import BatchLimits
from curate.core.ahead import map_ahead
from curate.core.batches import batched
from curate.core.errors import ConfigError, ShardError
from curate.core.geometry import Geometry
from curate.core.manifest import Task
from curate.core.model_ref import ModelRef
from curate.core.schema import OK, VERDICTS
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import MapStage, Place, plain_config
from curate.stages.matching.hits import ALTERNATES
from curate.stages.pictures import read_pictures
from curate.stages.recaptioning.config import CROP, RecaptionConfig
from curate.stages.recaptioning.journal import Journal
from curate.stages.recaptioning.recaptioner import Answered, Recaptioner
from curate.stages.recaptioning.rows import CAPTION_SCHEMA, alternate_rows, table_row
from curate.stages.recaptioning.scores import Scorer
from curate.stages.recaptioning.views import Shown, Viewer
from curate.stages.recaptioning.wanted import Sample, View

CAPTIONER, REWRITER, VERIFIER, IMAGE_TEXT = "captioner", "rewriter", "verifier", "image_text"

BuildCaptioner = Callable[[ModelRef, BatchLimits], Captioner]


class RecaptionStage(MapStage[RecaptionConfig]):
    """Write one row per caption attempt of every kept sample.

    Args:
        geometry: of bucket, whose crops are captioned.
        captioners: kinds of captioners that curate does not know.
    """

    name: ClassVar[str] = "recaption"
    version: ClassVar[int] = 2
    takes: ClassVar[tuple[str, str] | None] = (VERDICTS, "kept")
    recaptioner: Recaptioner

    def __init__(
        self,
        config: RecaptionConfig,
        inputs: Mapping[str, ShardSet],
        models: Mapping[str, ModelRef],
        seed: int,
        own: ShardSet | None = None,
        *,
        geometry: Geometry,
        captioners: Mapping[str, BuildCaptioner] | None = None,
    ) -> None:
        # A rewriter that is not asked must not make shards stale when it changes.
        used = {role: ref for role, ref in models.items() if role != REWRITER or config.fuse}
        super().__init__(config, inputs, used, seed, own)
        self._captioners = captioners or {}
        self.viewer = Viewer(
            geometry=geometry if config.picture == CROP else None,
            max_pixels=config.max_pixels,
            seed=seed,
        )

    def waves(self) -> Iterator[Sequence[Task]]:
        self.check_models()
        params = {
            "templates": {one.name: one.digest for one in self.config.used_templates()},
            "geometry": plain_config(self.viewer.geometry) if self.viewer.geometry else {},
        }
        for tasks in super().waves():
            yield [Task(shard=one.shard, inputs=one.inputs, params=params) for one in tasks]

    def gains_by_retry(self, counts: Mapping[str, int]) -> bool:
        return counts.get("captioner_error", 0) > 0

    def setup(self) -> None:
        scored_by = {
            role: self.models[role].digest for role in (IMAGE_TEXT, VERIFIER) if role in self.models
        }
        image_text = None
        if IMAGE_TEXT in self.models:
            from curate.models.clip import load_image_text

            image_text = load_image_text(self.models[IMAGE_TEXT], device="auto")
        self.recaptioner = Recaptioner(
            config=self.config,
            templates=self.config.known_templates(),
            captioner=self._load(CAPTIONER),
            rewriter=self._load(REWRITER) if self.config.fuse else None,
            scorer=Scorer(
                image_text, self._load(VERIFIER) if VERIFIER in self.models else None, scored_by
            ),
            seed=self.seed,
        )

    def run(self, task: Task, place: Place) -> Counter[str]:
        shard = task.shard
        journal = Journal(self.own.store, shard, place.scratch)
        answered: Answered = journal.read()
        views: dict[str, View] = {}
        samples = self.samples(shard)
        windows = batched(self.shown(shard, samples, answered, views), self.config.window)
        for lines in self.recaptioner.complete_all(windows, answered):
            journal.append(lines)
        journal.push()
        return self._write(place, shard, samples, views, answered)

    def check_models(self) -> None:
        """Refuse what the models cannot do, before anything is loaded.

        Raises:
            ConfigError: `fuse` without a rewriter.
            ModelError: a style that the captioner cannot follow.
        """
        if self.config.fuse and REWRITER not in self.models:
            raise ConfigError(
                f"recaption.fuse: needs a model pack with a {REWRITER}, got "
                f"{', '.join(self.models) or 'none'}; name one in models=FILE.yaml"
            )
        templates = self.config.used_templates()
        for role, rewrites in ((CAPTIONER, False), (REWRITER, True)):
            asked = [one for one in templates if one.uses_draft == rewrites]
            ref = self.models.get(role)
            if ref and asked and ref.kind not in self._captioners:
                check_templates(ref, asked)

    def samples(self, shard: str) -> list[Sample]:
        """Give the kept samples of a shard, in table order."""
        verdicts = self.inputs[VERDICTS].table(shard, ["key", "keep"])
        kept = set(verdicts.filter(verdicts["keep"])["key"].to_pylist())
        columns = ["key", "caption", "sha256", "height", "width"]
        return [
            Sample(
                key=row["key"], shard=shard, alt=row["caption"] or "", sha256=row["sha256"] or "",
                height=row["height"], width=row["width"],
            )
            for row in self.inputs["ingest"].table(shard, columns).to_pylist()
            if row["key"] in kept
        ]  # fmt: skip

    def shown(
        self,
        shard: str,
        samples: Sequence[Sample],
        answered: Answered,
        views: dict[str, View],
    ) -> Iterator[Shown]:
        """Yield the pictures of incomplete samples as the captioner is given them.

        They are decoded and cut in other threads, a window ahead.

        Args:
            shard: that holds them.
            samples: of it.
            answered: attempts that are there.
            views: filled with the views of samples that bucket will take.
        """
        wanted = {sample.key: sample for sample in samples}
        if not self.viewer.needs_pixels:
            for sample in samples:
                view = self.viewer.view(sample)
                if view:
                    views[sample.key] = view
                if not view or self.recaptioner.is_complete(sample, view, answered):
                    del wanted[sample.key]
        if not wanted:
            return
        window, threads = self.config.window, self.config.threads
        pictures = read_pictures(
            self.inputs["ingest"], shard, wanted.keys(), ahead=window, threads=threads
        )
        cut = map_ahead(
            lambda picture: self.viewer.show(wanted[picture.key], picture.image),
            pictures,
            ahead=window,
            threads=threads,
        )
        for shown in cut:
            if shown:
                views[shown.sample.key] = shown.view
            if shown and not self.recaptioner.is_complete(shown.sample, shown.view, answered):
                yield shown

    def _write(
        self,
        place: Place,
        shard: str,
        samples: Sequence[Sample],
        views: Mapping[str, View],
        answered: Answered,
    ) -> Counter[str]:
        alternates = self._read_alternates(shard)
        counts: Counter[str] = Counter({"in": len(samples), "kept": len(samples)})
        with ShardWriter(
            place.out, shard, CAPTION_SCHEMA, with_tar=False, unique_keys=False
        ) as writer:
            for sample in samples:
                rows = self._rows(sample, views.get(sample.key), answered)
                counts.update(_count(rows))
                for row in rows:
                    writer.write(row)
                for row in alternate_rows(sample.key, alternates.get(sample.key, [])):
                    writer.write(row)
                    counts[ALTERNATES] += 1
        self._check_some(shard, counts)
        return counts

    def _rows(self, sample: Sample, view: View | None, answered: Answered) -> list[dict[str, Any]]:
        if view is None:
            return []
        asks = self.recaptioner.asks(sample, view, answered)
        return [table_row(answered[ask.attempt]) for ask in asks]

    def _read_alternates(self, shard: str) -> dict[str, list[str]]:
        """Give the captions of dropped duplicates by the key of the sample that was kept."""
        verdicts = self.inputs[VERDICTS]
        if ALTERNATES not in verdicts.schema(shard).names:
            return {}
        rows = verdicts.table(shard, ["key", ALTERNATES]).to_pylist()
        return {row["key"]: row[ALTERNATES] for row in rows if row[ALTERNATES]}

    def _check_some(self, shard: str, counts: Mapping[str, int]) -> None:
        """Refuse a shard of several samples of which none has an answer.

        Raises:
            ShardError: the models failed on everything.
        """
        failed = counts.get("captioner_error", 0)
        if failed > 1 and counts["kept"] > 1 and not counts.get("attempts", 0):
            raise ShardError(
                f"{self.own.url}/{shard}: the captioner must answer for some picture, got "
                f"{failed} errors and nothing else; check the model or server and run again"
            )

    def _load(self, role: str) -> Captioner:
        ref = self.models[role]
        build = self._captioners.get(ref.kind, load_captioner)
        return build(ref, self.config.limits)


def _count(rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Count answers and errors of a sample; whatever happens, its picture stays."""
    good = sum(row["status"] == OK for row in rows)
    counts = Counter({"attempts": good, "captioner_error": len(rows) - good})
    counts["without_caption"] = int(good == 0)
    return +counts
