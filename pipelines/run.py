"""Run the chosen stages of a pipeline in order, as the only run on its `out`.

request -> models, columns, owner of `out` -> claim -> inputs -> for each stage: build, run_stage
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from curate.core.commit import Output
from curate.core.config import to_yaml
from curate.core.disk_errors import naming_hopeless
from curate.core.engine import Progress, StageReport, run_stage
from curate.core.errors import ConfigError
from curate.core.executor import open_executor
from curate.core.lock import Claim, claim_out
from curate.core.store import PARTIAL
from curate.core.withheld import BLOCKLIST
from pipelines.benchmarks import check_benchmarks
from pipelines.blocklist_audit import audit_hits
from pipelines.blocklists import check_blocklists
from pipelines.captioners import check_captioner
from pipelines.inputs import open_input
from pipelines.inspect import CONFIG_FILE, RUN_FILE
from pipelines.judgeable import check_judgeable
from pipelines.measurable import check_measurable
from pipelines.plan import check_inputs
from pipelines.progress import LiveFile, MetricsFile, Together
from pipelines.request import Request, build_stage, find_models
from pipelines.table import STAGES

_RUN_CHARACTERS = 12  # of the token that owns `out`: a name for the run in its audit


def run_request(
    request: Request, shown: Progress, prepare: Callable[[], None] | None = None
) -> list[StageReport]:
    """Run the chosen stages in order, as the only run on this `out`.

    A run goes on without quarantined shards; it ends where a helper shard is one.

    Args:
        request: what to run.
        shown: hears of progress beside the files that record it.
        prepare: called once `out` is owned and the inputs are checked.

    Raises:
        CurateError: bad input, a filter without its columns, an `out` in use, an input stage that
            is not done, a failed stage.
    """
    for name in request.chosen:
        # a missing pack is said now, not an hour later
        find_models(name, request.config.models, request.config.models_folder)
    check_measurable(request)
    check_captioner(request)
    check_judgeable(request)
    check_blocklists(request)
    check_benchmarks(request)
    check_owner(request)
    reports: list[StageReport] = []
    with naming_hopeless(request.out.url), claim_out(request.out) as claim:
        write_run_files(request)
        progress = Together([shown, LiveFile(request.out), MetricsFile(request.out)])
        with open_input(request.config) as config, open_executor(config.engine) as executor:
            check_inputs(request, config)
            if prepare:
                prepare()
            for name in request.chosen:
                report = run_stage(
                    build_stage(name, request.pipeline, config),
                    Output(store=request.out.child(name), claim=claim),
                    executor,
                    progress,
                    retry_quarantined=config.retry_quarantined,
                    retry_failed=config.retry_failed,
                )
                reports.append(_follow_up(report, request, claim))
                if not report.complete:
                    break
    return reports


def _follow_up(report: StageReport, request: Request, claim: Claim) -> StageReport:
    """Log the hits of known harm after blocklist, or first of all where it does not run itself."""
    if BLOCKLIST not in request.config.stages:
        return report
    if report.stage != (BLOCKLIST if BLOCKLIST in request.chosen else request.chosen[0]):
        return report
    troubles = audit_hits(request.out, request.config.blocklist, claim.token[:_RUN_CHARACTERS])
    return dataclasses.replace(report, troubles=troubles)


def check_owner(request: Request) -> None:
    """Refuse an `out` that belongs to another pipeline or to something else.

    Raises:
        ConfigError: with what the folder holds.
    """
    if request.out.exists(RUN_FILE):
        owner = json.loads(request.out.read(RUN_FILE)).get("pipeline")
        if owner != request.pipeline:
            raise ConfigError(
                f"out: must be empty or belong to pipeline={request.pipeline}, got "
                f"{request.out.url} of pipeline={owner}; set out=DIR to another folder"
            )
    elif not request.out.is_empty():
        raise ConfigError(
            f"out: must be empty or made by curate, got {request.out.url} with other files; "
            "set out=DIR"
        )


def write_run_files(request: Request) -> None:
    """Write what `out` belongs to and the resolved config."""
    stages = [name for name in STAGES if name in request.config.stages]
    text = json.dumps({"pipeline": request.pipeline, "stages": stages}, indent=1) + "\n"
    with naming_hopeless(request.out.url, writing=True):
        for name in request.out.names(PARTIAL):
            request.out.delete(name)
        request.out.write(RUN_FILE, text.encode())
        request.out.write(CONFIG_FILE, to_yaml(request.config).encode())
