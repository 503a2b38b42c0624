"""Answer questions from a run's files: status, show, why, sweep, ledger, uids."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.core.errors import ConfigError
from curate.core.store import open_store
from pipelines.verbs.answers import EXIT_OK, print_table, read_number, read_options, shorten


def status(arguments: Sequence[str]) -> int:
    """Print how far a run is."""
    from pipelines.status import read_status

    options = read_options(arguments, {"out": "out", "watch": "0"})
    every_s = read_number(options, "watch")
    while True:
        status = read_status(open_store(options["out"]))
        print_table(status.table)
        for line in (*status.running, *(f"quarantined {text}" for text in status.quarantined)):
            print(line)
        if not every_s or not status.running:
            return EXIT_OK
        print(flush=True)
        time.sleep(every_s)


def show(arguments: Sequence[str]) -> int:
    """Print rows of a stage, a cluster of duplicates, or how buckets fill batches."""
    from pipelines.inspect import show_rows

    defaults = {"out": "out", "stage": "", "key": "", "reason": "", "cluster": "", "batch": ""}
    options = read_options(arguments, {**defaults, "limit": "10"})
    if not options["limit"].isdigit() or int(options["limit"]) < 1:
        raise ConfigError(
            f"limit: must be a whole number >= 1, got {options['limit']!r}; set limit=N"
        )
    if options["batch"]:
        return _show_batches(options)
    if options["cluster"]:
        return _show_cluster(options)
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
                print(f"  {name}: {shorten(value)}")
    return EXIT_OK


def _show_batches(options: Mapping[str, str]) -> int:
    """Print how the buckets of a run fill batches of a size."""
    from eval.report_buckets import describe_buckets, measure_buckets
    from pipelines.inspect import open_stage

    if not options["batch"].isdigit() or int(options["batch"]) < 1:
        raise ConfigError(
            f"batch: must be a whole number >= 1, got {options['batch']!r}; set batch=N"
        )
    if options["stage"] not in ("", "bucket"):
        raise ConfigError(
            f"batch: belongs to stage=bucket, got stage={options['stage']}; leave one out"
        )
    bucketed = open_stage(open_store(options["out"]), "bucket")
    tables = measure_buckets(bucketed, int(options["batch"]))
    print_table(describe_buckets(tables))
    for table in tables:
        fill = table.fill
        print(
            f"resolution {table.resolution}: {fill.num:,} samples, {fill.batches:,.1f} batches an "
            f"epoch; DropLast would lose {fill.lost_frac:.1%} and never see {len(fill.small)} of "
            f"{len(fill.buckets)} buckets"
        )
    return EXIT_OK


def _show_cluster(options: Mapping[str, str]) -> int:
    """Print a cluster: the keeper, then its duplicates."""
    from pipelines.inspect_cluster import show_cluster

    given = [name for name in ("key", "reason") if options[name]]
    if given or options["stage"] not in ("", "dedup"):
        name = given[0] if given else "stage"
        raise ConfigError(
            f"{name}: must not be set beside cluster, got {options[name]!r}; leave it out"
        )
    limit = int(options["limit"])
    view = show_cluster(open_store(options["out"]), options["cluster"], limit=limit)
    for member in view.members:
        size = f"{member.width}x{member.height}"
        caption = shorten(" ".join(member.caption.split()))
        print(f"{member.key}  {member.describe_edge():14}  {size:>11}  {caption}")
    if view.num_withheld:
        print(f"withheld by blocklist: {view.num_withheld}")
    more = view.num_members - view.num_withheld - len(view.members)
    if more:
        print(f"more: {more}; set limit=N")
    print(f"sheet: {view.sheet}")
    return EXIT_OK


def why(arguments: Sequence[str]) -> int:
    """Print one sample's whole story."""
    from pipelines.inspect import tell_story

    keys = [text for text in arguments if "=" not in text]
    if len(keys) != 1:
        raise ConfigError(f"why: needs one key, got {len(keys)}; write `curate why KEY out=DIR`")
    options = read_options([text for text in arguments if "=" in text], {"out": "out"})
    for stage, lines in tell_story(open_store(options["out"]), keys[0]):
        print(stage)
        for line in lines:
            print(f"  {line}")
    return EXIT_OK


def sweep(arguments: Sequence[str]) -> int:
    """Print how many survive each threshold."""
    from pipelines.sweep import sweep as count_survivors
    from pipelines.sweep_report import describe_sweep, write_combinations

    swept = [text for text in arguments if not text.startswith(("out=", "csv="))]
    rest = [text for text in arguments if text not in swept]
    options = read_options(rest, {"out": "out", "csv": ""})
    found = count_survivors(open_store(options["out"]), swept)
    for line in describe_sweep(found):
        print(line)
    if options["csv"]:
        write_combinations(found, Path(options["csv"]))
        print(f"all combinations: {options['csv']}")
    return EXIT_OK


def ledger(arguments: Sequence[str]) -> int:
    """Write every decision on every sample into one file."""
    from pipelines.ledger import describe_ledger, write_ledger

    options = read_options(arguments, {"out": "out", "all_rules": "false"})
    if options["all_rules"] not in ("true", "false"):
        raise ConfigError(f"all_rules: must be true or false, got {options['all_rules']!r}")
    summary = write_ledger(open_store(options["out"]), all_rules=options["all_rules"] == "true")
    for line in describe_ledger(summary):
        print(line)
    return EXIT_OK


def uids(arguments: Sequence[str]) -> int:
    """Write DataComp's uids of what was kept."""
    from pipelines.uids import write_uids

    paths = [text for text in arguments if "=" not in text]
    if len(paths) != 1:
        raise ConfigError(
            f"uids: needs one file, got {len(paths)}; write `curate uids PATH.npy out=DIR`"
        )
    rest = [text for text in arguments if "=" in text]
    options = read_options(rest, {"out": "out", "stage": "filter"})
    count = write_uids(open_store(options["out"]), options["stage"], Path(paths[0]))
    print(f"{count:,} uids in {paths[0]}")
    return EXIT_OK
