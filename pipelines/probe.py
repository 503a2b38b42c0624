"""Try a captioner on a few pictures before it is let at all of them: `recaption.probe=200`.

    verdicts of all shards -> pictures drawn by (seed, key) -> the stage's own recaptioner
        -> journal lines -> figures (probe_report.py)

Nothing is committed but lines of the journal, so the run that follows asks for none of it again.
Pictures of all shards share windows and batches, as those of one shard do in a run. One process
asks, whatever the engine.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curate.core.ahead import map_ahead
from curate.core.batches import batched
from curate.core.commit import Output
from curate.core.errors import ConfigError, StageError
from curate.core.lock import claim_out
from curate.core.schema import VERDICTS
from curate.core.seed import derive_seed
from curate.stages.judging.attempts import measure_attempts
from curate.stages.judging.verdicts import EVERY, judge_attempts
from curate.stages.recaption import RecaptionStage
from curate.stages.recaptioning.journal import Journal
from curate.stages.recaptioning.recaptioner import Answered
from curate.stages.recaptioning.rows import CAPTION_SCHEMA, Line, table_row
from curate.stages.recaptioning.views import Shown
from curate.stages.recaptioning.wanted import Sample, View
from pipelines.inputs import describe_input
from pipelines.plan import check_inputs
from pipelines.probe_report import Probed
from pipelines.request import Request, build_stage
from pipelines.run import check_owner

STAGE = "recaption"
_CHUNK = 8  # pictures of a shard that are decoded together
OnWindow = Callable[[int, int, float], None]
"""Hears of pictures done, pictures wanted, and seconds since the first was asked for."""


def check_probe(request: Request) -> None:
    """Refuse a probe beside other stages.

    Raises:
        ConfigError: the command line asks for them.
    """
    if request.chosen != (STAGE,):
        raise ConfigError(
            "recaption.probe: must come with stage=recaption alone, got stage="
            f"{','.join(request.chosen)}; run the stages before it first"
        )


def probe(request: Request, on_window: OnWindow) -> Probed:
    """Caption a draw of the kept pictures and reckon with what it took.

    Raises:
        CurateError: as a run of the stage would.
        StageError: no picture is kept.
    """
    check_owner(request)
    with claim_out(request.out):
        check_inputs(request, describe_input(request.config))
        stage = build_stage(STAGE, request.pipeline, request.config)
        assert isinstance(stage, RecaptionStage), "the table builds it"
        stage.check_models()
        started = time.monotonic()
        stage.setup()
        loading_s = time.monotonic() - started
        drawn, num_kept = draw_samples(stage, request.config.recaption.probe)
        return _caption(request, stage, drawn, num_kept, loading_s, on_window)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Draw:
    rank: int  # negative, so that a heap has the largest draw first
    shard: str
    key: str


def draw_samples(stage: RecaptionStage, count: int) -> tuple[dict[str, list[Sample]], int]:
    """Draw kept samples of all shards by their keys, in one pass over the verdicts.

    Returns:
        Shard -> its drawn samples, and how many samples are kept in all.

    Raises:
        StageError: none is kept.
    """
    best: list[_Draw] = []
    num_kept = 0
    for shard, table in stage.inputs[VERDICTS].tables(["key", "keep"]):
        keys = table.filter(table["keep"])["key"].to_pylist()
        num_kept += len(keys)
        for key in keys:
            draw = _Draw(rank=-derive_seed(stage.seed, "probe", key), shard=shard, key=key)
            if len(best) < count:
                heapq.heappush(best, draw)
            else:
                heapq.heappushpop(best, draw)
    if not best:
        raise StageError("recaption.probe: needs kept samples, got none; loosen filter's rules")
    wanted: dict[str, set[str]] = {}
    for draw in best:
        wanted.setdefault(draw.shard, set()).add(draw.key)
    return {
        shard: [sample for sample in stage.samples(shard) if sample.key in keys]
        for shard, keys in sorted(wanted.items())
    }, num_kept


def _caption(
    request: Request,
    stage: RecaptionStage,
    drawn: Mapping[str, Sequence[Sample]],
    num_kept: int,
    loading_s: float,
    on_window: OnWindow,
) -> Probed:
    """Ask for what is missing of the drawn samples, a window at a time.

    Raises:
        StageError: bucket will take none of them, so that none is asked about.
    """
    store = request.out.child(STAGE)
    journals = {shard: Journal(store, shard, Output(store=store).work / "probe") for shard in drawn}
    keys = {sample.key for samples in drawn.values() for sample in samples}
    answered: Answered = {
        attempt: line
        for journal in journals.values()
        for attempt, line in journal.read().items()
        if line["key"] in keys
    }
    before, views = set(answered), dict[str, View]()
    shard_of = {sample.key: sample.shard for samples in drawn.values() for sample in samples}
    started, done = time.monotonic(), 0
    windows = batched(_shown(stage, drawn, answered, views), request.config.recaption.window)
    for lines in stage.recaptioner.complete_all(windows, answered):
        for shard in dict.fromkeys(shard_of[line["key"]] for line in lines):
            journals[shard].append([one for one in lines if shard_of[one["key"]] == shard])
        done += len({line["key"] for line in lines})
        on_window(done, len(keys), time.monotonic() - started)
    for journal in journals.values():
        journal.push()
    lines = [
        answered[ask.attempt]
        for samples in drawn.values()
        for sample in samples
        if sample.key in views
        for ask in stage.recaptioner.asks(sample, views[sample.key], answered)
    ]
    if not lines:
        raise StageError(
            f"recaption.probe: needs pictures that bucket will take, got none of {len(keys)} "
            "drawn; choose smaller bucket.resolutions, or recaption.picture=whole"
        )
    return Probed(
        lines=lines,
        reasons=judge_lines(request, lines),
        num_pictures=len(keys),
        num_kept=num_kept,
        num_new=sum(line["attempt"] not in before for line in lines),
        loading_s=loading_s,
        device=_name_device(stage),
    )


def _shown(
    stage: RecaptionStage,
    drawn: Mapping[str, Sequence[Sample]],
    answered: Answered,
    views: dict[str, View],
) -> Iterator[Shown]:
    """Yield the pictures of all shards; as in a run they are decoded a window ahead."""
    chunks = [
        (shard, samples[start : start + _CHUNK])
        for shard, samples in drawn.items()
        for start in range(0, len(samples), _CHUNK)
    ]
    ahead = max(2, stage.config.window // _CHUNK)
    for shown in map_ahead(
        lambda chunk: list(stage.shown(*chunk, answered, views)), chunks, ahead=ahead
    ):
        yield from shown


def _name_device(stage: RecaptionStage) -> str:
    """Say what the hours are of: a server's, or this machine's GPU or CPU."""
    backend = stage.recaptioner.captioner.provenance.backend
    if backend == "openai":
        return "server"
    import torch

    return "GPU" if backend == "transformers" and torch.cuda.is_available() else "CPU"


def judge_lines(request: Request, lines: Sequence[Line]) -> list[str]:
    """Judge attempts as the stage judge will: "ok" or the first reason of each.

    Two rules need a whole run and are left out: texts that many pictures have, and languages.
    """
    rows = pa.Table.from_pylist([table_row(line) for line in lines], schema=CAPTION_SCHEMA)
    config = request.config.judge
    trim = config.rules.cut_off == "trim"
    measured = measure_attempts(rows, [], trim=trim, identify=None)
    sources = {line["source"] for line in lines}
    limits = {source: config.limits_of(source) for source in (EVERY, *sources)}
    pictures = pa.array([1] * len(lines), pa.int32()).to_numpy()
    return judge_attempts(measured, pictures, limits)["status"].to_pylist()
