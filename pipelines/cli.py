"""Read `curate VERB key=value ...`, call the verb, turn errors into one line and an exit code.

Exit codes: 0 done, 2 a user's error, 3 finished with quarantined shards, 130 interrupted.
Heavy modules are imported inside the verbs: `curate --help` and `curate status` start at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from curate.core.errors import ConfigError, CurateError

EXIT_OK, EXIT_USER, EXIT_QUARANTINED, EXIT_INTERRUPTED = 0, 2, 3, 130

HELP = """\
curate VERB [key=value ...]

  run     [pipeline=NAME] [stage=A,B | stage=A..B] [out=DIR] [key=value ...]   run what is not done
  plan    the same arguments                    what would run, what is done, and why
  status  out=DIR                               a table: stage, shards, in, kept, dropped, failed
  show    out=DIR stage=S [key=K] [reason=R] [limit=N]    rows, captions, paths of thumbnails
  why     KEY out=DIR                           one sample's whole story
  config  [pipeline=NAME] [key=value ...]       the resolved config
  doctor  [models=NAME]                         versions, model packs, free disk, a self test

Pipelines: demo (the toy web, end to end), folder (your pictures, input=DIR), base (everything set
by hand). Examples:

  curate run pipeline=demo
  curate run pipeline=demo stage=filter filter.similarity.min=0.3
  curate run pipeline=folder input=pictures/ models=offline
"""


def main() -> int:
    """Run the command line; the entry point of the `curate` script."""
    arguments = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("train").setLevel(logging.INFO)  # minutes long, so it says how far it is
    debug = "debug=true" in arguments
    try:
        return _dispatch(arguments)
    except CurateError as error:
        if debug:
            raise
        print(f"curate: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("curate: interrupted; run the same line again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


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
    from pipelines.progress import LineProgress
    from pipelines.run import parse_request, run_request

    request = parse_request(arguments)
    reports = run_request(request, LineProgress())
    for report in reports:
        verdict = f"{report.num_run} ran, {report.num_skipped} done before"
        kept, seen = report.counts.get("kept", 0), report.counts.get("in", 0)
        print(f"{report.stage:<10} {verdict:<28} kept {kept:,} of {seen:,}")
        for shard, error in report.quarantined.items():
            print(f"  quarantined {shard}: {error}", file=sys.stderr)
    page = request.out / "report" / "index.html"
    if "report" in request.chosen and page.exists():
        print(f"report: {page}")
    return EXIT_QUARANTINED if any(report.quarantined for report in reports) else EXIT_OK


def _plan(arguments: Sequence[str]) -> int:
    from curate.core.manifest import State
    from pipelines.run import parse_request, plan_request

    for plan in plan_request(parse_request(arguments)):
        counted = {state: list(plan.states.values()).count(state) for state in State}
        numbers = ", ".join(f"{count} {state}" for state, count in counted.items() if count)
        waits = f"waits for {plan.waits_for}" if plan.waits_for else ""
        print(
            f"{plan.stage:<10} {', '.join(filter(None, [numbers, waits])) or 'nothing known yet'}"
        )
        for reason in plan.reasons[:8]:
            print(f"           {reason}")
    return EXIT_OK


def _status(arguments: Sequence[str]) -> int:
    from pipelines.inspect import status_table

    options = _options(arguments, {"out": "out"})
    _print_table(status_table(Path(options["out"])))
    return EXIT_OK


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
        Path(options["out"]),
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
    for stage, lines in tell_story(Path(options["out"]), keys[0]):
        print(stage)
        for line in lines:
            print(f"  {line}")
    return EXIT_OK


def _config(arguments: Sequence[str]) -> int:
    from curate.core.config import to_yaml
    from pipelines.run import parse_request

    print(to_yaml(parse_request(arguments).config), end="")
    return EXIT_OK


def _doctor(arguments: Sequence[str]) -> int:
    from pipelines.doctor import examine

    options = _options(arguments, {"models": ""})
    healthy = True
    for check in examine(options["models"]):
        print(f"{'ok  ' if check.ok else 'FAIL'} {check.name:<28} {check.detail}", flush=True)
        healthy = healthy and check.ok
    return EXIT_OK if healthy else EXIT_USER


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
    "config": _config,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
