"""Read `curate VERB key=value ...`, call the verb, turn errors into one line and an exit code.

Exit codes: 0 done, 2 a user's error, 3 finished with quarantined shards, 130 interrupted (Ctrl-C),
143 ended (SIGTERM).
Heavy modules are imported inside the verbs: `curate --help` and `curate status` start at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from curate.core.errors import ConfigError, CurateError
from curate.core.store import open_store

if TYPE_CHECKING:
    from pipelines.request import Request

EXIT_OK, EXIT_USER, EXIT_QUARANTINED, EXIT_INTERRUPTED, EXIT_ENDED = 0, 2, 3, 130, 143

_MOST_REASONS = 8

HELP = """\
curate VERB [key=value ...]

  run     [pipeline=NAME] [filter_preset=NAME] [stage=A,B | stage=A..B] [out=DIR] [key=value ...]
                                                run what is not done
  plan    the same arguments                    what would run, what is done, and why
  status  out=DIR [watch=SECONDS]               a table: stage, shards, in, kept, dropped, failed;
                                                a run that is going on, with its time left
  show    out=DIR stage=S [key=K] [reason=R] [limit=N]    rows, captions, paths of thumbnails
  why     KEY out=DIR                           one sample's whole story
  verify  out=DIR [--repair]                    digests of every file; names damaged members
  takedown keys=FILE | urls=FILE | hashes=FILE [out=DIR]   take samples out, here and downstream
  sweep   out=DIR filter.RULE.min=A:B:STEP ...  how many survive each threshold, no recompute
  ledger  out=DIR [all_rules=true]              one parquet: key, stage, rule, score, verdict
  uids    PATH.npy out=DIR [stage=filter]       DataComp's uids of what was kept, sorted u8,u8
  config  [pipeline=NAME] [key=value ...]       the resolved config
  doctor  [models=NAME] [models_folder=DIR]     versions, model packs, free disk, self tests
  golden  models=NAME [overwrite=true]          keep what models give now, so that drift is seen
  convert-weights IN OUT [model=ViT-B-32 pretrained=TAG] [image_text=NAME]    weights of others

Pipelines: demo (the toy web, end to end), folder (your pictures, input=DIR), base (everything set
by hand). Filter presets: laion5b, laion400m, laion_aesthetics, datacomp_basic, datacomp_clip30,
coyo, sd2; several as A,B. Examples:

  curate run pipeline=demo
  curate run pipeline=demo stage=filter filter.similarity.min=0.3
  curate run filter_preset=datacomp_basic input=metadata.parquet out=DIR
  curate run pipeline=folder input=pictures/ models=offline
  curate sweep out=out/demo filter.similarity.min=0.2:0.4:0.02
"""


def main() -> int:
    """Run the command line; the entry point of the `curate` script."""
    arguments = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    for name in ("train", "curate.core.executor"):  # how far it is, where the dashboard is
        logging.getLogger(name).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _end)
    debug = "debug=true" in arguments
    try:
        return _dispatch(arguments)
    except CurateError as error:
        if debug:
            raise
        print(f"curate: {error}", file=sys.stderr)
        return EXIT_USER
    except _Ended:
        print("curate: ended; run the same line again to go on", file=sys.stderr)
        return EXIT_ENDED
    except KeyboardInterrupt:
        print("curate: interrupted; run the same line again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


class _Ended(KeyboardInterrupt):
    """Stop as Ctrl-C does, when a batch system sends SIGTERM before it kills."""


def _end(number: int, frame: object) -> NoReturn:
    raise _Ended


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return EXIT_OK if arguments else EXIT_USER
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise ConfigError(
            f"verb: must be one of {', '.join(VERBS)}, got {verb!r}; see `curate --help`"
        )
    return VERBS[verb](rest)


def _run(arguments: Sequence[str]) -> int:
    from pipelines.request import parse_request

    return _run_request(parse_request(arguments))


def _run_request(request: Request, prepare: Callable[[], None] | None = None) -> int:
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
    if not any(report.quarantined for report in reports):
        return EXIT_OK
    print("try them again with retry_quarantined=true", file=sys.stderr)
    return EXIT_QUARANTINED


def _plan(arguments: Sequence[str]) -> int:
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


def _status(arguments: Sequence[str]) -> int:
    from pipelines.status import read_status

    options = _options(arguments, {"out": "out", "watch": "0"})
    every_s = _number(options, "watch")
    while True:
        status = read_status(open_store(options["out"]))
        _print_table(status.table)
        for line in (*status.running, *(f"quarantined {text}" for text in status.quarantined)):
            print(line)
        if not every_s or not status.running:
            return EXIT_OK
        print(flush=True)
        time.sleep(every_s)


def _show(arguments: Sequence[str]) -> int:
    from pipelines.inspect import show_rows

    options = _options(
        arguments, {"out": "out", "stage": "", "key": "", "reason": "", "limit": "10"}
    )
    if not options["limit"].isdigit() or int(options["limit"]) < 1:
        raise ConfigError(
            f"limit: must be a whole number >= 1, got {options['limit']!r}; set limit=N"
        )
    rows = show_rows(
        open_store(options["out"]),
        options["stage"],
        key=options["key"],
        reason=options["reason"],
        limit=int(options["limit"]),
    )
    for row in rows:
        print(f"{row.pop('key')}  (shard {row.pop('shard')})")
        for name, value in row.items():
            if value not in (None, "", []):
                print(f"  {name}: {_short(value)}")
    return EXIT_OK


def _why(arguments: Sequence[str]) -> int:
    from pipelines.inspect import tell_story

    keys = [text for text in arguments if "=" not in text]
    if len(keys) != 1:
        raise ConfigError(f"why: needs one key, got {len(keys)}; write `curate why KEY out=DIR`")
    options = _options([text for text in arguments if "=" in text], {"out": "out"})
    for stage, lines in tell_story(open_store(options["out"]), keys[0]):
        print(stage)
        for line in lines:
            print(f"  {line}")
    return EXIT_OK


def _verify(arguments: Sequence[str]) -> int:
    from pipelines.verify import remove_damaged, repair_request, verify

    plain = ["repair=true" if text == "--repair" else text for text in arguments]
    options = _options(plain, {"out": "out", "repair": "false"})
    out = open_store(options["out"])
    found = verify(out)
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
    return _run_request(repair_request(out, found), lambda: remove_damaged(out, found))


def _takedown(arguments: Sequence[str]) -> int:
    from pathlib import Path

    from pipelines.takedown import plan_takedown

    options = _options(arguments, {"out": "out", "keys": "", "urls": "", "hashes": ""})
    given = [by for by in ("keys", "urls", "hashes") if options[by]]
    if len(given) != 1:
        raise ConfigError(
            "takedown: needs one of keys=FILE, urls=FILE and hashes=FILE, got "
            f"{' and '.join(given) or 'none'}; give one"
        )
    found = plan_takedown(open_store(options["out"]), given[0], Path(options[given[0]]))
    print(f"{len(found.places):,} samples in {len(set(found.places.values())):,} shards of ingest")
    if found.unmatched:
        print(f"{found.unmatched:,} {given[0]} of the file meet no sample")
    code = _run_request(found.request, lambda: print(f"takedown/{found.bury()}"))
    if found.learnt:
        print(f"left as they are, made from the samples: {', '.join(found.learnt)}")
    return code


def _sweep(arguments: Sequence[str]) -> int:
    from pathlib import Path

    from pipelines.sweep import sweep
    from pipelines.sweep_report import describe_sweep, write_combinations

    swept = [text for text in arguments if not text.startswith(("out=", "csv="))]
    rest = [text for text in arguments if text not in swept]
    options = _options(rest, {"out": "out", "csv": ""})
    found = sweep(open_store(options["out"]), swept)
    for line in describe_sweep(found):
        print(line)
    if options["csv"]:
        write_combinations(found, Path(options["csv"]))
        print(f"all combinations: {options['csv']}")
    return EXIT_OK


def _ledger(arguments: Sequence[str]) -> int:
    from pipelines.ledger import describe_ledger, write_ledger

    options = _options(arguments, {"out": "out", "all_rules": "false"})
    if options["all_rules"] not in ("true", "false"):
        raise ConfigError(f"all_rules: must be true or false, got {options['all_rules']!r}")
    summary = write_ledger(open_store(options["out"]), all_rules=options["all_rules"] == "true")
    for line in describe_ledger(summary):
        print(line)
    return EXIT_OK


def _uids(arguments: Sequence[str]) -> int:
    from pathlib import Path

    from pipelines.uids import write_uids

    paths = [text for text in arguments if "=" not in text]
    if len(paths) != 1:
        raise ConfigError(
            f"uids: needs one file, got {len(paths)}; write `curate uids PATH.npy out=DIR`"
        )
    rest = [text for text in arguments if "=" in text]
    options = _options(rest, {"out": "out", "stage": "filter"})
    count = write_uids(open_store(options["out"]), options["stage"], Path(paths[0]))
    print(f"{count:,} uids in {paths[0]}")
    return EXIT_OK


def _config(arguments: Sequence[str]) -> int:
    from curate.core.config import to_yaml
    from pipelines.request import parse_request

    print(to_yaml(parse_request(arguments).config), end="")
    return EXIT_OK


def _doctor(arguments: Sequence[str]) -> int:
    from pipelines.doctor import examine

    options = _options(arguments, {"models": "", "models_folder": ""})
    healthy = True
    for check in examine(options["models"], options["models_folder"]):
        print(f"{'ok  ' if check.ok else 'FAIL'} {check.name:<28} {check.detail}", flush=True)
        healthy = healthy and check.ok
    return EXIT_OK if healthy else EXIT_USER


def _golden(arguments: Sequence[str]) -> int:
    from pipelines.golden import write_goldens

    options = _options(arguments, {"models": "toy", "models_folder": "", "overwrite": "false"})
    overwrite = options["overwrite"] == "true"
    for line in write_goldens(options["models"], options["models_folder"], overwrite=overwrite):
        print(line)
    return EXIT_OK


def _convert_weights(arguments: Sequence[str]) -> int:
    from pipelines.convert import OPTIONS, convert_weights

    paths = [text for text in arguments if text.split("=", 1)[0] not in OPTIONS]
    options = _options([text for text in arguments if text not in paths], OPTIONS)
    for line in convert_weights(paths, options):
        print(line)
    return EXIT_OK


def _options(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Read key=value texts of the verbs that take no config."""
    options = dict(defaults)
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or name not in defaults:
            raise ConfigError(
                f"{text}: must be one of {', '.join(f'{key}=' for key in defaults)}, got {name!r}; "
                "see `curate --help`"
            )
        options[name] = value
    return options


def _number(options: Mapping[str, str], name: str) -> float:
    try:
        number = float(options[name])
    except ValueError:
        number = -1.0
    if number < 0:
        raise ConfigError(f"{name}: must be a number >= 0, got {options[name]!r}; set {name}=2")
    return number


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  ".join([*cells, row[-1]]))


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."


VERBS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "plan": _plan,
    "status": _status,
    "show": _show,
    "why": _why,
    "verify": _verify,
    "takedown": _takedown,
    "sweep": _sweep,
    "ledger": _ledger,
    "uids": _uids,
    "config": _config,
    "doctor": _doctor,
    "golden": _golden,
    "convert-weights": _convert_weights,
}

if __name__ == "__main__":
    sys.exit(main())
