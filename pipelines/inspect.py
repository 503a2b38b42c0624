"""Answer questions about a finished or running `out` from its files alone: show, why."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from curate.core.errors import ConfigError, DataError
from curate.core.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.core.shard import ShardSet
    from curate.stages.filtering.rules_in_force import RuleInForce

BLOCKLIST = "blocklist"  # as in core/withheld.py, which imports arrow
_JUDGED = ("annotate", "ingest", BLOCKLIST, "repeats")  # whose tables filter reads
RUN_FILE, CONFIG_FILE = "run.json", "config.yaml"
SHEET = "cluster-"  # starts the names of clusters' sheets among the thumbnails
_OUTCOMES = (
    "passes",
    "fails",
    "unmeasured",
)  # by `score_rule`'s codes
_BORROWED = ("alternates", "text", "text_raw", "captions.text")  # may be captions of other samples
_NOT_SHOWN = "withheld by blocklist"


def read_run(out: Store) -> dict[str, Any]:
    """Read what `out` belongs to.

    Raises:
        ConfigError: the folder was not made by curate.
    """
    try:
        return json.loads(out.read(RUN_FILE))
    except FileNotFoundError:
        raise ConfigError(
            f"out: must be a folder made by `curate run`, got {out.url}; set out=DIR"
        ) from None


def show_rows(
    out: Store, stage: str, *, key: str = "", reason: str = "", limit: int = 10
) -> Iterator[dict[str, Any]]:
    """Yield rows of a stage's tables, filtered, with caption and the path of a thumbnail.

    Raises:
        DataError: the stage has no finished shards.
    """
    found = list(islice(_find_rows(open_stage(out, stage), key, reason), limit))
    withheld = withheld_of(out, {row["key"] for row in found}) | _withheld_by_url(out, found)
    for row in found:
        if row["key"] in withheld:
            yield _without_content(row, stage, withheld[row["key"]])
        else:
            yield {**_without_borrowed(out, row), **_picture(out, row["key"])}


def tell_story(out: Store, key: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (stage, lines) for one sample: statuses, scores with thresholds, verdicts, models.

    Raises:
        DataError: no stage knows the key.
    """
    known = False
    origin = [row for _, row, _ in _rows_of(out, "ingest", key)]
    withheld = (withheld_of(out, {key}) | _withheld_by_url(out, origin)).get(key)
    stages = read_run(out)["stages"]
    for stage in [BLOCKLIST] if withheld else stages:
        lines = [f"withheld: {withheld}; no stage's row is shown"] if withheld else list[str]()
        for shard, row, marker in _rows_of(out, stage, key):
            told = _without_borrowed(out, row)
            lines += _tell(stage, told, marker)
            lines += _tell_rules(out, shard, row) if stage == "filter" else []
        known = known or bool(lines)
        if lines:
            yield stage, lines
    if not known:
        raise DataError(
            f"{out.url}: no stage knows key {key}; see `curate show out={out.url} stage=ingest`"
        )


def _tell(stage: str, row: Mapping[str, Any], marker: Any) -> Iterable[str]:
    """Tell one row of a stage's table in that stage's own words."""
    # Imported here: they know the schemas, and `curate status` comes without pyarrow.
    from pipelines.inspect_captions import tell_attempt
    from pipelines.inspect_judge import tell_judgement

    if stage == "recaption":
        return tell_attempt(row)
    if stage == "judge":
        return tell_judgement(row, marker.identity.params)
    return _tell_row(row, marker)


def open_inputs(out: Store) -> dict[str, ShardSet]:
    """Open the stages whose columns filter judges, those that the pipeline has."""
    from curate.core.shard import ShardSet

    there = read_run(out)["stages"]
    return {n: ShardSet(out.child(n)) for n in _JUDGED if n in there}


def withheld_of(out: Store, keys: Collection[str]) -> dict[str, str]:
    """Find the samples of which nothing may be shown: key -> why."""
    from curate.core.shard import ShardSet
    from curate.core.withheld import find_withheld

    if BLOCKLIST not in read_run(out)["stages"]:
        return {}
    found = find_withheld(ShardSet(out.child(BLOCKLIST)), keys)
    samples = set[str]()  # a generated picture has a key of its own, which no list is about
    for _, table in ShardSet(out.child("ingest")).tables(["key"]) if found else ():
        samples.update(found.keys() & set(table["key"].to_pylist()))
    return {key: why for key, why in found.items() if key in samples}


def open_stage(out: Store, stage: str) -> ShardSet:
    """Open a stage's tables.

    Raises:
        ConfigError: the run has no such stage.
        DataError: it has no finished shards, or none with tables.
    """
    from curate.core.shard import ShardSet

    stages: Sequence[str] = read_run(out)["stages"]
    if stage not in stages:
        raise ConfigError(f"stage: must be one of {', '.join(stages)}, got {stage!r}; choose one")
    shard_set = ShardSet(out.child(stage))
    shards = shard_set.shards()
    if shards and not shard_set.has_table(shards[0]):
        raise DataError(f"{out.child(stage).url}: has no tables to show, got files only; open them")
    if not shards:
        raise DataError(
            f"{out.child(stage).url}: must hold finished shards, got none; "
            f"run `curate run stage={stage}`"
        )
    return shard_set


def _find_rows(shard_set: ShardSet, key: str, reason: str) -> Iterator[dict[str, Any]]:
    for shard, table in _tables_of(shard_set):
        for row in table.to_pylist():
            if key and row["key"] != key:
                continue
            if reason and reason not in (row.get("reason"), row["status"]):
                continue
            story = {name: value for name, value in row.items() if not name.endswith("embedding")}
            yield {"shard": shard, **story}


def _withheld_by_url(out: Store, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Find the rows that repeat the URL of a withheld sample: key -> why they are withheld too."""
    if not any(row.get("url") for row in rows):
        return {}
    urls = _withheld_texts(out, "url")
    return {
        row["key"]: "its URL is that of a withheld sample" for row in rows if row.get("url") in urls
    }


def _without_borrowed(out: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    """Replace captions that are those of withheld samples: dedup may have run before the list."""
    borrowed = {name: row[name] for name in _BORROWED if row.get(name)}
    if not borrowed:
        return dict(row)
    captions = _withheld_texts(out, "caption")

    def hide(text: str) -> str:
        return _NOT_SHOWN if text.strip() in captions else text

    shown = {
        name: hide(value) if isinstance(value, str) else [hide(text) for text in value]
        for name, value in borrowed.items()
    }
    return {**row, **shown}


def _withheld_texts(out: Store, column: str) -> set[str]:
    """Find the URLs or captions of withheld samples; none in a pipeline without the stage."""
    from curate.core.shard import ShardSet
    from curate.core.withheld import find_withheld_texts

    if BLOCKLIST not in read_run(out)["stages"]:
        return set()
    return find_withheld_texts(
        ShardSet(out.child(BLOCKLIST)), ShardSet(out.child("ingest")), column
    )


def _without_content(row: Mapping[str, Any], stage: str, why: str) -> dict[str, Any]:
    """Keep a sample's place, and what blocklist itself says of it."""
    shown = row if stage == BLOCKLIST else {name: row[name] for name in ("shard", "key")}
    return {**shown, "withheld": why}


def _rows_of(out: Store, stage: str, key: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    import pyarrow.dataset as ds

    from curate.core.shard import ShardSet

    shard_set = ShardSet(out.child(stage))
    for shard, table in _tables_of(shard_set):
        if "key" in table.column_names:
            for row in table.filter(ds.field("key") == key).to_pylist():
                yield shard, row, shard_set.marker(shard)


def _tables_of(shard_set: ShardSet) -> Iterator[tuple[str, pa.Table]]:
    """Yield the side tables of a stage; of bucket also the samples that no bucket took."""
    import pyarrow.dataset as ds

    from curate.core.manifest import finished_shards
    from curate.core.schema import OK
    from curate.stages.bucketing.sizes import SIZES

    for shard in shard_set.shards():
        if shard_set.has_table(shard):
            yield shard, shard_set.table(shard)
    for name in finished_shards(shard_set.store):
        if name.startswith(SIZES):
            yield name, shard_set.table(name).filter(ds.field("status") != OK)


def _tell_row(row: Mapping[str, Any], marker: Any) -> list[str]:
    skip = {
        "key", "clip.image_embedding", "phash.thumbnail", "pdq.dihedral", "captions.pooled",
        "members",
    }  # fmt: skip
    lines = [
        f"{name} = {_brief(value)}"
        for name, value in row.items()
        if name not in skip and value not in (None, "", [])
    ]
    lines += [
        f"model {role} sha256 {digest[:12]}" for role, digest in marker.identity.models.items()
    ]
    return lines


def _tell_rules(out: Store, shard: str, row: Mapping[str, Any]) -> Iterator[str]:
    """Say of every rule which threshold was in force for a sample, and how it met it."""
    import pyarrow.dataset as ds

    from curate.core.shard import ShardSet
    from curate.stages.filtering.columns import read_columns
    from curate.stages.filtering.rules_in_force import WhereRule, columns_of
    from curate.stages.filtering.score_rule import OUTSIDE, PASSED, UNMEASURED
    from curate.stages.filtering.verdicts import UNMEASURED_PREFIX, finished_rules

    if row["status"] != "ok":
        return  # it failed before, no rule judged it
    rules = finished_rules(ShardSet(out.child("filter")), shard)
    wanted = columns_of(rules)
    table = read_columns(open_inputs(out), shard, wanted).filter(ds.field("key") == row["key"])
    for rule in rules:
        outcome = OUTSIDE if rule.name in row["failed_rules"] else PASSED
        if UNMEASURED_PREFIX + rule.name in row["failed_rules"]:
            outcome = UNMEASURED
        yield _tell_rule(rule, table, outcome)
        if isinstance(rule, WhereRule) and len(rule.parts()) > 1:
            for part in rule.parts():
                yield "  " + _tell_rule(part, table, part.judge(table)[0])


def _tell_rule(rule: RuleInForce, table: pa.Table, outcome: int) -> str:
    threshold, score = rule.thresholds(table)[0].as_py(), rule.scores(table)[0]
    given = "" if score != score else f", got {score:.6g}"  # NaN: no number
    return f"threshold {rule.name} {threshold}{given}: {_OUTCOMES[outcome]}"


def _picture(out: Store, key: str) -> dict[str, str]:
    """Give the caption of a sample and write its picture to a file one can open."""
    from curate.core.image import encode_image
    from curate.stages.pictures import read_pictures

    ingested = open_stage(out, "ingest")
    for shard, table in ingested.tables(["key", "status"]):
        if key not in table["key"].to_pylist():
            continue
        for picture in read_pictures(ingested, shard, {key}):
            name = f".thumbnails/{key}.png"
            picture.image.thumbnail((256, 256))
            out.write(name, encode_image(picture.image, "png"))
            return {"caption": picture.caption, "thumbnail": str(out.local_path(name))}
    return {}


def _brief(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if isinstance(value, bytes):  # a hash
        text = value.hex()
    return text if len(text) <= 200 else text[:197] + "..."
