"""Run pipelines, or what is left of one: run, plan, config, verify, takedown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curate.core.errors import ConfigError
from curate.core.store import open_store
from pipelines.verbs.answers import EXIT_OK, EXIT_QUARANTINED, EXIT_USER, read_options

if TYPE_CHECKING:
    from pipelines.request import Request

_MOST_REASONS = 8


def run(arguments: Sequence[str]) -> int:
    """Run the chosen stages of a pipeline, or probe a captioner."""
    from pipelines.request import parse_request

    request = parse_request(arguments)
    if request.config.recaption.probe:
        return probe_aloud(request)
    return run_aloud(request)


def plan(arguments: Sequence[str]) -> int:
    """Print what would run and why."""
    from curate.core.manifest import State
    from pipelines.plan import plan_request
    from pipelines.request import parse_request

    for plan in plan_request(parse_request(arguments)):
        numbers = ", ".join(
            f"{plan.states[state]} {state}" for state in State if plan.states.get(state)
        )
        waits = f"waits for {plan.waits_for}" if plan.waits_for else ""
        print(
            f"{plan.stage:<10} {', '.join(filter(None, [numbers, waits])) or 'nothing known yet'}"
        )
        for reason, count in list(plan.reasons.items())[:_MOST_REASONS]:
            print(f"           {count} by {reason}")
        if len(plan.reasons) > _MOST_REASONS:
            print(f"           and {len(plan.reasons) - _MOST_REASONS} more reasons")
    return EXIT_OK


def config(arguments: Sequence[str]) -> int:
    """Print the resolved config."""
    from curate.core.config import to_yaml
    from pipelines.request import parse_request

    print(to_yaml(parse_request(arguments).config), end="")
    return EXIT_OK


def verify(arguments: Sequence[str]) -> int:
    """Check every file against its marker; make damaged shards anew."""
    from pipelines.verify import remove_damaged, repair_request
    from pipelines.verify import verify as verify_files

    plain = ["repair=true" if text == "--repair" else text for text in arguments]
    options = read_options(plain, {"out": "out", "repair": "false"})
    out = open_store(options["out"])
    found = verify_files(out)
    for damage in found.damaged:
        print(f"damaged {damage.stage}/{damage.file}: {damage.detail}")
    for name in found.strangers:
        print(f"unknown {name}: no marker names it")
    print(
        f"{found.num_files:,} files, {found.num_bytes / 1e9:.2f} GB, {len(found.damaged)} damaged"
    )
    if not found.damaged:
        return EXIT_OK
    if options["repair"] != "true":
        print("run it with --repair to make the damaged shards anew", file=sys.stderr)
        return EXIT_USER
    return run_aloud(repair_request(out, found), lambda: remove_damaged(out, found))


def takedown(arguments: Sequence[str]) -> int:
    """Take samples out, here and downstream."""
    from pipelines.takedown import WAYS, By, plan_takedown

    options = read_options(arguments, {"out": "out", "keys": "", "urls": "", "hashes": ""})
    given: list[By] = [by for by in WAYS if options[by]]
    if len(given) != 1:
        raise ConfigError(
            "takedown: needs one of keys=FILE, urls=FILE and hashes=FILE, got "
            f"{' and '.join(given) or 'none'}; give one"
        )
    found = plan_takedown(open_store(options["out"]), given[0], Path(options[given[0]]))
    shards = {shard for _, shard in found.places}
    print(f"{len(found.keys):,} samples in {len(shards):,} shards of ingest")
    if found.unmatched:
        print(f"{found.unmatched:,} {given[0]} of the file meet no sample")
    code = run_aloud(found.request, lambda: print(f"takedown/{found.bury()}"))
    if found.unfinished:
        print(f"not at their end, `curate run` goes on with them: {', '.join(found.unfinished)}")
    if found.learnt:
        print(f"left as they are, made from the samples: {', '.join(found.learnt)}")
    return code


def probe_aloud(request: Request) -> int:
    """Try the captioner on a few pictures and say what all of them would take."""
    from pipelines.probe import check_probe, probe
    from pipelines.probe_report import count_processes, describe_probe, reckon

    def tell(done: int, wanted: int, seconds: float) -> None:
        print(f"recaption: {done:,} of {wanted:,} pictures, {seconds:.0f} s", file=sys.stderr)

    check_probe(request)
    found = probe(request, tell)
    config, processes = request.config.recaption, count_processes(request.config.engine)
    cost = reckon(
        found,
        num_pictures=config.probe_images,
        num_processes=processes,
        gpu_price=config.gpu_price,
    )
    for line in describe_probe(found, cost, processes):
        print(line)
    return EXIT_OK


def run_aloud(request: Request, prepare: Callable[[], None] | None = None) -> int:
    """Run a request and say how each stage went."""
    from pipelines.progress import LineProgress
    from pipelines.run import run_request

    reports = run_request(request, LineProgress(), prepare)
    for report in reports:
        verdict = f"{report.num_run} ran, {report.num_skipped} done before"
        kept, seen = report.counts.get("kept", 0), report.counts.get("in", 0)
        print(f"{report.stage:<10} {verdict:<28} kept {kept:,} of {seen:,}")
        for shard, error in report.quarantined.items():
            print(f"  quarantined {shard}: {error}", file=sys.stderr)
    page = "report/index.html"
    if "report" in request.chosen and request.out.exists(page):
        print(f"report: {request.out.url}/{page}")
    troubles = [text for report in reports for text in report.troubles]
    for text in troubles:
        print(f"curate: {text}", file=sys.stderr)
    if not any(report.quarantined for report in reports):
        return EXIT_QUARANTINED if troubles else EXIT_OK
    print("try them again with retry_quarantined=true", file=sys.stderr)
    return EXIT_QUARANTINED
