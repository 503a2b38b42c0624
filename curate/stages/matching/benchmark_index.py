"""Open the hashed pictures and the prompts of all evaluation sets, and match samples with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from curate.core.schema import OK
from curate.core.shard import ShardSet
from curate.stages.matching.hits import Hit
from curate.stages.matching.items import BenchmarkItem
from curate.stages.matching.picture_index import Limits, PictureIndex
from curate.stages.matching.prompt_sets import Prompt
from curate.stages.matching.prompts import PromptIndex, PromptRules

PICTURES, PROMPTS = "_benchmark-", "_prompts-"
"""How the names of the two kinds of helper shards begin."""


class BenchmarkIndex:
    """Find samples among the pictures and prompts of evaluation sets.

    Args:
        own: the stage's shards.
        parts: benchmark -> its helper shards.
        limits: how near is a match of pictures.
        rules: when a caption meets a prompt.

    Attributes:
        limits: None where no benchmark has pictures.
    """

    def __init__(
        self,
        own: ShardSet,
        parts: Mapping[str, Sequence[str]],
        limits: Limits,
        rules: PromptRules,
    ) -> None:
        tables = {
            name: pa.concat_tables(own.table(shard) for shard in shards if _has_pictures(shard))
            for name, shards in parts.items()
            if any(map(_has_pictures, shards))
        }
        prompts = {
            name: [prompt for shard in shards if not _has_pictures(shard)
                   for prompt in _prompts(own, shard)]
            for name, shards in parts.items()
        }  # fmt: skip
        prompts = {name: some for name, some in prompts.items() if some}
        self.limits = limits if tables else None
        self._pictures = PictureIndex(tables, limits) if tables else None
        self._prompts = PromptIndex(prompts, rules) if prompts else None

    def match(self, samples: pa.Table) -> Iterator[Hit]:
        """Yield all matches of samples, see `PictureIndex.match`; a column caption is read too."""
        if self._pictures:
            yield from self._pictures.match(samples)
        yield from self.match_captions(samples["caption"].to_pylist())

    def match_captions(self, captions: Sequence[str | None]) -> Iterator[Hit]:
        """Yield all matches of captions; their place is the hits' row."""
        for match in self._prompts.match(captions) if self._prompts else ():
            for item in match.items:
                yield Hit(
                    row=match.row,
                    benchmark=match.benchmark,
                    item=item,
                    kind=match.kind,
                    distance=1 - match.score,
                )


def read_items(own: ShardSet, shards: Sequence[str]) -> list[BenchmarkItem]:
    """List the items of a benchmark from its helper shards, pictures first."""
    return [
        BenchmarkItem(name=row["item"], is_prompt=not _has_pictures(shard), status=row["status"])
        for shard in shards
        for row in own.table(shard, ["item", "status"]).to_pylist()
    ]


def _has_pictures(shard: str) -> bool:
    return shard.startswith(PICTURES)


def _prompts(own: ShardSet, shard: str) -> Iterator[Prompt]:
    for row in own.table(shard).to_pylist():
        if row["status"] == OK:
            yield Prompt(item=row["item"], text=row["text"])
